"""Laboratories whose hosts are on several sites."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from specs.model.derived import link_names
from tests.e2e.conftest import World, clean, complaints_of
from tests.waiting import eventually
from tools.lab import run
from tools.lab.machine import PATIENCE
from tools.lab.plan import LabPlan

WAIT_S = 30 * PATIENCE


@contextmanager
def laboratory(plan: LabPlan) -> Iterator[World]:
    """A laboratory. At its end every host is as the specs want it, no log complains, and the namespaces of encrypted tunnels are gone."""
    run.up(plan)
    try:
        yield World(plan)
        for host in plan.hosts:
            eventually(lambda host=host: clean(host), WAIT_S)  # type: ignore[misc]
        complaints = [line for host in plan.hosts for line in complaints_of(host.directory)]
        netns = {link_names(f"{plan.name}-{host.name}", host.name).netns for host in plan.hosts}
    finally:
        run.down(plan.name)
    assert complaints == []
    assert not netns & set(run.sh("ip", "netns", "list").split())
