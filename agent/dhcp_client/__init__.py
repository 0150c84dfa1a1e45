"""DHCP clients of endpoints whose addresses a server outside leases (`dhcp: external`)."""
