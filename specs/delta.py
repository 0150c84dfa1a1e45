"""What a flush of the index (specs/index.py) tells the compiler."""

from __future__ import annotations

from dataclasses import dataclass

from specs.mirrors import Session
from specs.policy import PolicyKey, PolicyView
from specs.services import ServiceView
from specs.view import EndpointView, NetworkView


@dataclass(frozen=True, slots=True)
class Delta:
    """What became of the touched objects: their new view, or None where there is nothing (any more)."""

    endpoints: dict[str, EndpointView | None]
    networks: dict[str, NetworkView | None]
    policies: dict[PolicyKey, PolicyView | None]
    sessions: dict[str, Session | None]
    services: dict[str, ServiceView | None]
    tunnel: bool = False  # the tunnel port moved: everything is touched
