"""DHCP: sends the questions of endpoints on networks with `dhcp: true` to the controller, which answers (controller/dhcp/).
They go no further: no server on the network sees them. On networks with `dhcp: external` they go to the server outside, past
the ACLs.

A meter per port drops a flood in the datapath, so that one endpoint's questions do not cost the others theirs.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.compiler.features.spoof import CLIENT_TO_SERVER, asks_outside
from intent.views import EndpointView
from pipeline.flow import WHOLE, Flow, Goto, Origin, SwitchMeter, ToController, UseMeter, Value, match
from pipeline.protocols import ICMPV6, IPV4, IPV6, ROUTER_SOLICITATION, UDP
from pipeline.tables import PORT_METER_FIRST, Table

QUESTION = 100
RATE, BURST = 10, 30  # packets per second; a starting client sends about ten at once


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow | SwitchMeter]:
    """The questions of one endpoint. SPOOF_GUARD has checked their senders."""
    if e.ofport is None or not (e.dhcp or e.leases):
        return
    meter, origin = SwitchMeter(PORT_METER_FIRST + e.ofport, RATE, BURST, packets=True), Origin("endpoint", e.id)
    if e.leases:
        yield meter
        onward = (UseMeter(meter.meter_id), Goto(Table.FORWARD))
        for sender in ("0.0.0.0", *((str(e.ipv4),) if e.ipv4 is not None else ())):
            question = match(reg0=e.vni, in_port=e.ofport, eth_src=e.mac, **asks_outside(sender))
            yield Flow(Table.DHCP, QUESTION, question, onward, origin)
        return
    questions: list[dict[str, Value]] = []
    if e.ipv4 is not None:
        questions.append({"eth_type": IPV4, "ip_proto": UDP, "udp_dst": CLIENT_TO_SERVER[IPV4]})
    if e.ipv6 is not None:
        questions.append({"eth_type": IPV6, "ip_proto": UDP, "udp_dst": CLIENT_TO_SERVER[IPV6]})
        questions.append({"eth_type": IPV6, "ip_proto": ICMPV6, "icmpv6_type": ROUTER_SOLICITATION})
    if questions:
        yield meter
    for fields in questions:
        shown = (UseMeter(meter.meter_id), ToController(WHOLE))
        yield Flow(Table.DHCP, QUESTION, match(reg0=e.vni, in_port=e.ofport, eth_src=e.mac, **fields), shown, origin)
