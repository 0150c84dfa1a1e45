"""The `warren` command: a thin client of an agent's HTTP API."""
