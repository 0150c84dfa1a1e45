"""The answers to DHCP and router solicitations: bytes and a lease in, bytes out. Floor 1, pure."""
