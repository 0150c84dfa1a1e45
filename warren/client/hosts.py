"""Documents, and how hosts are: status, flows, checks and traces."""

from __future__ import annotations

from collections.abc import Callable

from warren.client.calls import Call, Operation, delete, get, path, post, stated
from warren.client.results import (
    Applied,
    Cluster,
    Flow,
    FlowCheck,
    Host,
    Progress,
    Status,
    Trace,
    all_of,
)


def version() -> Operation[str]:
    """The agent's version, such as `v0.1.0`."""
    return str((yield get("/version")).get("version", ""))


def apply(
    document: str,
    *,
    prune: bool = False,
    dry_run: bool = False,
    wait_s: float = 0.0,
    progress: Callable[[Progress], object] | None = None,
) -> Operation[Applied]:
    """Make the specs equal a YAML document. `prune` deletes what its sections do not have; `dry_run` only tells the changes; `wait_s` waits
    so long (at most 50 seconds) for the hosts. With `progress`, that function is called while the agent works, and the agent ends its work when this
    client goes."""
    body = stated(prune=prune, dry_run=dry_run, wait_s=wait_s or None, progress=True if progress else None)
    report = None if progress is None else lambda data: progress(Progress.of(data))
    return Applied.of((yield Call("POST", "/apply", body | {"document": document}, progress=report)))


def export() -> Operation[str]:
    """All specs as a YAML document that `apply` takes."""
    return str((yield Call("GET", "/export", text=True)))


def hosts() -> Operation[tuple[Host, ...]]:
    """All hosts, without counts of their endpoints."""
    return all_of(Host, (yield get("/hosts")), "hosts")


def host(name: str) -> Operation[Host]:
    """One host and what its agent and controller report."""
    return (yield from find_host(name))


def find_host(name: str) -> Operation[Host]:
    """As `host`, for operations with a parameter of that name."""
    return Host.of((yield get(path("hosts", name))).get("host"))


def remove_host(name: str, *, dry_run: bool = False) -> Operation[tuple[str, ...]]:
    """Remove a host that is gone for good, with its endpoints; return what went, a line each. `dry_run` only tells."""
    return tuple(map(str, (yield delete(path("hosts", name), dry_run=dry_run or None)).get("removed", ())))


def accept_etcd() -> Operation[None]:
    """Accept what etcd holds after it was restored or emptied: hosts that hold go on, and remove what it lacks."""
    yield post("/etcd/accept", {})


def status(wait_s: float = 0.0) -> Operation[Status]:
    """All hosts; with `wait_s`, after the controllers have caught up or that many seconds (at most 50) have passed."""
    return Status.of((yield get("/status", wait_s=wait_s or None)))


def flows(host: str) -> Operation[tuple[Flow, ...]]:
    """A host's flows, with the tables' names and what each flow exists for."""
    return all_of(Flow, (yield get(path("hosts", host, "flows"))), "flows")


def check(host: str) -> Operation[FlowCheck]:
    """Compare a host's flows with what the specs call for."""
    return FlowCheck.of((yield get(path("hosts", host, "check"))))


def trace(
    src: str,
    dst: str,
    proto: str = "icmp",
    port: int | None = None,
    *,
    src_address: str | None = None,
    src_mac: str | None = None,
    dst_address: str | None = None,
) -> Operation[Trace]:
    """Follow a packet between two endpoints through the tables of both hosts, without sending it."""
    body = {"src": src, "dst": dst, "proto": proto, "port": port}
    return Trace.of((yield post("/trace", body | stated(src_address=src_address, src_mac=src_mac, dst_address=dst_address))))


def cluster() -> Operation[Cluster]:
    """The settings of the whole cluster."""
    return Cluster.of((yield get("/cluster")).get("cluster"))


def put_cluster(*, transit4: str | None = None, transit6: str | None = None, force: bool = False) -> Operation[Cluster]:
    """Change settings of the cluster; what is None stays. `force` changes transit ranges although connections to the outside break."""
    body = stated(transit4=transit4, transit6=transit6, force=force or None)
    return Cluster.of((yield post("/cluster", body)).get("cluster"))
