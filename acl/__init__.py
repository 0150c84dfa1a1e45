"""FAUCET-compatible access lists (to come)."""
