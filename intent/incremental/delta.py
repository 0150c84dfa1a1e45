"""What `Index.flush` hands to the compiler."""

from __future__ import annotations

from dataclasses import dataclass

from acl.policy import PolicyKey, PolicyView
from intent.services import ServiceView
from intent.views import EndpointView, NetworkView, VirtualView
from intent.virtual import Key
from mirror.sessions import MirrorSession


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The touched objects: their new views, or None where there is none any more."""

    peers: dict[str, str | None]  # VTEPs of other hosts
    endpoints: dict[str, EndpointView | None]
    networks: dict[str, NetworkView | None]
    policies: dict[PolicyKey, PolicyView | None]
    sessions: dict[str, MirrorSession | None]
    services: dict[str, ServiceView | None]
    virtuals: dict[Key, VirtualView | None]
    tunnels: frozenset[int] = (
        frozenset()
    )  # profiles (their numbers) whose port to other hosts has changed: all of their networks is touched
    tunnel_ports: frozenset[int] = frozenset()  # UDP ports that came or went
