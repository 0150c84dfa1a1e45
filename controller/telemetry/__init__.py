"""Counters of the switch as values, Prometheus metrics and Gauge's other sinks."""
