"""Network namespaces: opening one, and running code inside it.

A namespace is named by the path of an nsfs file, by `/proc/<pid>/ns/net`, or by a name under /var/run/netns. A new thread
enters it, never the caller's: a thread that failed to come back would do everything afterwards in a container's network.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from warren.errors import Invalid

NAMES = "/var/run/netns"
EXPECTED = "the path of a network namespace, such as /run/netns/web-1 or /proc/1234/ns/net"

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_SIOCETHTOOL = 0x8946
_DISABLE_IPV6 = "/proc/sys/net/ipv6/conf/{}/disable_ipv6"
_ETHTOOL_GTXCSUM, _ETHTOOL_STXCSUM = 0x16, 0x17

_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


def path_of(netns: str) -> str:
    """The path of a namespace, which may be named as for ip-netns(8)."""
    return netns if "/" in netns else os.path.join(NAMES, netns)


@contextlib.contextmanager
def opened(netns: str) -> Iterator[int]:
    """Return a file descriptor of the namespace. Raises `Invalid` if there is none under that name."""
    try:
        if not stat.S_ISREG(os.stat(path_of(netns)).st_mode):  # opening a pipe waits for its writer, opening a device may act
            raise OSError(0, "it is something else")
        fd = os.open(path_of(netns), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise Invalid("netns", netns, f"{EXPECTED} ({getattr(error, 'strerror', None) or error})") from None
    try:
        if not _is_network_namespace(fd):
            raise Invalid("netns", netns, f"{EXPECTED} (it is something else)")
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened_or_none(netns: str | None) -> Iterator[int | None]:
    """As `opened`; None for no namespace."""
    if netns is None:
        yield None
        return
    with opened(netns) as fd:
        yield fd


def is_own(fd: int) -> bool:
    """Return whether this is the namespace that this thread is in. It may have an id like any other (`ip netns set`), but links between two
    interfaces inside it do not show that id."""
    return os.path.samestat(os.fstat(fd), os.stat("/proc/thread-self/ns/net"))


def _is_network_namespace(fd: int) -> bool:
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False


class Milestone:
    """A point in the work of another thread, for which a thread can wait."""

    def __init__(self) -> None:
        self._event, self._reached = threading.Event(), False

    def reach(self) -> None:
        """Signal that the point is reached."""
        self._reached = True
        self._event.set()

    def end(self) -> None:
        """Signal that the work has ended, whether or not the point was reached."""
        self._event.set()

    def wait(self) -> bool:
        """Wait for the point or the end. Returns whether the point was reached."""
        self._event.wait()
        return self._reached


class Work(Generic[T]):
    """Work that begins at once in a thread of its own, which may `enter` a namespace and ends with it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(work,), name="netns", daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._results.append(work())
        except BaseException as error:  # the exception belongs to the caller
            self._errors.append(error)

    def join(self) -> None:
        """Wait for the end of the work."""
        self._thread.join()

    def result(self) -> T:
        """Wait for the end of the work. Returns its result, or raises its exception."""
        self.join()
        if self._errors:
            raise self._errors[0]
        return self._results[0]


def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own, which may `enter` a namespace and ends with it. Returns its result."""
    return Work(work).result()


def enter(fd: int) -> None:
    """Move this thread into the namespace, for good: only for threads of `in_thread`."""
    assert threading.current_thread().name == "netns", "the caller's own thread must stay where it is"
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def unshare() -> None:
    """Move this thread into a new namespace, for good: only for threads of `in_thread`."""
    assert threading.current_thread().name == "netns", "the caller's own thread must stay where it is"
    if _libc.unshare(_CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def inside(netns: str, work: Callable[[], T]) -> T:
    """Run `work` in the namespace. Returns its result. Raises `Invalid` if there is no such namespace."""
    with opened(netns) as fd:

        def run() -> T:
            enter(fd)
            return work()

        return in_thread(run)


def interfaces() -> dict[str, int]:
    """Interface names and indexes of the namespace that this thread is in."""
    return {name: index for index, name in socket.if_nameindex()}


def tx_checksum(interface: str, on: bool | None = None) -> bool:
    """Whether transmit checksums of the interface are left to hardware; sets that first unless `on` is None."""
    if on is not None:
        _ethtool(interface, _ETHTOOL_STXCSUM, int(on))
    return bool(_ethtool(interface, _ETHTOOL_GTXCSUM, 0))


def _ethtool(interface: str, command: int, value: int) -> int:
    data = ctypes.create_string_buffer(struct.pack("II", command, value), 8)
    request = struct.pack("16sP", interface.encode(), ctypes.addressof(data)).ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened_socket:
        fcntl.ioctl(opened_socket, _SIOCETHTOOL, request)
    return int(struct.unpack("II", data.raw[:8])[1])


def allow_ipv6(interface: str) -> None:
    """Allow IPv6 on an interface of the namespace that this thread is in: container engines forbid it at first."""
    with open(_DISABLE_IPV6.format(interface), "w") as setting:
        setting.write("0")


def ipv6_off(interface: str) -> bool:
    """Return whether IPv6 is forbidden on an interface of the namespace that this thread is in."""
    try:
        with open(_DISABLE_IPV6.format(interface)) as setting:
            return setting.read().strip() != "0"
    except OSError:
        return False  # the kernel has no IPv6


def of_processes() -> Iterator[str]:
    """Return the paths of the network namespaces of all processes, except this one's. In the host's pid namespace, an agent in a container
    also sees the namespaces of other containers."""
    seen = {os.stat("/proc/self/ns/net").st_ino}
    for entry in os.scandir("/proc"):
        path = f"/proc/{entry.name}/ns/net"
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended, or is none of ours
                if (inode := os.stat(path).st_ino) not in seen:
                    seen.add(inode)
                    yield path
