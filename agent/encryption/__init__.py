"""Encrypted tunnels to hosts of other sites: WireGuard, the namespace that it works in, and the guard against tunnel packets in clear text."""
