"""Linux: veth pairs, network namespaces, TAP interfaces."""
