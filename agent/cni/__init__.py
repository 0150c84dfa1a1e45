"""The agent's side of the CNI plugin."""
