"""The public Python client of the agent's HTTP API."""
