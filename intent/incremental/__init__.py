"""The view of one host, updated change by change. intent/recompute.py says what is right."""
