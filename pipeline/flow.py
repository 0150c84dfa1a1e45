"""Flows and groups as values, with OpenFlow's OXM field names. Framework objects appear in controller/openflow/messages.py alone.

Flow(Table.CLASSIFY, 100, match(in_port=3), (Set("reg0", 100), Goto(Table.SPOOF_GUARD)), Origin("endpoint", "web-1"))
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from pipeline.tables import (
    COOKIE_MAGIC,
    FEATURES,
    GROUP_FIRST,
    GROUP_LAST,
    METER_FIRST,
    METER_LAST,
    OWNER,
    PEER_METER_LAST,
    PORT_METER_FIRST,
    Table,
)

# The value of a field: an int, text (MAC "02:57:..", address "10.0.0.1", "fd00::1"), or (value, mask) of these.
Value = int | str | tuple[int, int] | tuple[str, str]
Match = tuple[tuple[str, Value], ...]


class Origin(NamedTuple):
    """The spec object that a flow exists for."""

    kind: str
    name: str

    def __repr__(self) -> str:
        """Part of the digest of a flow: it must not change, or an upgrade would install every flow anew."""
        return f"Ref(kind={self.kind!r}, name={self.name!r})"

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


class Set(NamedTuple):
    """Set a field or register."""

    field: str
    value: int | str


class Move(NamedTuple):
    """Copy a whole field to another of the same width (NXM move)."""

    source: str
    target: str


class MoveBits(NamedTuple):
    """Copy `bits` bits of a field, from bit `start`, to another, from bit `at`."""

    source: str
    start: int
    target: str
    at: int
    bits: int


class Output(NamedTuple):
    """Send out of a port."""

    port: int


class OutputTrunc(NamedTuple):
    """Send the first `max_len` bytes out of a port (ovs-actions(7), "output(port=...,max_len=...)")."""

    port: int
    max_len: int


class OutputReg(NamedTuple):
    """Send out of the port whose number is in a register. Open vSwitch drops the packet if it came in by that port."""

    register: str


class InPort(NamedTuple):
    """Send back out of the port that the packet came in by."""


class ToGroup(NamedTuple):
    """Send the packet through a group."""

    group_id: int


class Resubmit(NamedTuple):
    """Look the packet up in another table, then continue here."""

    table: Table


class PushVlan(NamedTuple):
    """Add a VLAN tag (TPID 0x8100 or 0x88a8); a Set gives it its VLAN id."""

    tpid: int


class PopVlan(NamedTuple):
    """Remove the outer VLAN tag."""


class CheckLarger(NamedTuple):
    """Set a register to 1 if the frame is longer than `size` bytes (Ethernet header included, tags not), else to 0
    (ovs-actions(7), "check_pkt_larger")."""

    size: int
    register: str


class DecTtl(NamedTuple):
    """Decrement the TTL; drop the packet if it expires."""


class Nat(NamedTuple):
    """How a connection is translated when it is committed: its source or destination address (`end`: src, dst) and port.
    Without `end`, only packets of translated connections are translated (ovs-actions(7), "nat")."""

    end: str = ""
    address: str = ""
    port: int | None = None


class Ct(NamedTuple):
    """Track the connection in a zone. With `table` the packet goes on there, with its state known. `commit` keeps the
    connection, with `mark` and `label` if they are set, translated by `nat` (ovs-actions(7), "ct")."""

    zone: int
    table: Table | None = None
    commit: bool = False
    mark: int | None = None
    nat: Nat | None = None
    label: tuple[MoveBits, ...] = ()


class CtClear(NamedTuple):
    """Forget the packet's connection state (ovs-actions(7), "ct_clear")."""


class UseMeter(NamedTuple):
    """Pass a meter, which drops packets over its rate."""

    meter_id: int


class Conjunction(NamedTuple):
    """Clause `clause` of `clauses` (from 1) of a conjunctive match: a packet that matches all of them matches the flow with
    this conj_id."""

    conj_id: int
    clause: int
    clauses: int


class ToController(NamedTuple):
    """Send the first bytes of the packet to the controller; with WHOLE all of it (OFPCML_NO_BUFFER, OpenFlow 1.4, 7.2.4)."""

    max_len: int


WHOLE = 0xFFFF


class Goto(NamedTuple):
    """Go on in a later table."""

    table: Table


Action = (
    Set | Move | MoveBits | Output | OutputTrunc | OutputReg | InPort | ToGroup | Resubmit | PushVlan | PopVlan | CheckLarger | DecTtl | Ct | CtClear | UseMeter | Conjunction
    | ToController | Goto
)  # fmt: skip
Actions = tuple[Action, ...]


def match(**fields: Value) -> Match:
    """Match fields by their OXM names. The caller orders them by prerequisite: eth_type before fields that need it."""
    return tuple(fields.items())


# Values of ip_frag (ovs-fields(7)): of a fragmented packet, the first fragment has the ports.
FRAG_FIRST, FRAG_LATER = 1, 3
FRAG_ANY, FRAG_NOT_LATER = (1, 1), (0, 2)

# A match of these says icmpv6_code=0 as well, which such messages always have (RFC 4861, 4.3 and 4.4): where type and code are not both exact,
# ovs-vswitchd (Debian 12's, for one) leaves these fields out of what it tells the kernel, and one honest advertisement would let all others
# pass (as in CVE-2023-5366).
_ND = frozenset({"ipv6_nd_target", "ipv6_nd_sll", "ipv6_nd_tll"})


# the first 16 bits of the cookies of a table's flows
_MARKS = {table: COOKIE_MAGIC << 56 | FEATURES[owner] << 48 for table, owner in OWNER.items()}
_MISS_MARK = COOKIE_MAGIC << 56 | FEATURES["pipeline"] << 48


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow entry. Empty actions drop. `origin` is the spec object that it exists for."""

    table: Table
    priority: int
    match: Match
    actions: Actions
    origin: Origin
    cookie: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        names = [name for name, _ in self.match]
        if not _ND.isdisjoint(names) and "icmpv6_code" not in names:
            object.__setattr__(self, "match", (*self.match, ("icmpv6_code", 0)))
        mark = _MISS_MARK if self.priority == 0 else _MARKS[self.table]
        content = f"{self.table!r}, {self.priority!r}, {self.match!r}, {_text(self.actions)}, {self.origin!r}"
        object.__setattr__(self, "cookie", mark | _digest48(f"({content})"))


@dataclass(frozen=True, slots=True)
class SwitchMeter:
    """A rate limit with one drop band. `rate` and `burst` are in kb/s and kb, or in packets/s and packets."""

    meter_id: int
    rate: int
    burst: int = 0
    packets: bool = False


class Bucket(NamedTuple):
    """A bucket of a group: a copy of the packet and the actions on it."""

    actions: Actions


@dataclass(frozen=True, slots=True)
class Group:
    """A group. Of type `all`: each bucket gets a copy of the packet. With `select`: one bucket gets the packet. Its id is
    the digest of its content."""

    buckets: tuple[Bucket, ...]
    origin: Origin
    select: bool = False
    group_id: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        number = _digest48(repr((self.buckets, self.origin, "select") if self.select else (self.buckets, self.origin)))
        object.__setattr__(self, "group_id", GROUP_FIRST + number % (GROUP_LAST - GROUP_FIRST + 1))


def _digest48(text: str) -> int:
    """48 bits over the canonical text of plain values: repr of ints, strings and named tuples is stable."""
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest(), "big")


def _text(actions: Actions) -> str:
    """What `repr` returns, in a third of its time: it takes most of what a flow costs."""
    texts = [f"Set(field={a[0]!r}, value={a[1]!r})" if type(a) is Set else _action_text(a) for a in actions]
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


@lru_cache(
    maxsize=1024, typed=True
)  # few kinds of actions but Set differ from flow to flow; Output(8) and ToGroup(8) are equal tuples
def _action_text(action: Action) -> str:
    return repr(action)


def is_ours(cookie: int) -> bool:
    """Whether a cookie read from a switch is Warren's. Flows with other cookies are never touched."""
    return cookie >> 56 == COOKIE_MAGIC


def is_our_meter(meter_id: int) -> bool:
    """Whether a meter id read from a switch is Warren's."""
    return METER_FIRST <= meter_id <= METER_LAST or PORT_METER_FIRST <= meter_id <= PEER_METER_LAST


def is_our_group(group_id: int) -> bool:
    """Whether a group id read from a switch is Warren's."""
    return GROUP_FIRST <= group_id <= GROUP_LAST
