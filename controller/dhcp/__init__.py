"""DHCP and router advertisements: bytes and a lease in, bytes out. Pure, but for server.py."""
