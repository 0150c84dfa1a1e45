"""The host's side of gateways: the interface to them, routes, IP forwarding, one nftables table, published ports, and other firewalls."""
