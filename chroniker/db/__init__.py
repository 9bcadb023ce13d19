"""Database access of the scheduler: clock, transactions, backoff, connections, histograms."""
