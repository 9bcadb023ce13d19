"""One check of a monitor: measure, hold against thresholds, record."""
