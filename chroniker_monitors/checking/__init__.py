"""Check a monitor: measure, evaluate, record. Importing this package loads no models or probes."""
