"""What the scheduler needs of a database: clock, transactions, backoff, connections."""
