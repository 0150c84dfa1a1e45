"""The last answers of one switch as values, from which Prometheus and the other sinks are served: a scrape asks no switch.
Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Numbers(NamedTuple):
    """The counters of a port (OFPPortStats)."""

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_dropped: int
    tx_dropped: int
    rx_errors: int
    tx_errors: int


class MeterNumbers(NamedTuple):
    """The counters of a meter and its band."""

    flow_count: int
    packet_in_count: int
    byte_in_count: int
    packet_band_count: int
    byte_band_count: int


class PortState(NamedTuple):
    """A port's name, its state bits (OFPPS_*), its speeds in kb/s, the reason of its last change (OFPPR_*), and whether it
    is up."""

    name: str
    state: int
    curr_speed: int
    max_speed: int
    reason: int = 0
    up: bool = True


class Description(NamedTuple):
    """The switch's description of itself (OFPDescStats)."""

    mfr_desc: str
    hw_desc: str
    sw_desc: str
    serial_num: str
    dp_desc: str


class Place(NamedTuple):
    """The network and endpoint of a port, and the network's tenant."""

    network: str
    endpoint: str
    tenant: str = "default"


@dataclass(slots=True)
class Polled:
    """The last answers of one switch. `rules`, `drops`, `groups`, `networks` are totals by ACL#NUMBER, table, KIND/NAME of the
    spec, and network; those of networks are rx and tx packets, rx and tx bytes, the others packets and bytes."""

    dpid: int = 0
    name: str = ""
    connected: bool = False
    description: Description | None = None
    ports: dict[int, Numbers] = field(default_factory=dict)
    states: dict[int, PortState] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)
    meters: dict[int, MeterNumbers] = field(default_factory=dict)
    rules: dict[str, tuple[int, ...]] = field(default_factory=dict)
    drops: dict[str, tuple[int, ...]] = field(default_factory=dict)
    spoofed: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by NETWORK/ENDPOINT
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict)
    networks: dict[str, tuple[int, ...]] = field(default_factory=dict)
