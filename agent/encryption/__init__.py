"""Encrypted tunnels to other hosts (WireGuard, IPsec), the guard against tunnel packets in clear text, and the allow list of the outside interface."""
