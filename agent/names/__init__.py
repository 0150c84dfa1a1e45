"""The resolver: answers the questions of this host's endpoints for names. A process of its own, which outlives the agent."""
