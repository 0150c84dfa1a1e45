"""ROUTE: packets to the gateway's MAC go out by the host, packets from the host go to the endpoint's MAC. The gateway
answers pings, and its published ports lead to the host, which leads them back to the endpoint. A network without a gateway (mode flat) has no flows here but those of its name server.

NEXT_HOP: a packet that a router routes to another network is a packet of that network from here on, and goes to its
endpoint's MAC. Packets come back from here, because the first network commits the connection with that endpoint's identity, too.
This happens at the sender's host, so the packet crosses the underlay once, with the VNI of the network that
it goes to.

MTU_CHECK: where that network has a smaller MTU, packets too large for it go to the controller, which tells the sender.

Policy comes before (ACL_IN), and after for packets to an endpoint (ACL_OUT).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from controller.compiler.features import conntrack, names, nat
from controller.compiler.features.forward import virtual_match, virtual_priority
from intent.gateway import GATEWAY_MAC, HOST_MAC, Gateway
from intent.services import ServiceView
from intent.views import EndpointView, NetworkView, VirtualView
from pipeline.flow import (
    Action,
    CheckLarger,
    Ct,
    CtClear,
    DecTtl,
    Flow,
    Goto,
    Match,
    Move,
    MoveBits,
    Origin,
    Resubmit,
    Set,
    ToController,
    Value,
    match,
)
from pipeline.protocols import ECHO, ECHO6, ECHO6_REPLY, ECHO_REPLY, ICMP, ICMPV6, IPV4, IPV6, UDP, WITH_PORTS
from pipeline.tables import (
    CT_ESTABLISHED,
    CT_INVALID,
    CT_RELATED,
    CT_REPLY,
    CT_TRACKED,
    LABEL_ORIGIN,
    LABEL_VTEP,
    ORIGIN_ANSWER,
    ORIGIN_CHOSEN,
    ORIGIN_GATEWAY,
    ORIGIN_LOCAL,
    ORIGIN_TUNNEL,
    REG_LARGE,
    REG_NETWORK,
    REG_ORIGIN,
    REG_OUTPUT,
    REG_TARGET,
    Table,
)
from pipeline.tunnels import VXLAN_UDP_PORT, to_vtep, vni_of, vtep_number
from specs.model.derived import link_local
from specs.model.router import Route

CHOSEN, PING, PUBLISHED, SHARED, RETURN, REFUSE, EXPIRED, LARGE, ACROSS, DELIVER, TUNNEL, TO_HOST, LEAVE = (
    130, 120, 116, 115, 112, 110, 108, 108, 105, 100, 95, 92, 90
)  # fmt: skip
SHOWN = {IPV4: 576, IPV6: 1280}  # the largest ICMP error, bytes (RFC 1812, 4.3.2.3; RFC 4443, 2.4)
ETHERNET = 14
WORD = 0xFFFF_FFFF
ANSWERED = CT_TRACKED | CT_ESTABLISHED | CT_REPLY
_CAME = (
    ORIGIN_TUNNEL << LABEL_ORIGIN,
    WORD << LABEL_ORIGIN,
)  # the label of a connection that came in by a service's port of another host
UNTAGGED = 0
LINK_ONLY = {
    IPV4: ("169.254.0.0/16", "224.0.0.0/4"),
    IPV6: ("fe80::/10", "ff00::/8"),
}  # RFC 3927, 5771, 4291: routers do not forward these


def network(n: NetworkView, tunnel: int | None) -> Iterator[Flow]:
    """Pings of the gateway, and the way out. A frame whose port a coprocessor has chosen is neither routed nor forwarded by
    its MAC."""
    if any(policy for _, _, policy in n.coprocessors):
        chosen = match(reg0=n.vni, reg1=ORIGIN_CHOSEN)
        yield Flow(Table.ROUTE, CHOSEN, chosen, (Goto(Table.MIRROR),), Origin("network", n.id))
    yield from names.questions(n)
    if n.gateway is None:
        return
    origin = Origin("network", n.id)
    for pinged, answer in _pings(n, n.gateway):
        yield Flow(Table.ROUTE, PING, pinged, answer, origin)
    if n.served and tunnel is not None:
        yield from _returns(n, tunnel, origin)
    for route in n.routes:
        yield from _routed(n, route)
    for eth_type in _families(n.gateway):
        expired = _leaving(n, eth_type) + match(nw_ttl=1)  # the controller tells the sender (controller/openflow/icmp.py)
        yield Flow(Table.ROUTE, EXPIRED, expired, (ToController(SHOWN[eth_type]),), origin)
    if tunnel is not None:
        yield from _to_hosts(n, tunnel, origin)
    yield from _leaves(n, n.gateway)


def _to_hosts(n: NetworkView, tunnel: int, origin: Origin) -> Iterator[Flow]:
    """To the address from which another host asks containers of a routed network, through the tunnel: where its questions came from. By this
    host, the answer would meet a connection tracking, a filter and a path that have not seen the question."""
    for address, vtep in n.host_paths:
        eth_type = IPV6 if ":" in address else IPV4
        if n.gateway is not None and eth_type in _families(n.gateway):
            macs = Set("eth_src", GATEWAY_MAC), Set("eth_dst", HOST_MAC)
            away = (DecTtl(), *macs, Set("tunnel_id", vni_of(n.vni)), to_vtep(vtep), Set(REG_OUTPUT, tunnel), Goto(Table.COMMIT))
            yield Flow(Table.ROUTE, TO_HOST, _leaving(n, eth_type, "dst", address), away, origin)


def _leaves(n: NetworkView, gateway: Gateway) -> Iterator[Flow]:
    """The way out by the host, but not to neighbours and addresses of the link."""
    if gateway.uplink is None:
        return
    origin = Origin("network", n.id)
    for prefix in map(ip_network, n.ranges):
        yield from _refusals(n, prefix, origin)
    for address, eth_type, name in ((gateway.ipv4, IPV4, "ipv4_src"), (gateway.ipv6, IPV6, "ipv6_src")):
        if address is not None:  # looked up again with a port that FORWARD replaces: no other register is free here
            answer = match(reg0=n.vni, reg1=ORIGIN_GATEWAY, reg2=0, eth_type=eth_type, **{name: str(address.ip)})
            state = match(ct_state=(ANSWERED, ANSWERED | CT_INVALID)) if gateway.nat else ()
            passes = Set(REG_OUTPUT, gateway.uplink), Resubmit(Table.ROUTE)
            yield Flow(Table.ROUTE, RETURN, state + answer, passes, origin)
    out = (DecTtl(), *_to_host(gateway, gateway.uplink))
    for eth_type in _families(gateway):
        for local in LINK_ONLY[eth_type]:
            yield Flow(Table.ROUTE, REFUSE, _leaving(n, eth_type, "dst", local), (), origin)
        for packet in _encapsulated(n, eth_type):
            yield Flow(Table.ROUTE, TUNNEL, packet, (), origin)
        yield Flow(Table.ROUTE, LEAVE, _leaving(n, eth_type), out, origin)


def _to_host(gateway: Gateway, uplink: int) -> tuple[Action, ...]:
    """The actions that send a packet to the host."""
    table = Table.SNAT if gateway.nat else Table.COMMIT
    return Set("eth_src", GATEWAY_MAC), Set("eth_dst", HOST_MAC), Set(REG_OUTPUT, uplink), Goto(table)


def _families(gateway: Gateway) -> tuple[int, ...]:
    """The Ethernet types that the gateway has an address for."""
    both = ((IPV4, gateway.ipv4), (IPV6, gateway.ipv6))
    return tuple(eth_type for eth_type, address in both if address is not None)


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow]:
    """From another network to an endpoint; from the host to an endpoint here, or on another host where addresses are not
    translated; and the ports that it publishes at the gateway."""
    for way in e.published:
        if way.everywhere and e.gateway is not None:
            addresses = (e.ipv4, e.ipv6)
            yield from _at_gateway(e.vni, e.gateway, way.proto, way.host_port, addresses, PUBLISHED, Origin("endpoint", e.id))
    if e.routed:
        for eth_type, name, address in ((IPV4, "ipv4_dst", e.ipv4), (IPV6, "ipv6_dst", e.ipv6)):
            if address is not None:
                fields: dict[str, Value] = {"eth_type": eth_type, name: str(address)}
                reached = (Set("eth_dst", e.mac), Set(REG_TARGET, e.identity))
                yield Flow(Table.NEXT_HOP, DELIVER, match(reg0=e.vni, **fields), reached, Origin("endpoint", e.id))
    if e.gateway is None or e.gateway.uplink is None or (e.ofport is None and e.gateway.nat and not e.served):
        return
    crossing = e.ofport is None and e.gateway.nat  # to a member of a service: nat.crosses recognises it by the host's MAC
    for eth_type, name, address in ((IPV4, "ipv4_dst", e.ipv4), (IPV6, "ipv6_dst", e.ipv6)):
        if address is not None:
            came: dict[str, Value] = {"eth_type": eth_type, name: str(address)}
            away = () if e.ofport is not None or crossing else (Set(REG_ORIGIN, ORIGIN_LOCAL),)
            sender = HOST_MAC if crossing else GATEWAY_MAC
            actions = (DecTtl(), Set("eth_src", sender), Set("eth_dst", e.mac), *away, Goto(Table.FORWARD))
            yield Flow(Table.ROUTE, DELIVER, match(reg0=e.vni, reg1=ORIGIN_GATEWAY, **came), actions, Origin("endpoint", e.id))


def service(s: ServiceView) -> Iterator[Flow]:
    """A service's port at the gateway. A port that an endpoint publishes itself is that endpoint's."""
    yield from _at_gateway(s.vni, s.gateway, s.proto, s.host_port, (s.members4, s.members6), SHARED, Origin("service", s.name))


def _at_gateway(
    vni: int, gateway: Gateway, proto: str, port: int, targets: tuple[object, object], priority: int, origin: Origin
) -> Iterator[Flow]:
    """From containers of a network to a published port of its gateway, for the versions of IP that it has `targets` for: to the host, whose
    nftables lead it back to the target (agent/gateway/rules.py), as a packet to an address of the host."""
    if gateway.uplink is None:
        return
    for target, eth_type, name, address in zip(
        targets, (IPV4, IPV6), ("ipv4_dst", "ipv6_dst"), (gateway.ipv4, gateway.ipv6), strict=True
    ):
        if target and address is not None:
            to: dict[str, Value] = {
                "eth_type": eth_type,
                name: str(address.ip),
                "ip_proto": WITH_PORTS[proto],
                f"{proto}_dst": port,
            }
            packet = match(reg0=vni, reg1=ORIGIN_LOCAL, eth_dst=GATEWAY_MAC, vlan_vid=UNTAGGED, **to)
            yield Flow(Table.ROUTE, priority, packet, _to_host(gateway, gateway.uplink), origin)


def virtual(v: VirtualView, tunnel: int | None) -> Iterator[Flow]:
    """From another network, or from the host, to a virtual address: to the MAC that it has. If several endpoints may have it with their own,
    the packet keeps the gateway's, with which FORWARD copies it to all of them."""
    if not v.led_to:
        return
    origin, priority = Origin("virtual", v.value), virtual_priority(v, DELIVER)
    reached = match(reg0=v.vni) + virtual_match(v)
    to_holder = Set("eth_dst", v.macs[0] if len(v.macs) == 1 else GATEWAY_MAC)
    if v.routed:
        yield Flow(Table.NEXT_HOP, priority, reached, (to_holder,), origin)
    if v.gateway is not None and v.gateway.uplink is not None:
        local = (
            () if v.gateway.nat else (Set(REG_ORIGIN, ORIGIN_LOCAL),)
        )  # only here the host knows the translation of an address
        actions = (DecTtl(), Set("eth_src", GATEWAY_MAC), *local, to_holder, Goto(Table.FORWARD))
        yield Flow(Table.ROUTE, priority, match(reg1=ORIGIN_GATEWAY) + reached, actions, origin)


def _returns(n: NetworkView, tunnel: int, origin: Origin) -> Iterator[Flow]:
    """Replies, and ICMP errors, of connections that came in by a service's port of another host: back to that host."""
    reply, error = ANSWERED, CT_TRACKED | CT_RELATED
    for eth_type in (IPV4, IPV6):
        for packet in _encapsulated(n, eth_type):  # a client may ask from a tunnel's port, with a host's address
            yield Flow(Table.ROUTE, RETURN + 1, match(ct_state=(reply, reply | CT_INVALID), ct_label=_CAME) + packet, (), origin)
        for label, to_origin in _origins(n):
            back = (
                DecTtl(),
                Set("eth_src", GATEWAY_MAC),
                Set("eth_dst", HOST_MAC),
                Set("tunnel_id", vni_of(n.vni)),
                to_origin,
                Set(REG_OUTPUT, tunnel),
                Goto(Table.OUTPUT),
            )
            for bits in (reply, error):
                state = match(ct_state=(bits, bits | CT_INVALID), ct_label=label)
                yield Flow(Table.ROUTE, RETURN, state + _leaving(n, eth_type), back, origin)


def _origins(n: NetworkView) -> Iterator[tuple[tuple[int, int], Action]]:
    """The labels of connections that came in by a service's port of another host, and the action that leads back there."""
    if not nat.over_ipv6(n):
        yield _CAME, MoveBits("ct_label", LABEL_VTEP, "tun_ipv4_dst", 0, 32)
        return
    value, mask = _CAME
    for vtep in n.host_vteps:
        yield (value | vtep_number(vtep) << LABEL_VTEP, mask | WORD << LABEL_VTEP), to_vtep(vtep)


def _encapsulated(n: NetworkView, eth_type: int) -> Iterator[Match]:
    """Datagrams to the port of the profile `default`. Outside, a host would take them for packets of another host: they would be in any
    network. Of a fragmented datagram only the first fragment matches, and without it the others are nothing."""
    yield _leaving(n, eth_type) + match(ip_proto=UDP, udp_dst=VXLAN_UDP_PORT)


def tunnel_port(port: int) -> Iterator[Flow]:
    """The same for the UDP port of another profile, in all networks."""
    origin, reply = Origin("pipeline", f"tunnel-port-{port}"), CT_TRACKED | CT_ESTABLISHED | CT_REPLY
    for eth_type in (IPV4, IPV6):
        to_port = match(reg1=ORIGIN_LOCAL, eth_dst=GATEWAY_MAC, vlan_vid=UNTAGGED, eth_type=eth_type, ip_proto=UDP, udp_dst=port)
        yield Flow(Table.ROUTE, TUNNEL, to_port, (), origin)
        yield Flow(Table.ROUTE, RETURN + 1, match(ct_state=(reply, reply | CT_INVALID), ct_label=_CAME) + to_port, (), origin)


def _routed(n: NetworkView, route: Route) -> Iterator[Flow]:
    """To another network. Both networks keep the connection if they track connections, because each sees the replies in its
    own zone."""
    origin, gateway = Origin("router", route.router), Origin("network", n.id)
    across: tuple[Action, ...] = (DecTtl(), Set("eth_src", GATEWAY_MAC), Set(REG_NETWORK, route.vni), Resubmit(Table.NEXT_HOP))
    onward: tuple[Action, ...] = (Goto(Table.FORWARD),)
    if route.zone:
        onward = (Ct(route.zone, table=Table.FORWARD),)
    elif n.zone:
        onward = (CtClear(), *onward)
    table = Table.MTU_CHECK if route.mtu else Table.ROUTE
    fits = match(**{REG_LARGE: 0}) if route.mtu else ()
    for prefix in map(ip_network, route.ranges):
        eth_type = IPV4 if prefix.version == 4 else IPV6
        crossing = _leaving(n, eth_type, "dst", str(prefix))
        if route.mtu:
            check = (CheckLarger(ETHERNET + route.mtu, REG_LARGE), Goto(Table.MTU_CHECK))
            yield Flow(Table.ROUTE, ACROSS, crossing, check, origin)
            yield Flow(Table.MTU_CHECK, LARGE, match(**{REG_LARGE: 1}) + crossing, (ToController(SHOWN[eth_type]),), gateway)
        yield Flow(table, ACROSS, fits + crossing, (*across, *onward), origin)
        for state, related, keep in conntrack.kept(n.zone) if n.zone else ():
            yield Flow(table, ACROSS + 1, match(**state, reg3=related) + fits + crossing, (*across, keep, *onward), origin)


def _leaving(n: NetworkView, eth_type: int, end: str = "", prefix: str = "") -> Match:
    network = ip_network(prefix) if prefix else None
    version = 4 if eth_type == IPV4 else 6
    at_end: dict[str, Value] = {f"ipv{version}_{end}": _masked(network)} if network is not None else {}
    return match(reg0=n.vni, reg1=ORIGIN_LOCAL, eth_dst=GATEWAY_MAC, vlan_vid=UNTAGGED, eth_type=eth_type, **at_end)


def _refusals(n: NetworkView, prefix: object, origin: Origin) -> Iterator[Flow]:
    """Neighbours are reached directly, not by the gateway; and no neighbour is outside, so such senders are forged, except the gateway's address:
    the host answers from it for published ports (`_at_gateway`)."""
    network = ip_network(str(prefix))
    eth_type, version = (IPV4, 4) if network.version == 4 else (IPV6, 6)
    yield Flow(Table.ROUTE, REFUSE, _leaving(n, eth_type, "dst", str(network)), (), origin)
    forged: dict[str, Value] = {"eth_type": eth_type, f"ipv{version}_src": _masked(network)}
    yield Flow(Table.ROUTE, REFUSE, match(reg0=n.vni, reg1=ORIGIN_GATEWAY, reg2=0, **forged), (), origin)


def _masked(network: object) -> Value:
    """The value of a match on a range; of a single address without a mask, as the switch dumps it."""
    prefix = ip_network(str(network))
    address = str(prefix.network_address)
    return address if prefix.prefixlen == prefix.max_prefixlen else (address, str(prefix.netmask))


def _pings(n: NetworkView, gateway: Gateway) -> Iterator[tuple[Match, tuple[Action, ...]]]:
    addresses = [address.ip for address in (gateway.ipv4, gateway.ipv6) if address is not None]
    addresses += [link_local(GATEWAY_MAC)] if gateway.ipv6 is not None else []
    for address in (*addresses, *(ip_address(gateway_address) for route in n.routes for gateway_address in route.gateways)):
        yield _ping(n, address), _pong(address)


def _ping(n: NetworkView, address: IPv4Address | IPv6Address) -> Match:
    echo = match(reg0=n.vni, reg1=ORIGIN_LOCAL, eth_dst=GATEWAY_MAC, vlan_vid=UNTAGGED)
    if address.version == 4:
        return echo + match(eth_type=IPV4, ip_proto=ICMP, ipv4_dst=str(address), icmpv4_type=ECHO)
    return echo + match(eth_type=IPV6, ip_proto=ICMPV6, ipv6_dst=str(address), icmpv6_type=ECHO6)


def _pong(address: IPv4Address | IPv6Address) -> tuple[Action, ...]:
    version, kind, reply = (4, "icmpv4_type", ECHO_REPLY) if address.version == 4 else (6, "icmpv6_type", ECHO6_REPLY)
    return (
        Move("eth_src", "eth_dst"),
        Set("eth_src", GATEWAY_MAC),
        Move(f"ipv{version}_src", f"ipv{version}_dst"),
        Set(f"ipv{version}_src", str(address)),
        Set(kind, reply),
        Set("nw_ttl", 64),
        Set(REG_ORIGIN, ORIGIN_ANSWER),
        Goto(Table.MIRROR),
    )
