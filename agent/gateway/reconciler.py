"""The host's side of gateways: the interface that the controller's port to the host ends in, forwarding, one nftables table.

Networks in mode nat are addresses of the transit range here (intent/gateway.py), masqueraded on their way out; published ports are
led to them. All of it follows from the specs, is put right when somebody changes it, and is gone with the last such network.
The table's comment keeps what the forwarding switches were before.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import subprocess
import threading
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.cache import Known
from agent.gateway.conntrack_limits import Limits
from agent.gateway.rules import TABLE, Outside, outside, ruleset
from intent.gateway import GATEWAY_MAC, HOST4, HOST6, HOST_MAC, NEXT_HOP4, NEXT_HOP6
from ovsdb.rows import UPLINK_PORT
from warren.errors import Unavailable, WarrenError

log = logging.getLogger("warren.outside")

LOOK_S = 2.0  # a foreign change of routes or rules, and a network's mode, are seen after so long
NFT_TIMEOUT_S = 10.0
FORWARDING = {4: Path("/proc/sys/net/ipv4/ip_forward"), 6: Path("/proc/sys/net/ipv6/conf/all/forwarding")}
_NODAD, _PERMANENT = 0x02, 0x80


class Keeper:
    """A thread that keeps it so, and the limits of connections. `problem` says why it could not be done."""

    def __init__(self, known: Known, limits: Limits, on_change: Callable[[], None]) -> None:
        self._known, self._limits, self._on_change = known, limits, on_change
        self.problem: str | None = None
        self._told: tuple[Outside, str] | None = None
        self._look, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="outside", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what it keeps stays as it is."""
        self._ended.set()
        self._look.set()

    def look(self) -> None:
        """The specs have changed."""
        self._look.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._look.wait(LOOK_S)
            self._look.clear()
            if not self._known.read.is_set() or self._ended.is_set():
                continue
            before, state, mine = self.problem, self._known.snapshot, list(self._known.mine.values())
            wanted = outside(state, self._known.host, mine)
            self.problem = self._tried(self._settle, wanted) or self._tried(self._limits.settle, state, mine)
            if self.problem != before:
                log.info("outside.settled problem=%s", self.problem or "none")
                self._on_change()

    def _tried(self, settle: Callable[..., None], *what: Any) -> str | None:
        try:
            settle(*what)
        except WarrenError as error:
            return str(error)
        except (NetlinkError, OSError) as error:
            return f"the way out of this host: {getattr(error, 'strerror', None) or error}"
        return None

    def _settle(self, wanted: Outside) -> None:
        table = _table()
        if not wanted.active:
            if table is not None:
                _restore(_kept(table))
                _nft("delete", "table", "inet", TABLE)
            with IPRoute() as netlink:
                _down(netlink)
            self._told = None
            return
        before = _kept(table) if table is not None else {str(v): path.read_text().strip() for v, path in FORWARDING.items()}
        with IPRoute() as netlink:
            _interface(netlink, wanted)
        for version in wanted.versions:
            if FORWARDING[version].read_text().strip() != "1":
                FORWARDING[version].write_text("1")
        rules = ruleset(wanted, json.dumps(before))
        if self._told is None or self._told != (wanted, table):
            _nft(commands=rules)
            self._told = (wanted, _nft("list", "table", "inet", TABLE))


# ---- the interface ----------------------------------------------------------------------------------------------------


def _interface(netlink: Any, wanted: Outside) -> None:
    found = list(netlink.link("get", ifname=UPLINK_PORT)) if netlink.link_lookup(ifname=UPLINK_PORT) else []
    if not found:
        raise Unavailable(f"interface {UPLINK_PORT}", "the controller has not made it (yet)")
    link, index = found[0], found[0]["index"]
    if link.get_attr("IFLA_ADDRESS") != HOST_MAC:
        netlink.link("set", index=index, address=HOST_MAC)
    if not link["flags"] & 1:
        netlink.link("set", index=index, state="up")
    held = {(a.get_attr("IFA_ADDRESS"), a["prefixlen"]) for a in netlink.get_addr(index=index)}
    for version, here, next_hop in ((4, HOST4, NEXT_HOP4), (6, HOST6, NEXT_HOP6)):
        if version not in wanted.versions:
            continue
        if (str(here.ip), here.network.prefixlen) not in held:
            flags = {"flags": _NODAD} if version == 6 else {}
            _there(netlink.addr, "add", index=index, address=str(here.ip), prefixlen=here.network.prefixlen, **flags)
        netlink.neigh("replace", dst=str(next_hop), lladdr=GATEWAY_MAC, ifindex=index, state=_PERMANENT)
    routes = {
        route.get_attr("RTA_DST") and f"{route.get_attr('RTA_DST')}/{route['dst_len']}"
        for version in (2, 10)
        for route in netlink.get_routes(family=version, oif=index)
        if route.get_attr("RTA_GATEWAY")
    }
    for prefix in wanted.routes:
        hop = NEXT_HOP4 if ip_network(prefix).version == 4 else NEXT_HOP6
        netlink.route("replace", dst=prefix, gateway=str(hop), oif=index, metrics={"mtu": wanted.mtu})
    for prefix in routes - {None} - set(wanted.routes):
        netlink.route("del", dst=prefix, oif=index)


def _down(netlink: Any) -> None:
    """Without addresses the interface has no routes either."""
    for index in netlink.link_lookup(ifname=UPLINK_PORT):
        for address in netlink.get_addr(index=index):
            netlink.addr("del", index=index, address=address.get_attr("IFA_ADDRESS"), prefixlen=address["prefixlen"])
        netlink.link("set", index=index, state="down")


def _there(call: Callable[..., Any], *words: str, **what: Any) -> None:
    try:
        call(*words, **what)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def _restore(before: dict[str, str]) -> None:
    for version, path in FORWARDING.items():
        if (value := before.get(str(version))) is not None and path.read_text().strip() != value:
            path.write_text(value)


# ---- nftables -----------------------------------------------------------------------------------------------------------


def _table() -> str | None:
    """Our table as nft prints it; None when there is none."""
    listed = json.loads(_nft("-j", "list", "tables", "inet"))
    names = {item["table"]["name"] for item in listed.get("nftables", ()) if "table" in item}
    return _nft("list", "table", "inet", TABLE) if TABLE in names else None


def _kept(table: str) -> dict[str, str]:
    """What the comment of the table says: version of IP to what its forwarding switch was. (nft 1.0.6 leaves it out of JSON.)"""
    found = re.search(r'^\s*comment "(.*)"$', table, re.MULTILINE)
    return json.loads(found[1].replace("'", '"')) if found else {}  # type: ignore[no-any-return]


def _nft(*words: str, commands: str | None = None) -> str:
    given = ["-f", "-"] if commands is not None else list(words)
    try:
        done = subprocess.run(["nft", *given], input=commands, capture_output=True, text=True, timeout=NFT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable("nftables", f"nft does not run ({getattr(error, 'strerror', None) or error})") from None
    if done.returncode != 0:
        raise Unavailable("nftables", (done.stderr.strip().splitlines() or ["nft failed"])[0])
    return done.stdout
