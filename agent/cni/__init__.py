"""What the CNI plugin asks of the agent."""
