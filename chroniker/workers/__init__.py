"""Workers: processes that execute runs for schedulers on other machines."""
