"""Runs a charon (strongSwan's IKE daemon) of Warren's own, and speaks VICI with it. Any other charon of the host is left alone.

The kernel does ESP where it can; otherwise charon's plugin kernel-libipsec does it in userspace. The plugin makes its TUN interface in the host's
namespace, where its UDP socket stays, and `adopt` moves the interface. For each SA the plugin insists on a route by an interface of that name.
Another TUN interface of the same name, the anchor, takes these routes. They are in the table that is looked up last, and earlier tables always
have routes to their destinations.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vici
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from vici.exception import CommandException, SessionException

from agent.linux import survivors
from agent.linux.command import run
from agent.linux.netns import interfaces
from warren.errors import Unavailable

DAEMON = "charon-systemd"
START = 'echo $$ >"$0" && exec charon-systemd "$0"'  # charon ignores the argument, by which the next agent recognises charon
START_S, END_S, ANSWER_S = 5.0, 2.0, 5.0
TABLE, PRIORITY = 22357, 40000  # for the routes that kernel-libipsec insists on; after the main table's rule (32766)
ALIAS = "warren-ipsec"  # of the anchor
CHILD = "vxlan"  # the name of every CHILD_SA
UP = ("INSTALLED", "UPDATING", "REKEYING", "REKEYED")  # states of CHILD_SAs that carry packets


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityAssociation:
    """An IKE_SA with its CHILD_SAs. `age_s` is None until it is established; `keys_age_s` is the age of the youngest CHILD_SA, None without one."""

    connection: str
    id: str
    initiator: bool
    age_s: int | None
    keys_age_s: int | None
    received: int
    sent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CharonState:
    """The state of charon: ids of shared secrets, names of connections, and SAs."""

    secrets: frozenset[str] = frozenset()
    connections: frozenset[str] = frozenset()
    sas: tuple[SecurityAssociation, ...] = ()


def esp_in_kernel(netns: str) -> bool:
    """Return whether the kernel has AES-GCM in ESP, and xfrm interfaces: tries both in a namespace."""
    state = ("src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "1")
    aead = ("mode", "tunnel", "aead", "rfc4106(gcm(aes))", f"0x{'00' * 36}", "128")
    try:
        run("ip", "xfrm", "state", "add", *state, *aead, netns=netns)
        run("ip", "xfrm", "state", "delete", *state, netns=netns)
        run("ip", "link", "add", "probe", "type", "xfrm", "if_id", "1", netns=netns)
        run("ip", "link", "del", "probe", netns=netns)
    except Unavailable:
        return False
    return True


class Charon:
    """The daemon, whose settings, socket and pid are in files that begin with `base`. It outlives the agent."""

    def __init__(self, base: Path) -> None:
        self._settings, self._pid, self.socket = (Path(f"{base.absolute()}.{suffix}") for suffix in ("conf", "pid", "vici"))

    def settings(self) -> str | None:
        """Return the settings that charon was started with; None if it does not run."""
        with self._held() as held:
            if held is None:
                return None
        with contextlib.suppress(OSError):
            return self._settings.read_text()
        return None

    def start(self, settings: str, port: int) -> None:
        """Start charon anew with its UDP port, and wait until it answers. Raises `Unavailable`."""
        self.end()
        _check_port(port)  # without its port charon would run, but reach no peer
        self._settings.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._settings.write_text(settings)
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        environment = {**os.environ, "PATH": path, "STRONGSWAN_CONF": str(self._settings)}
        held = survivors.start(("/bin/sh", "-c", START, str(self._pid)), environment, quiet=True)
        try:
            deadline = time.monotonic() + START_S
            while not self._answers():
                if survivors.ends(held, 0.05):
                    raise Unavailable(DAEMON, "it ended at once (is it installed?)")
                if time.monotonic() > deadline:
                    raise Unavailable(DAEMON, f"it does not answer within {START_S:g} s")
        finally:
            survivors.release(held)

    def end(self) -> None:
        """End charon, if it runs."""
        with self._held() as held:
            for number in (signal.SIGTERM, signal.SIGCONT, signal.SIGKILL):
                if held is None or survivors.ends(held, 0):
                    break
                signal.pidfd_send_signal(held.pidfd, number)
                survivors.ends(held, END_S if number != signal.SIGTERM else 0)
        if (pid := survivors.pid_in(self._pid)) is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # reap a killed charon, if this agent started it
        for file in (self._pid, self.socket, self._settings):
            file.unlink(missing_ok=True)

    def interface(self) -> str | None:
        """Return the name of charon's TUN interface; None without one."""
        pid = survivors.pid_in(self._pid)
        for file in Path(f"/proc/{pid}/fdinfo").glob("*"):
            with contextlib.suppress(OSError):
                for line in file.read_text().splitlines():
                    if line.startswith("iff:"):
                        return line.removeprefix("iff:").strip()
        return None

    def read(self) -> CharonState | None:
        """Return charon's state; None if it does not answer."""
        try:
            with self._session() as session:
                return CharonState(
                    secrets=frozenset(_text(name) for name in session.get_shared().get("keys", ())),
                    connections=frozenset(name for listed in session.list_conns() for name in listed),
                    sas=tuple(_association(name, sa) for listed in session.list_sas() for name, sa in listed.items()),
                )
        except Unavailable:
            return None

    def change(self, command: str, *messages: Mapping[str, Any]) -> None:
        """Send one command for each message, such as load-conn. Raises `Unavailable`."""
        with self._session() as session:
            for message in messages:
                session.request(command, message)

    def try_each(self, command: str, messages: Iterable[Mapping[str, Any]]) -> None:
        """As `change`, but go on after a message that charon refuses: its peer may be down. Raises `Unavailable` if charon does not answer."""
        with self._session() as session:
            for message in messages:
                with contextlib.suppress(CommandException):
                    session.request(command, message)

    def _answers(self) -> bool:
        try:
            with self._session() as session:
                session.version()
        except Unavailable:
            return False
        return True

    @contextlib.contextmanager
    def _held(self) -> Iterator[survivors.Held | None]:
        held = survivors.find(self._pid)
        try:
            yield held
        finally:
            if held is not None:
                survivors.release(held)

    @contextlib.contextmanager
    def _session(self) -> Iterator[vici.Session]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            try:
                connection.connect(str(self.socket))
                yield vici.Session(connection)
            except (OSError, CommandException, SessionException) as error:
                raise Unavailable(DAEMON, str(error) or "it does not answer") from None


def _check_port(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            raise Unavailable(
                DAEMON, f"another program has UDP port {port} (WARREN_OUTSIDE may give it another: ipsec_port)"
            ) from None


def adopt(name: str, netns: str, renamed: str) -> None:
    """Move the TUN interface of kernel-libipsec into a namespace under another name, and make the anchor. Raises `Unavailable`."""
    run("ip", "link", "set", name, "down")
    run("ip", "link", "set", name, "netns", netns, "name", renamed)
    run("ip", "tuntap", "add", "dev", name, "mode", "tun")
    run("ip", "link", "set", name, "alias", ALIAS, "up")


def anchor() -> str | None:
    """Return the name of the anchor in the host's namespace; None without one."""
    indexes = [index for name, index in interfaces().items() if name.startswith("ipsec")]
    if not indexes:
        return None
    with contextlib.suppress(NetlinkError), IPRoute() as netlink:
        for index in indexes:
            link = next(iter(netlink.get_links(index)))
            if link.get_attr("IFLA_IFALIAS") == ALIAS:
                return str(link.get_attr("IFLA_IFNAME"))
    return None


def remove_anchor() -> None:
    """Remove the anchor, and the rules of a charon that was killed. Raises `Unavailable`."""
    if (name := anchor()) is None:
        return
    run("ip", "link", "del", name)
    for version in ("-4", "-6"):
        with contextlib.suppress(Unavailable):
            run("ip", version, "rule", "del", "priority", str(PRIORITY), "table", str(TABLE))


def make_xfrm(name: str, device: str, if_id: int) -> None:
    """Make an interface whose packets go by SAs of the host's namespace, even after it is moved to another one. Raises `Unavailable`."""
    run("ip", "link", "add", name, "type", "xfrm", "dev", device, "if_id", str(if_id))


def greet(source: str, targets: Iterable[str]) -> None:
    """Send a packet through each tunnel, so that the peer sees that it works."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        for target in targets:
            with contextlib.suppress(OSError):
                sender.sendto(b"", (target, socket.getservbyname("discard", "udp")))


def _association(name: str, values: Mapping[str, Any]) -> SecurityAssociation:
    children = [child for child in values.get("child-sas", {}).values() if _text(child["state"]) in UP]
    return SecurityAssociation(
        connection=name,
        id=_text(values["uniqueid"]),
        initiator=values.get("initiator") == b"yes",
        age_s=int(values["established"]) if "established" in values else None,
        keys_age_s=min((int(child.get("install-time", 0)) for child in children), default=None),
        received=sum(int(child.get("bytes-in", 0)) for child in children),
        sent=sum(int(child.get("bytes-out", 0)) for child in children),
    )


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
