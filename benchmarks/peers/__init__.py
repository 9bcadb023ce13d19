"""Chroniker beside other schedulers: ``python -m benchmarks.peers``."""
