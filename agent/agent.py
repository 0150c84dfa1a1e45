"""The agent put together: what its HTTP routes and its threads share."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.api.connect import Elsewhere, Request
from agent.cache import Known
from agent.config import Config
from agent.dhcp_client.clients import Leases
from agent.endpoints.adopted_ports import Lent
from agent.endpoints.endpoints import Endpoints
from agent.endpoints.reconciler import Keeper
from agent.gateway import reconciler as outside
from agent.gateway.conntrack_limits import Limits
from agent.linux import netns
from agent.linux.links import Links
from agent.peers import Peers
from agent.registration import Registration, underlay_mtu
from agent.switch import appctl, datapath
from ovsdb.client import Ovsdb
from specs.model.host import Host
from specs.model.records import Endpoint, Network, decode_json
from specs.store import keys
from specs.store.etcd import Store
from specs.store.repository import Specs
from warren.errors import Conflict, Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    from agent.capture.captures import Captures
    from agent.cni.attachments import Attachments

log = logging.getLogger("warren.agent")

DIAL_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Agent:
    """One host's agent. `make` builds it, `start` starts its threads."""

    config: Config
    host: Host
    specs: Specs
    ovsdb: Ovsdb
    known: Known
    endpoints: Endpoints
    keeper: Keeper
    registration: Registration
    peers: Peers
    links: Links
    outside: outside.Keeper
    lent: Lent
    leases: Leases
    captures: Captures | None = None  # set by the routes, which have the switch
    attachments: Attachments | None = None  # by the routes, too

    def start(self) -> None:
        """Start all threads; none of them needs etcd or OVSDB to be there."""
        self.ovsdb.connect()
        self.keeper.start()
        self.endpoints.spares.start()
        self.lent.start()
        self.links.start()
        self.known.start()
        self.outside.start()
        self.leases.start()
        self.registration.start()
        if self.attachments is not None:
            self.attachments.start()

    def stop(self) -> None:
        """End all, quickly; attaches under way are undone."""
        if self.captures is not None:
            self.captures.stop()
        if self.attachments is not None:
            self.attachments.stop()
        self.known.stop()
        self.endpoints.spares.stop()
        self.lent.stop()
        self.keeper.stop()
        self.leases.stop()
        self.outside.stop()
        self.registration.stop()
        self.peers.close()
        self.ovsdb.close()

    # ---- names or ids ---------------------------------------------------------------------------------------------

    def network(self, ref: str) -> Network:
        """A network by id or name, as etcd has it now. Raises `NotFound`."""
        store = self.specs.store
        entry = store.get(keys.network(ref))
        if entry is None and (claim := store.get(keys.claim_network_name(ref))) is not None:
            entry = store.get(keys.network(claim.value))
        if entry is None:
            raise NotFound("network", ref)
        return decode_json(Network, entry.value, entry.key)

    def endpoint(self, ref: str) -> Endpoint:
        """An endpoint by id, name or NETWORK/NAME, as etcd has it now. Raises `NotFound`, `Conflict` for an ambiguous name."""
        known = self.known.snapshot.endpoints.get(ref)
        if known is not None:
            entry = self.specs.store.get(keys.endpoint(known.network_id, known.id))
            if entry is not None:
                return decode_json(Endpoint, entry.value, entry.key)
        network_ref, _, name = ref.rpartition("/")
        network = self.network(network_ref) if network_ref else None
        everything = self.specs.endpoints(network.id if network else None)
        for found in (
            [e for e in everything if e.id == name],
            [e for e in everything if e.name == name],
        ):
            if len(found) > 1:
                raise Conflict(f"{len(found)} endpoints are called {ref!r}: say NETWORK/{ref} or an id")
            if found:
                return found[0]
        raise NotFound("endpoint", ref)

    def host_record(self, name: str) -> Host:
        """A host by name, as etcd has it now. Raises `NotFound`."""
        entry = self.specs.store.get(keys.host(name))
        if entry is None:
            raise NotFound("host", name)
        return decode_json(Host, entry.value, entry.key)

    # ---- CONNECT --------------------------------------------------------------------------------------------------

    def dial(self, request: Request) -> Any:
        """A socket connected to an address inside a network, or which agent has an endpoint there."""
        network = self.network(request.network_id)
        here = next((e for e in list(self.known.mine.values()) if _serves(e, network.id) and e.netns), None)
        if here is not None and here.netns is not None:
            try:
                address = (request.ip, request.port)
                return netns.inside(here.netns, lambda: socket.create_connection(address, DIAL_TIMEOUT_S))
            except OSError as error:
                raise Unavailable(f"{request.ip}:{request.port}", str(error)) from None
        if not request.forwarded:
            for endpoint in self.specs.endpoints(network.id):
                if _serves(endpoint, network.id) and endpoint.host != self.host.name and endpoint.netns:
                    host = self.host_record(endpoint.host)
                    if host.api:
                        return Elsewhere(host.name, host.api, self.peers.tls)
        raise Invalid("network", network.name, "a network with an active endpoint")


def _serves(endpoint: Endpoint, network_id: str) -> bool:
    return endpoint.network_id == network_id and endpoint.active


def make(config: Config) -> Agent:
    """Build the agent from its settings; nothing is connected or started yet."""
    if config.vtep is None:
        raise Invalid("WARREN_VTEP", "nothing", "this host's address on the underlay, such as 192.0.2.1")
    common = config.common
    store = Store(common.etcd, common.prefix, cert=common.etcd_cert, key=common.etcd_key, ca=common.etcd_ca)
    specs = Specs(store)
    host = Host(name=common.host, vtep=config.vtep, api=config.api, underlay_mtu=config.underlay_mtu or underlay_mtu(config.vtep))

    def ovsdb_changed(what: set[str]) -> None:
        if "connection" in what:
            keeper.look_at_everything()
        elif "bridge" in what:
            keeper.look(list(keeper.problems))  # the controller may just have made it
        lent.look()

    def problems() -> list[str]:
        of_endpoints = sorted({**leases.problems, **keeper.problems}.items())
        found = [f"endpoint {name(endpoint_id)}: {reason}" for endpoint_id, reason in of_endpoints]
        found += [f"port {name}, put on the bridge by hand: {reason}" for name, reason in sorted(lent.problems.items())]
        return [way_out.problem, *found] if way_out.problem else found

    def name(endpoint_id: str) -> str:
        record = known.mine.get(endpoint_id)
        return (record.name if record else None) or endpoint_id or "all"

    ovsdb = Ovsdb(common.ovsdb, on_change=ovsdb_changed)

    def changed(ids: set[str]) -> None:
        keeper.look(ids)
        way_out.look()
        endpoints.spares.look()
        lent.look()

    known = Known(store, common.host, on_change=changed, on_read=lambda: keeper.look_at_everything())
    endpoints = Endpoints(common.host, common.bridge, specs, ovsdb, known, config.attach_timeout_s)
    registration = Registration(host, specs, problems)
    lent = Lent(common.bridge, known, ovsdb, endpoints, registration.tell)
    keeper = Keeper(endpoints, on_change=registration.tell)
    endpoints.released = lambda endpoint_id: keeper.look([endpoint_id])
    leases = Leases(config.run / "dhcp", specs, known, registration.tell)
    endpoints.leaving = leases.leaving
    peers = Peers(config.http_tls, timeout_s=config.attach_timeout_s + 10)
    limits = Limits(lambda: datapath(ovsdb, common.bridge), appctl)
    way_out = outside.Keeper(known, limits, registration.tell)
    links = Links(lambda veth: keeper.look(endpoints.vanished(veth)), keeper.look_at_everything)
    return Agent(config, host, specs, ovsdb, known, endpoints, keeper, registration, peers, links, way_out, lent, leases)
