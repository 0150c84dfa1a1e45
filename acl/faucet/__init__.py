"""Reads FAUCET's faucet.yaml: ACLs, meters, and where they are used. Pure."""
