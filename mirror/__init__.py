"""Mirror sessions: what one host copies for them, and the flows and groups that do it. Pure."""
