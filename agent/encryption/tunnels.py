"""The parts that all ciphers share: their plan, the state of their tunnels, the drivers' protocol, and the loop that repairs what differs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from intent.sites import EncryptedPair
from specs.model.derived import LinkNames
from specs.model.host import Host

ROUNDS = 8  # repairs that each make the next one possible
SECRETS_S = 6.0  # how often the secrets of pairs are read from etcd

Deviation = tuple[str, str]  # what is to be repaired, and a phrase that says what is wrong
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelPlan:
    """The task of a cipher on the host `local`: its pairs and their secrets, by peer; `ports` are the UDP ports of its profiles, where another
    cipher is in use beside it."""

    names: LinkNames
    local: Host
    pairs: Mapping[str, EncryptedPair]
    secrets: Mapping[str, str] = field(repr=False)
    ports: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTunnel:
    """The state of the tunnel to a peer: why it is down, seconds since the keys were agreed upon, bytes received and sent."""

    reason: str | None = None
    age_s: int | None = None
    received: int = 0
    sent: int = 0


class TunnelDriver(Protocol):
    """Reconciles the tunnels of one cipher. All methods raise `WarrenError`."""

    def differences(self, plan: TunnelPlan) -> list[str]:
        """Return how this host differs from the plan."""

    def reconcile(self, plan: TunnelPlan, silent: Collection[str]) -> Mapping[str, PairTunnel]:
        """Repair what differs; return the tunnels by peer. `silent` peers send nothing, though their tunnels seem to be up."""

    def remove(self) -> None:
        """Remove everything that the cipher has made."""


def converge(read: Callable[[], R], differ: Callable[[R], Sequence[Deviation]], repair: Callable[[str, R], None]) -> R:
    """Read and repair, until nothing differs or `ROUNDS` repairs did not help; return the last reading."""
    for _ in range(ROUNDS):
        reading = read()
        parts = dict.fromkeys(part for part, _ in differ(reading))
        if not parts:
            break
        for part in parts:
            repair(part, reading)
    return reading
