"""Gives up all of root's privileges but CAP_NET_ADMIN (capabilities(7)). Call `drop` before any thread is started: capabilities belong to threads."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
from pathlib import Path

from warren.errors import Unavailable

USER = "cloud-network"
NET_ADMIN = 12
_VERSION = 0x20080522
_SET_KEEPCAPS, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 8, 24, 38
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def account(name: str) -> tuple[int, int]:
    """Return the ids of a user and of its group. Raises `Unavailable`."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        hint = f"it does not exist; make it with: useradd --system --no-create-home --shell /usr/sbin/nologin {name}"
        raise Unavailable(f"user {name}", hint) from None
    return entry.pw_uid, entry.pw_gid


def drop(user: str) -> None:
    """Become a user that has CAP_NET_ADMIN and nothing else. A process that is not root must have CAP_NET_ADMIN already. Raises `Unavailable`."""
    if os.geteuid() == 0:
        _become(*account(user))
    if not effective() >> NET_ADMIN & 1:
        raise Unavailable("CAP_NET_ADMIN", "this process does not have it; start it as root, or by its systemd unit")
    _call("prctl", _LIBC.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def effective() -> int:
    """Return the capabilities that this thread has in effect, as bits."""
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff"))


def _become(uid: int, gid: int) -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        if capability != NET_ADMIN:
            with contextlib.suppress(Unavailable):  # a container may not be allowed to; no_new_privs is enough
                _call("prctl", _LIBC.prctl(_CAPBSET_DROP, capability, 0, 0, 0))
    _call("prctl", _LIBC.prctl(_SET_KEEPCAPS, 1, 0, 0, 0))
    try:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise Unavailable("the user's privileges", str(error)) from None
    data = (_Data * 2)(_Data(1 << NET_ADMIN, 1 << NET_ADMIN, 0), _Data(0, 0, 0))
    _call("capset", _LIBC.capset(ctypes.byref(_Header(_VERSION, 0)), data))
    _call("prctl", _LIBC.prctl(_SET_KEEPCAPS, 0, 0, 0, 0))


def _call(name: str, result: int) -> None:
    if result:
        raise Unavailable("the kernel", f"{name}: {os.strerror(ctypes.get_errno())}")
