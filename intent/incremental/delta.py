"""What a flush of the index (intent/incremental/index.py) tells the compiler."""

from __future__ import annotations

from dataclasses import dataclass

from acl.policy import PolicyKey, PolicyView
from intent.views import EndpointView, NetworkView
from specs.model.mirror import Session
from specs.model.service import ServiceView


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What became of the touched objects: their new view, or None where there is nothing (any more)."""

    endpoints: dict[str, EndpointView | None]
    networks: dict[str, NetworkView | None]
    policies: dict[PolicyKey, PolicyView | None]
    sessions: dict[str, Session | None]
    services: dict[str, ServiceView | None]
    tunnel: bool = False  # the tunnel port moved: everything is touched
