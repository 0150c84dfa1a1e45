"""Mirror sessions (to come)."""
