"""Intent to flows: pure functions of a host's view, and explanations of what the switch says."""
