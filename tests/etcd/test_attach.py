"""An attach makes the veth pair while etcd writes the record; what happens to the pair when the record becomes another one, or none."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from agent.endpoints.endpoints import Endpoints
from agent.endpoints.plugging import Plugging
from agent.endpoints.repairs import Repairs
from agent.endpoints.request import EndpointCreate
from agent.exclusive import Exclusive
from agent.linux import names, netns
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.snapshot import Snapshot
from specs.store.etcd import Store
from specs.store.repository import Repository
from tests.netns.test_veth import ip
from warren.errors import Unavailable


class Host:
    """An agent's endpoints on a host that is a namespace, with etcd; Open vSwitch and controller are played."""

    def __init__(self, name: str, store: Store) -> None:
        self.name, self.store, self.specs = name, store, Repository(store)
        self.network, _ = self.specs.create_network({"name": "blue", "ip_range": "10.7.0.0/24"})
        self.ports: dict[str, str] = {}  # interface -> endpoint id
        view = SimpleNamespace(snapshot=Snapshot(networks={self.network.id: self.network}), local_endpoints={})
        up = SimpleNamespace(state="up")
        self.cache: Any = SimpleNamespace(
            view=view,
            require_permission=lambda: None,
            states=SimpleNamespace(wait=lambda *_: up),
            synced=SimpleNamespace(is_set=lambda: True),
        )
        self.ovsdb: Any = SimpleNamespace(
            connected=True,
            observed=lambda: SimpleNamespace(bridge=lambda _: SimpleNamespace(datapath_type="netdev")),
            add_port=self._add_port,
            del_port=lambda port, *_: self.ports.pop(port, None),
            endpoint_ports=dict,
            port=lambda _: None,
        )
        exclusive = Exclusive()
        kept: Any = SimpleNamespace(ensure=lambda _: None)
        self.plugging = Plugging("h1", "br", self.ovsdb, self.cache, kept, SimpleNamespace())  # type: ignore[arg-type]
        self.endpoints = Endpoints(
            "h1", repository=self.specs, ovsdb=self.ovsdb, cache=self.cache, plugging=self.plugging,
            preallocated=SimpleNamespace(take=lambda _: None), kept=kept, leaving=(), exclusive=exclusive, attach_timeout_s=1,  # type: ignore[arg-type]
        )  # fmt: skip
        self.repairs = Repairs(
            repository=self.specs, ovsdb=self.ovsdb, cache=self.cache, plugging=self.plugging, exclusive=exclusive, orphaned={}
        )

    def _add_port(self, bridge: str, interface: str, ofport: int, endpoint_id: str) -> None:
        assert self.store.get(f"spec/endpoints/{self.network.id}/{endpoint_id}") is not None, "a port comes after the record"
        self.ports[interface] = endpoint_id

    def attach(self, container: str) -> Endpoint:
        request = EndpointCreate(network_id=self.network.id, ns_handle_path=container)
        return netns.inside(self.name, lambda: self.endpoints.attach(request))[0]

    def veths(self) -> list[str]:
        return netns.inside(self.name, lambda: list(names.veths()))

    def before_each_write(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
        """Act between the plan of a transaction and its commit, once."""
        commit, waiting = self.specs.commit, [act]

        def commits(*arguments: Any) -> Any:
            while waiting:
                waiting.pop()()
            return commit(*arguments)

        monkeypatch.setattr(self.specs, "commit", commits)


@pytest.fixture
def container() -> Iterator[str]:
    name = f"wta{uuid.uuid4().hex[:8]}"
    ip("netns", "add", name)
    yield name
    ip("netns", "del", name)


@pytest.fixture
def host(store: Store) -> Iterator[Host]:
    name = f"wth{uuid.uuid4().hex[:8]}"
    ip("netns", "add", name)
    yield Host(name, store)
    ip("netns", "del", name)


def test_the_pair_is_begun_before_the_record_is_written_and_is_no_stray(
    host: Host, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[str], dict[str, str]]] = []

    def look() -> None:
        for work in begun:
            work.finish()
        seen.append((list(names.veths()), host.repairs.strays()))

    begun: list[Any] = []
    begin = host.plugging.begin

    def begins(endpoint: Endpoint, network: Network) -> Any:
        begun.append(begin(endpoint, network))
        return begun[-1]

    monkeypatch.setattr(host.plugging, "begin", begins)
    host.before_each_write(monkeypatch, look)
    endpoint = host.attach(container)
    assert seen == [([endpoint.veth], {})]
    assert host.ports == {endpoint.veth: endpoint.id}
    assert f"{endpoint.ipv4_address}/24" in ip("-n", container, "addr", "show", "eth0")


def test_the_pair_is_made_anew_when_another_writer_was_faster(
    host: Host, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Repository(host.store)
    host.before_each_write(monkeypatch, lambda: other.create_endpoint({"network_id": host.network.id, "host": "h2"}) and None)
    endpoint = host.attach(container)
    assert str(endpoint.ipv4_address) == "10.7.0.3", "the other writer has the first address"
    shown = ip("-n", container, "addr", "show")
    assert "10.7.0.3/24" in shown
    assert "10.7.0.2/24" not in shown
    assert endpoint.mac_address in shown
    assert host.veths() == [endpoint.veth]
    assert host.ports == {endpoint.veth: endpoint.id}


def test_nothing_stays_when_the_record_is_refused(host: Host, container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise Unavailable("etcd", "it is away")

    host.before_each_write(monkeypatch, away)
    with pytest.raises(Unavailable, match="it is away"):
        host.attach(container)
    assert host.veths() == []
    assert host.ports == {}
    assert "eth0" not in ip("-n", container, "link")
    endpoint = host.attach(container)
    assert host.veths() == [endpoint.veth]


def inactive(host: Host, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """An endpoint that an engine has asked for, in the agent's cache."""
    endpoint = host.specs.create_endpoint({"network_id": host.network.id, "host": "h1", "active": False})[0]
    host.cache.view.local_endpoints[endpoint.id] = endpoint
    monkeypatch.setattr(host.plugging, "row_differences", lambda e: () if e.veth in host.ports else ("no port",))
    return endpoint


def test_what_is_plugged_in_ahead_stays_for_its_attach(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a repair nor the sweep takes it; the attach finds it made."""
    endpoint = inactive(host, monkeypatch)

    def work() -> None:
        host.endpoints.plug_ahead(endpoint, host.network)
        assert host.repairs.reconcile(endpoint.id) is None
        host.plugging.ahead[endpoint.id].join()
        assert host.repairs.reconcile(endpoint.id) is None
        assert host.repairs.strays() == {}
        made = names.peer_name(endpoint.id), host.plugging.plugged[endpoint.id].desired
        joined = endpoint.model_copy(update={"active": True, "interface": made[0]})
        host.endpoints.attach_inactive(joined)
        assert host.plugging.plugged[endpoint.id].record == joined
        assert host.plugging.plugged[endpoint.id].desired is made[1], "not made twice"
        assert not host.plugging.ahead

    netns.inside(host.name, work)
    assert host.veths() == [endpoint.veth]
    assert host.ports == {endpoint.veth: endpoint.id}


def test_what_was_plugged_in_ahead_goes_with_its_endpoint(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the engine gives up between its two calls, at once, and when another agent deletes the record."""
    for deleted_elsewhere in (False, True):
        endpoint = inactive(host, monkeypatch)

        def work(endpoint: Endpoint = endpoint, deleted_elsewhere: bool = deleted_elsewhere) -> None:
            host.endpoints.plug_ahead(endpoint, host.network)
            if deleted_elsewhere:
                host.plugging.ahead[endpoint.id].join()
                del host.cache.view.local_endpoints[endpoint.id]
                host.repairs.reconcile(endpoint.id)
            else:
                host.endpoints.detach(endpoint)

        netns.inside(host.name, work)
        assert host.veths() == []
        assert host.ports == {}
        assert not host.plugging.ahead


def test_an_attach_plugs_in_what_could_not_be_plugged_in_ahead(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, add_port = inactive(host, monkeypatch), host.ovsdb.add_port

    def refuses(*_: Any) -> None:
        host.ovsdb.add_port = add_port
        raise Unavailable("ovs-vswitchd", "it is away")

    def work() -> None:
        host.ovsdb.add_port = refuses
        host.endpoints.plug_ahead(endpoint, host.network)
        host.endpoints.attach_inactive(endpoint.model_copy(update={"active": True, "interface": names.peer_name(endpoint.id)}))

    netns.inside(host.name, work)
    assert host.ports == {endpoint.veth: endpoint.id}
