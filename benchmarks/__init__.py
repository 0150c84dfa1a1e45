"""Measurements: `python -m benchmarks` (or `make bench`) prints a table and keeps a JSON. Nothing here runs in the tests."""
