"""The table list, and all registers, group ids and reserved numbers of the pipeline.

To add a table: give it an id between its neighbours, name its owner (the feature, a module of
controller/compiler/features/), say what a miss does, and add a section to docs/pipeline.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import cache

# Tables whose names have changed: the digests of flows keep the older ones, or an upgrade would install every flow of these tables anew.
_NAMES_IN_DIGESTS = {4: "SPOOF", 29: "FIT", 30: "NEIGHBOUR"}


class Table(IntEnum):
    """OpenFlow table ids; packets only move to a higher one."""

    CLASSIFY = 0
    TUNNEL_GUARD = 2
    SPOOF_GUARD = 4
    ARP = 8
    DHCP = 12
    CONNTRACK = 16
    DNAT = 20
    ACL_IN = 24
    ROUTE = 28
    MTU_CHECK = 29
    NEXT_HOP = 30
    SNAT = 32
    FORWARD = 36
    FLOOD = 40
    ACL_OUT = 44
    COMMIT = 46
    MIRROR = 48
    OUTPUT = 52
    COPY = 60  # a subroutine: packets go there and come back

    def __repr__(self) -> str:
        """Part of the digest of a flow: it must not change (pipeline/flow.py)."""
        return _TEXTS[self]


_TEXTS = {table: f"<Table.{_NAMES_IN_DIGESTS.get(table.value, table.name)}: {table.value}>" for table in Table}


class Miss(Enum):
    """What happens to a packet that no flow of a table matches."""

    DROP = "drop"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table. Its owner is the one feature that may put flows there. Packets reach a `subroutine` only by an action that
    names it: it is no table's next."""

    table: Table
    owner: str
    miss: Miss
    subroutine: bool = False


TABLES: tuple[TableSpec, ...] = (
    TableSpec(Table.CLASSIFY, "classify", Miss.DROP),
    TableSpec(Table.TUNNEL_GUARD, "guard", Miss.DROP, subroutine=True),
    TableSpec(Table.SPOOF_GUARD, "spoof", Miss.DROP),
    TableSpec(Table.ARP, "arp", Miss.NEXT),
    TableSpec(Table.DHCP, "dhcp", Miss.NEXT),
    TableSpec(Table.CONNTRACK, "conntrack", Miss.NEXT),
    TableSpec(Table.DNAT, "nat", Miss.NEXT),
    TableSpec(Table.ACL_IN, "acl", Miss.NEXT),
    TableSpec(Table.ROUTE, "route", Miss.NEXT),
    TableSpec(Table.MTU_CHECK, "route", Miss.DROP, subroutine=True),
    TableSpec(Table.NEXT_HOP, "route", Miss.DROP, subroutine=True),
    TableSpec(Table.SNAT, "nat", Miss.NEXT),
    TableSpec(Table.FORWARD, "forward", Miss.DROP),
    TableSpec(Table.FLOOD, "flood", Miss.DROP),
    TableSpec(Table.ACL_OUT, "acl", Miss.NEXT),
    TableSpec(Table.COMMIT, "conntrack", Miss.NEXT),
    TableSpec(Table.MIRROR, "mirror", Miss.NEXT),
    TableSpec(Table.OUTPUT, "output", Miss.DROP),
    TableSpec(Table.COPY, "mirror", Miss.DROP, subroutine=True),
)

OWNER: dict[Table, str] = {spec.table: spec.owner for spec in TABLES}


@cache
def after(table: Table) -> Table:
    """The table that follows another one."""
    return next(spec.table for spec in TABLES if spec.table > table and not spec.subroutine)


# Registers (OVS NXM_NX_REGn). A packet carries these from CLASSIFY on.
REG_NETWORK = "reg0"  # the VNI of the packet's network; nothing matches an address without it
REG_ORIGIN = "reg1"  # where the packet entered this host
REG_OUTPUT = "reg2"  # the OpenFlow port by which the packet leaves; 0 = none

REG_RELATED = "reg3"  # 1: replies to this packet's connection come back whatever the ACLs say
REG_COPY = "reg4"  # in COPY: the mirror session and the direction; 0 = none
REG_LARGE = "reg5"  # 1: the packet is too large for the network that a router leads it to, or for neighbour discovery
REG_VTEP = "reg6"  # the number of the VTEP that a packet of a service comes from (pipeline/tunnels.py)
REG_SOURCE = "reg8"  # the identity of the endpoint that sent the packet (intent/identity.py); 0 = not known
REG_TARGET = "reg9"  # the identity of the endpoint that it goes to; 0 = not known, or several
POLICY = "metadata"  # the policy that decides next: what a port may send, later what it may receive; 0 = none

ORIGIN_LOCAL = 0
ORIGIN_TUNNEL = 1
ORIGIN_GATEWAY = 3  # by the port to the host: it comes from outside, or from the host itself
ORIGIN_CHOSEN = 4  # a coprocessor has chosen the port by which it leaves
ORIGIN_ANSWER = 2  # made here, in the ARP table: it goes back to the port that asked

# Tunnel probes: no network has their VNI; the switch at the other end sends them back without its controller.
PROBE_VNI = 0
PROBE_MAC, ANSWER_MAC = "02:57:00:00:00:01", "02:57:00:00:00:02"  # destinations, on the way there and on the way back
PROBE_BYTES = 64  # of an answer, sent to the controller

# Groups carry no cookie: their id is the digest of their content, in this range (strangers' ids are below it).
GROUP_FIRST = 0x1000_0000
GROUP_LAST = 0xFEFF_FFFF
GROUP_BUCKETS = 512  # a group message must fit 64 KiB; more buckets make more groups

# Meters carry no cookie either: the spec's meter_id (1..METERS) becomes METER_FIRST + meter_id - 1.
METER_FIRST = 0x8000
METER_LAST = 0xFFFF
METERS = METER_LAST - METER_FIRST + 1
PORT_METER_FIRST = 0x1_0000  # the meter of a port's questions to the controller: PORT_METER_FIRST + ofport
PORT_METER_LAST = 0x1_FFFF
PEER_METER_FIRST = 0x2_0000  # the meter of another host's probes: PEER_METER_FIRST + the last 16 bits of its VTEP
PEER_METER_LAST = 0x2_FFFF

# OpenFlow ports: those of endpoints, and two of the bridge itself. They are requested; OVS may assign others, so read them back.
OFPORT_FIRST, OFPORT_LAST = 1, 65_279  # OFPP_MAX is 0xff00 (OpenFlow 1.4, 7.2.1)
TUNNEL_OFPORT, UPLINK_OFPORT = OFPORT_LAST, OFPORT_LAST - 1  # the port to other hosts, and the one to this host
RESOLVER_PORT = "warren-dns"  # the interface to this host's resolver (agent/names/); any OpenFlow port will do
ENDPOINT_OFPORT_LAST = UPLINK_OFPORT - 1  # of those that Warren allocates

# Connection tracking: a zone per network (see intent/views.py), and one mark.
MARK_RELATED = 1
# The label of a connection that came in by another host's port: the number of that host's VTEP, and above it how it came (ORIGIN_TUNNEL).
LABEL_VTEP, LABEL_ORIGIN = 0, 32  # first bits of 32
# Above them the identities of the endpoints at both ends, so that the connections of one that is gone are told from those of its address's next holder.
LABEL_SOURCE, LABEL_TARGET = 64, 96
CT_NEW, CT_ESTABLISHED, CT_RELATED, CT_REPLY, CT_INVALID, CT_TRACKED = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

# Cookies: magic 8 bits, feature 8 bits, digest 48 bits.
COOKIE_MAGIC = 0x57
FEATURES: dict[str, int] = {
    "pipeline": 1,
    "classify": 2,
    "spoof": 3,
    "arp": 4,
    "forward": 5,
    "flood": 6,
    "output": 7,
    "conntrack": 8,
    "acl": 9,
    "route": 10,
    "nat": 11,
    "mirror": 12,
    "guard": 14,
    "dhcp": 20,
}
