"""Which host this machine is, and whether the agent may act as that host."""
