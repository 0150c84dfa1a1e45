"""Builds the agent from its settings. Only this module knows all parts of the agent."""

from __future__ import annotations

from functools import partial

from agent.agent import Agent, problems
from agent.cache import UNREGISTERED, Cache
from agent.capture.captures import Captures
from agent.cni.attachments import Attachments
from agent.config import Config
from agent.connections.datapath import Datapath
from agent.connections.limits import ConnectionLimits
from agent.connections.reassembly import Reassembly
from agent.connections.reconciler import ConnectionReconciler
from agent.core import Core
from agent.dhcp_client.clients import DhcpClients
from agent.docker.feature import Docker
from agent.encryption.feature import Encryption, of_outside
from agent.encryption.firewall import HostFirewall
from agent.endpoints.admin_overlay import AdminEndpoint
from agent.endpoints.adopted_devices import AdoptedDevices
from agent.endpoints.adopted_ports import AdoptedPorts
from agent.endpoints.adopted_records import AdoptedRecords
from agent.endpoints.devices import Devices
from agent.endpoints.endpoints import Endpoints
from agent.endpoints.filler import PreallocatedFiller
from agent.endpoints.kept_namespaces import KeptNamespaces
from agent.endpoints.machine_ports import MachinePorts
from agent.endpoints.plugging import Plugging
from agent.endpoints.preallocated import PreallocatedPool
from agent.endpoints.reconciler import EndpointReconciler
from agent.endpoints.repairs import Repairs
from agent.exclusive import Exclusive
from agent.exposed_api import ExposedApi
from agent.feature import Feature
from agent.gateway.firewalls import Firewalls
from agent.gateway.held_ports import HeldPorts
from agent.gateway.host_network import HostNetworkWatcher
from agent.gateway.reconciler import GatewayReconciler
from agent.gateway.routes import GatewayRoutes
from agent.gateway.switches import Switches
from agent.identity.cloud import CloudUnderlay
from agent.identity.feature import HostIdentity
from agent.identity.registration import Registration, of_underlay
from agent.linux import names
from agent.linux.addresses import interface_mtu
from agent.listeners import Listeners
from agent.lookup import Lookup
from agent.names.feature import ResolverProcess
from agent.peers import Peers
from agent.placements import Placements
from agent.port_check import PortCheck
from agent.remote import Remote
from agent.switch import Switch
from ovsdb.client import Ovsdb
from ovsdb.control import appctl, datapath
from ovsdb.rows import resolver_port
from specs.identity import Machine
from specs.model.derived import link_names
from specs.model.host import Host
from specs.model.network import Network
from specs.model.publish import Publish
from specs.store.continuity import Continuity
from specs.store.etcd import Store
from specs.store.repository import Repository
from specs.store.tls import EtcdTls
from warren.errors import MISSING, Invalid

PEER_TIMEOUT_S = 10.0  # timeout for another agent's answer, in addition to the time that an attach there may take


def build(config: Config, *, with_docker: bool) -> tuple[Agent, Docker | None]:
    """Return the agent, and its Docker driver if `with_docker`; connect and start nothing. Raises `Invalid`."""
    if config.vtep is None and config.underlay is None:
        expected = (
            "set it to this host's address on the underlay, such as 192.0.2.1; in a cloud, set WARREN_UNDERLAY=cloud instead"
        )
        raise Invalid("WARREN_VTEP", MISSING, expected)
    common = config.common
    name, bridge = common.host, common.bridge
    tls = EtcdTls(common.etcd_cert, common.etcd_key, common.etcd_ca)
    tls.check()
    store = Store(common.etcd, common.prefix, tls)
    continuity = Continuity(store, config.run / "agent-etcd.json")
    cache = Cache(store, name, continuity, names.veths, refused=UNREGISTERED)
    check_ports: Listeners[[str | None, Network, tuple[Publish, ...]]] = Listeners()
    repository = Repository(store, on_write=cache.applied, check_ports=check_ports)
    ovsdb_changed: Listeners[[set[str]]] = Listeners()
    ports_changed: Listeners[[set[str]]] = Listeners()
    ovsdb = Ovsdb(common.ovsdb, on_change=ovsdb_changed, on_endpoints=ports_changed)
    news: Listeners[[]] = Listeners()  # called when the problems of a feature or worker may have changed

    dhcp_clients = DhcpClients(config.run / "dhcp", repository, cache, news)
    pool = PreallocatedPool(cache)
    exclusive = Exclusive()
    kept = KeptNamespaces(config.run / "netns", cache, news)
    taken, link_changed = Devices(config.run / "devices"), Listeners[[str]]()
    plugging = Plugging(name, bridge, ovsdb, cache, kept, taken)
    endpoints = Endpoints(
        name,
        repository=repository,
        ovsdb=ovsdb,
        cache=cache,
        plugging=plugging,
        preallocated=pool,
        kept=kept,
        leaving=(kept.leaving, dhcp_clients.leaving),
        exclusive=exclusive,
        attach_timeout_s=config.attach_timeout_s,
    )
    repairs = Repairs(
        repository=repository,
        ovsdb=ovsdb,
        cache=cache,
        plugging=plugging,
        exclusive=exclusive,
        orphaned=endpoints.orphaned,
    )
    cloud = CloudUnderlay(config, cache, news)
    host = Host(
        name=name,
        vtep=cloud.vtep(),
        api=config.api,
        site=config.site,
        outside=config.outside,
        underlay="cloud" if config.underlay else None,
    )
    host = host.model_copy(update=of_underlay(config, host, cloud.fields))
    lookup, peers = Lookup(repository, cache), Peers(config.http_tls, timeout_s=config.attach_timeout_s + PEER_TIMEOUT_S)
    core = Core(
        config=config,
        host=host,
        cache=cache,
        store=store,
        repository=repository,
        ovsdb=ovsdb,
        switch=Switch(name, bridge, store, ovsdb, cache),
        endpoints=endpoints,
        lookup=lookup,
        peers=peers,
        remote=Remote(host, lookup, peers),
    )
    reconciler = EndpointReconciler(
        cache,
        repairs,
        failed=endpoints.failed,
        ovsdb_changed=ovsdb_changed,
        ports_changed=ports_changed,
        link_changed=link_changed,
        on_change=news,
    )
    records = AdoptedRecords(config.run / "adopted.json", repository, endpoints)
    docker = Docker(core, dhcp_clients) if with_docker else None
    held_ports = HeldPorts(name)
    port_check = PortCheck(cache, held_ports, core.remote, repository.endpoints)
    check_ports.add(port_check.check)
    host_network = HostNetworkWatcher(cache, repository, common.etcd, news)
    gateway = GatewayReconciler(
        cache,
        Switches(config.run / "forwarding.json"),
        held_ports,
        GatewayRoutes(host_network.read),
        news,
        forwards_for_others=config.forwards_for_others,
        etcd=common.etcd,
    )
    datapath_name = partial(datapath, ovsdb, bridge)
    machine = Machine(id=config.machine[0], boot=config.machine[1], vtep=str(config.vtep or ""))  # as the controller knows it
    key_file = config.run / f"wireguard-{name}.key"
    of_host = of_outside(key_file, interface_mtu)
    of_place = partial(of_underlay, config, host, cloud.fields)
    registration = Registration(host, machine, store, lambda: problems(features, workers), cache.permit, of_place, of_host)
    features: list[Feature] = [
        HostIdentity(cache, registration),
        cloud,
        reconciler,
        kept,
        port_check,
        ExposedApi(config),
        Placements(cache, Repository(store)),
        PreallocatedFiller(cache, pool, endpoints),
        AdoptedPorts(bridge, cache=cache, ovsdb=ovsdb, ovsdb_changed=ovsdb_changed, endpoints=endpoints, on_change=news),
        AdminEndpoint(cache, ovsdb, endpoints, news),
        MachinePorts(
            bridge,
            cache=cache,
            ovsdb=ovsdb,
            ovsdb_changed=ovsdb_changed,
            records=records,
            wake=reconciler.wake,
            userspace=plugging.checksum_offload_off,
            on_change=news,
        ),
        AdoptedDevices(
            cache=cache,
            records=records,
            hypervisors=ovsdb.hypervisor_ports,
            taken=taken,
            link_changed=link_changed,
            userspace=plugging.checksum_offload_off,
            on_change=news,
        ),
        host_network,
        gateway,
        Firewalls(gateway.needed, docker_user=config.docker_user, on_change=news),
        Encryption(
            cache,
            repository,
            ovsdb,
            core.remote,
            names=link_names(machine.id or machine.boot, name),
            key_file=key_file,
            ipsec=config.run / f"ipsec-{name}",
            userspace=plugging.checksum_offload_off,
            on_change=news,
        ),
        HostFirewall(cache, repository, ovsdb, core.remote, news),
        ConnectionLimits(cache, datapath_name, appctl, config.ct_limit, news),
        Reassembly(datapath_name, appctl),
        ConnectionReconciler(cache, Datapath(datapath_name, appctl, core.switch.ofctl)),
        dhcp_clients,
        ResolverProcess(config.run, cache, lambda: bool(ovsdb.ofports((resolver_port(),))), news),
        Captures(core),
        Attachments(core, suspects=lambda: set(reconciler.reasons), differences=repairs.differences),
        *((docker,) if docker is not None else ()),
    ]
    workers = [worker for feature in features for worker in feature.workers()] + list(cache.workers())
    news.add(registration.publish)
    cache.host_changed.add(registration.check)
    return Agent(core, registration, features), docker
