"""The client of Open vSwitch's database: what Warren asks of it and changes in it."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterable, Mapping

from ovsdb.connection import TIMEOUT_S, OvsdbConnection
from ovsdb.operations import ClaimPort, CreatePort, DeletePort, Op, ReleasePort, UpdatePort, diff
from ovsdb.poll import left
from ovsdb.rows import (
    AS_CHOSEN,
    ENCRYPTED_KEY,
    OWNER,
    Observed,
    ObservedPort,
    Port,
    encrypted_hosts,
    encrypted_text,
    endpoint_port,
    integration_bridge,
    is_stale,
    port_differences,
)
from ovsdb.transact import member, put_config
from specs.model.derived import veth_name
from specs.model.host import BridgeSettings
from warren.errors import Conflict, Unavailable, WarrenError
from warren.settings import boot_id

log = logging.getLogger("warren.ovsdb")

NONE: Mapping[str, str] = {}


class Ovsdb(OvsdbConnection):
    """The rows of Open vSwitch's database."""

    # ---- reading -----------------------------------------------------------------------------------------------------

    def observed(self, endpoints: bool = False) -> Observed:
        """Return all bridges, and all ports except endpoints' (unless asked for). The cost is proportional to what is
        returned."""
        return self._replica.observed(endpoints)

    def ports_of_endpoints(self) -> dict[str, int]:
        """Return a copy: the OpenFlow port of every endpoint whose port ovs-vswitchd has made."""
        return dict(self._replica.ofports)

    def endpoint_ports(self) -> dict[str, ObservedPort]:
        """Return a copy: all ports that agents made for endpoints, by endpoint id, whether they work or not (for the sweep)."""
        return {port.endpoint: port for port in list(self._replica.interfaces.values()) if port.endpoint is not None}

    def port(self, name: str) -> ObservedPort | None:
        """Return the port with a name, if it exists."""
        return self._replica.interfaces.get(name)

    def port_uuid(self, name: str) -> str | None:
        """Return the row of the port with a name, if it exists."""
        return self._replica.port_uuids.get(name)

    def hypervisor_ports(self) -> dict[str, ObservedPort]:
        """Return the ports that hypervisors have put on bridges under an id, by name."""
        return {name: port for name, port in self.observed().ports.items() if port.iface_id is not None}

    def ofport(self, name: str) -> int | None:
        """Return the OpenFlow port number of the port with a name, if it works."""
        port = self._replica.interfaces.get(name)
        return port.ofport if port is not None and port.works else None

    def ofports(self, ports: Iterable[Port], lent: Mapping[str, str] = NONE) -> dict[str, int]:
        """Return the OpenFlow port numbers of those ports that work and are ours or `lent` (as `on_bridge` returned them)."""
        rows = {port.name: self.observed().port(port.name) for port in ports}
        may = {
            name: port for name, port in rows.items() if port and (port.ours or (port.lent and self._is(name, lent.get(name))))
        }
        return {name: port.ofport for name, port in may.items() if port.works and port.ofport is not None}

    def encrypted(self) -> frozenset[str]:
        """Return the hosts to which the agent holds encrypted tunnels."""
        return encrypted_hosts(self._replica.encrypted, boot_id())

    def set_encrypted(self, hosts: Iterable[str], timeout_s: float = TIMEOUT_S) -> None:
        """Tell the controller the hosts to which there are encrypted tunnels. Raises `Unavailable`."""
        text = encrypted_text(hosts, boot_id())
        if text != (self._replica.encrypted or encrypted_text((), boot_id())):
            self._transact(put_config(ENCRYPTED_KEY, text), time.monotonic() + timeout_s)

    def on_bridge(self, bridge: str, names: Iterable[str], timeout_s: float = TIMEOUT_S) -> dict[str, str]:
        """Return which of these ports are on a bridge, with their rows; asks the server. Raises `Unavailable`."""
        known_ports = [(name, uuid) for name in names if (uuid := self._replica.port_uuids.get(name)) is not None]
        questions = [member(bridge, uuid) for _, uuid in known_ports]
        replies = self._transact(questions, time.monotonic() + timeout_s) if questions else []
        return {name: uuid for (name, uuid), reply in zip(known_ports, replies, strict=True) if reply["rows"]}

    def _is(self, name: str, uuid: str | None) -> bool:
        return uuid is not None and self._replica.port_uuids.get(name) == uuid

    # ---- bridge and ports -------------------------------------------------------------------------------------------

    def ensure_bridge(
        self,
        name: str,
        controller: str,
        host: str | None = None,
        timeout_s: float = 10.0,
        port_timeout_s: float = TIMEOUT_S,
        more: tuple[Port, ...] = (),
        settings: BridgeSettings = AS_CHOSEN,
    ) -> None:
        """Create or correct the integration bridge. Sends nothing when nothing differs.

        Unless the settings say which, the bridge is on the kernel's datapath where there is one, and in userspace otherwise.
        This is tried out: the bridge is created on the kernel's datapath, and if ovs-vswitchd has applied that and there is
        still no local port, it is moved. A bridge that works stays where it is.

        `more` are further ports; those of other owners are left alone. Raises `Conflict`, `Unavailable`.
        """
        deadline = time.monotonic() + timeout_s
        self._need_connection(deadline)
        ports = self.observed().ports
        more = tuple(p for p in more if p.name not in ports or (ports[p.name].ours and ports[p.name].endpoint is None))

        def ops(kind: str) -> tuple[Op, ...]:
            desired = integration_bridge(name, controller, kind, host or socket.gethostname(), more, settings)
            return diff((desired,), self.observed())

        bridge = self.observed().bridge(name)
        if bridge is not None and bridge.works and settings.datapath_type in (None, bridge.datapath_type):
            self.apply(ops(bridge.datapath_type), port_timeout_s)
            return
        kinds = ("netdev",) if bridge is not None and bridge.datapath_type == "netdev" else ("system", "netdev")
        for kind in (settings.datapath_type,) if settings.datapath_type else kinds:
            self.apply_and_settle(ops(kind), deadline)
            bridge = self.observed().bridge(name)
            if bridge is not None and bridge.works:
                log.info("bridge.made name=%s datapath_type=%s", name, kind)
                return
        error = bridge.local.error if bridge is not None and bridge.local is not None else None
        raise Unavailable("ovs-vswitchd", f"it cannot make bridge {name}: {error or 'see its log'}")

    def add_port(self, bridge: str, veth: str, ofport: int, endpoint_id: str, timeout_s: float = TIMEOUT_S) -> int:
        """Put an endpoint's interface on the bridge and wait until it has an OpenFlow port. Returns the port's number; OVS
        assigns another one when `ofport` is taken.

        An existing port is left alone where it is as wanted; it is made again if its interface was replaced. Raises `Conflict` when the name belongs to another
        owner, and `Unavailable` when ovs-vswitchd cannot open the interface (the port is then removed again) or does not
        answer.
        """
        deadline = time.monotonic() + timeout_s
        desired = self.desired_port(veth, ofport, endpoint_id)
        while True:
            self._need_connection(deadline)
            observed = self.port(veth)
            if observed is not None and not (observed.ours and observed.endpoint == endpoint_id):
                self._require_ours(bridge, observed, endpoint_id)
            try:
                self._make_as_desired(bridge, observed, desired, deadline)
            except Unavailable:
                if self._connected or time.monotonic() >= deadline:
                    raise
                continue  # the server went away and the outcome is unknown: look again when it is back
            if self._wait_for(lambda: self._settled(veth), deadline):
                break
            if time.monotonic() >= deadline:
                raise Unavailable("ovs-vswitchd", f"no OpenFlow port for {veth} within {timeout_s:g} s; its row stays in OVSDB")
        port = self.port(veth)
        assert port is not None, veth
        if not port.works or port.ofport is None:
            with contextlib.suppress(WarrenError):
                self.apply([DeletePort(veth)])
            raise Unavailable("ovs-vswitchd", port.error or f"could not add {veth} to {bridge}")
        return port.ofport

    def _make_as_desired(self, bridge: str, observed: ObservedPort | None, desired: Port, deadline: float) -> None:
        if observed is not None and is_stale(observed, desired):
            # In one transaction ovs-vswitchd would keep the interface that it has open under that name.
            self.apply_and_settle([DeletePort(desired.name)], deadline)
            observed = None
        if observed is None:
            self.apply([CreatePort(bridge, desired)], left(deadline))
        elif port_differences(observed, desired):
            self.apply([UpdatePort(desired)], left(deadline))

    @staticmethod
    def desired_port(veth: str, ofport: int, endpoint_id: str) -> Port:
        """Return the port that `add_port` makes for an endpoint's interface, which bears the interface's index."""
        return endpoint_port(veth, ofport, endpoint_id, _ifindex(veth))

    def _require_ours(self, bridge: str, port: ObservedPort, endpoint_id: str) -> None:
        """Raise `Conflict` unless a port with another mark or none may be taken for an endpoint: its name, the digest of the
        endpoint's id, is that of the endpoint's interface, and nobody has put it on another bridge."""
        unmarked = port.external_ids.get(OWNER[0]) is None and port.lent is None
        named = port.name == veth_name(endpoint_id)
        if not (named and (port.ours or unmarked) and self.on_bridge(bridge, [port.name])):
            remedy = f"remove it: ovs-vsctl del-port {port.name}"
            raise Conflict(f"OVSDB has a port {port.name!r} which is not that of endpoint {endpoint_id}; {remedy}")

    def claim_port(self, bridge: str, port: ObservedPort, endpoint_id: str, timeout_s: float = TIMEOUT_S) -> None:
        """Mark a port that a hypervisor has put on the bridge as an endpoint's. Raises `Conflict` for one on another bridge, `Unavailable`."""
        deadline = time.monotonic() + timeout_s
        self._need_connection(deadline)
        if not self.on_bridge(bridge, [port.name], left(deadline)):
            raise Conflict(f"port {port.name} is not on {bridge}: name that bridge to the hypervisor")
        if port.endpoint != endpoint_id:
            self.apply([ClaimPort(port, endpoint_id)], left(deadline))
            self._wait_for(lambda: (row := self.port(port.name)) is None or row.endpoint == endpoint_id, deadline)

    def del_port(self, veth: str, endpoint_id: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """Take an endpoint's port off its bridge; one that a hypervisor has put there stays, and loses the endpoint's mark. Does nothing when
        there is none, or the endpoint has it no more. Raises `Conflict` when the port is not Warren's, `Unavailable`."""
        deadline = time.monotonic() + timeout_s
        self._need_connection(deadline)
        port = self.port(veth)
        if port is None:
            return
        if port.iface_id is not None and veth != veth_name(endpoint_id or ""):
            if port.endpoint is not None and endpoint_id in (None, port.endpoint):
                self.apply([ReleasePort(veth, port.endpoint)], left(deadline))
            return
        if not port.ours:
            raise Conflict(f"OVSDB has a port {veth!r} which is not Warren's")
        if port.endpoint is None or veth == veth_name(port.endpoint):
            self.apply([DeletePort(veth)], left(deadline))
        else:  # others have made the interface: ovs-vswitchd puts its flags back, which must be over before the agent does
            self.apply_and_settle([DeletePort(veth)], deadline)
        self._wait_for(lambda: self.port(veth) is None, deadline)

    def _settled(self, name: str) -> bool:
        port = self.port(name)
        return port is not None and (port.ofport is not None or port.error is not None)


def _ifindex(name: str) -> int | None:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None  # ovs-vswitchd will say so
