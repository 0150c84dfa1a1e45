"""Ryu's or os-ken's packet library, which the tests ask what their bytes mean."""

from controller.framework import RYU

if RYU:
    from ryu.lib.packet import dhcp, dhcp6, ethernet, icmp, icmpv6, ipv4, ipv6, packet, packet_utils, udp
else:
    from os_ken.lib.packet import dhcp, dhcp6, ethernet, icmp, icmpv6, ipv4, ipv6, packet, packet_utils, udp

__all__ = ["dhcp", "dhcp6", "ethernet", "icmp", "icmpv6", "ipv4", "ipv6", "packet", "packet_utils", "udp"]
