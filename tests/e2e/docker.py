"""What tests with Docker's engines share: whatever they leave is removed, whether they fail or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.audit import settled
from tests.e2e.conftest import World
from tools.lab import run
from tools.lab.engine import LabEngine

KINDS = ("mirrors", "networks", "acls")  # referrers first


def declared(world: World) -> list[str]:
    """Everything of these kinds, as paths of the HTTP API."""
    listed = {kind: run.api(world.plan.hosts[0], "GET", f"/{kind}")[kind] for kind in KINDS}
    return [f"/{kind}/{item.get('id') or item['name']}" for kind, items in listed.items() for item in items]


def page(engine: LabEngine, container: str, url: str) -> str:
    """What a container gets from a web server, which has a file `hostname`; "" for nothing. (busybox's wget crashes when it is
    linked statically.)"""
    address, _, port = url.partition(":")
    request = f"printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} {port or 80}"
    return engine.try_docker("exec", container, "sh", "-c", request).stdout.decode()


@contextmanager
def cleaned(world: World, *engines: LabEngine) -> Iterator[None]:
    """A context after which these engines have no container and no network of Warren's, and nothing is declared that was not before (but
    meters, which the API does not delete). What Docker's driver made and did not remove is an error."""
    before = declared(world)
    try:
        yield
    finally:
        for engine in engines:
            run.start(world.plan, engine.host, "agent")
            engine.start_daemon()
            engine.clean()
        settled(world, engines)
        for path in declared(world):
            if path not in before:
                run.api(world.plan.hosts[0], "DELETE", path)
