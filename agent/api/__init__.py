"""The agent's HTTP API: SAND's routes, Warren's own, and the live page."""
