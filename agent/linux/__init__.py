"""Speaks to Linux: interfaces, namespaces, routes, nftables, connection tracking, WireGuard, charon, processes."""
