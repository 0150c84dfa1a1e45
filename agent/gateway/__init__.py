"""The host's side of gateways: the interface to the host, forwarding, one nftables table, conntrack limits."""
