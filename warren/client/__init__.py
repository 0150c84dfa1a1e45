"""The public Python client of the agent's HTTP API: `Client` blocks, `AsyncClient` is for asyncio. docs/client.md shows how to use them.

    from warren.client import Client

    with Client("unix:///run/warren/agent.sock") as agent:
        for endpoint in agent.endpoints(network="amber", states=True):
            print(endpoint.name, endpoint.ipv4, endpoint.state)

It imports nothing else of Warren. Against an agent of SAND 1.0.3 the calls about networks, endpoints, `version` and `connect` work; the
others raise `NotFound`.
"""

from typing import TYPE_CHECKING, Any

from warren.client.agents import DEFAULT_URL, tls_context
from warren.client.errors import (
    AgentUnreachable,
    Conflict,
    Error,
    Exhausted,
    Invalid,
    LeaseExpired,
    NoAnswer,
    NotFound,
    Refused,
    Unavailable,
)
from warren.client.profiles import Profile
from warren.client.results import (
    Acl,
    AclCheck,
    AclList,
    AclRule,
    AclSummary,
    AllowedAddress,
    Applied,
    CaptureCounts,
    Change,
    Cluster,
    Decision,
    Endpoint,
    Flow,
    FlowCheck,
    Host,
    Meter,
    Mirror,
    Network,
    PairChange,
    Progress,
    PublishedPort,
    Router,
    Service,
    Status,
    Trace,
    Tunnels,
)
from warren.client.routing import Tenant
from warren.client.sync import Capture, Client

if TYPE_CHECKING:
    from warren.client.asynchronous import AsyncCapture, AsyncClient

__all__ = [
    "DEFAULT_URL", "Acl", "AclCheck", "AclList", "AclRule", "AclSummary", "AgentUnreachable", "AllowedAddress", "Applied", "AsyncCapture", "AsyncClient",
    "Capture", "CaptureCounts", "Change", "Client", "Cluster", "Conflict", "Decision", "Endpoint", "Error", "Exhausted", "Flow", "FlowCheck", "Host",
    "Invalid", "LeaseExpired", "Meter", "Mirror", "Network", "NoAnswer", "NotFound", "PairChange", "Profile", "Progress", "PublishedPort", "Refused",
    "Router", "Service", "Status", "Tenant", "Trace", "Tunnels", "Unavailable", "tls_context",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the asyncio client at its first use: the command line starts faster without it."""
    if name in ("AsyncCapture", "AsyncClient"):
        from warren.client import asynchronous

        return getattr(asynchronous, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
