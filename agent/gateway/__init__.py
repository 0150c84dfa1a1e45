"""The host's side of gateways: the interface to the host, IP forwarding, one nftables table, conntrack limits."""
