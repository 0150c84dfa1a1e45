"""Finds the agent that the user means. Every failure of a command is a `Failure` or an `Error` of the client: one line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from warren.client import AgentUnreachable, Client, Error, tls_context

LABS = Path("/run/warren-lab")
DEFAULT_SOCKET = "/run/warren/agent.sock"


class Failure(Exception):
    """A failed command, in one line for the user; the command exits with 2."""


@dataclass(frozen=True, slots=True)
class Where:
    """The options --url and --lab."""

    url: str | None = None
    lab: str | None = None


def candidates(where: Where, env: Mapping[str, str]) -> list[str]:
    """URLs at which the agent may be, best first: --url, --lab, WARREN_URL, WARREN_LAB, a lab that is up, this host's."""
    if where.url:
        return [where.url]
    if where.lab:
        return _of_lab(where.lab)
    if env.get("WARREN_URL") or env.get("SAND_API_URL"):
        return [env.get("WARREN_URL") or env["SAND_API_URL"]]
    if env.get("WARREN_LAB"):
        return _of_lab(env["WARREN_LAB"])
    labs = sorted(path.parent.name for path in LABS.glob("*/lab.json"))
    if len(labs) > 1:
        raise Failure(f"several labs are up ({', '.join(labs)}): choose one with --lab NAME")
    if labs:
        return _of_lab(labs[0])
    return [f"unix://{env.get('WARREN_SOCKET') or DEFAULT_SOCKET}"]


def _of_lab(name: str) -> list[str]:
    """The agents of a lab in the order of its hosts: any of them answers for all."""
    if not (LABS / name / "lab.json").exists():
        raise Failure(f"lab {name!r} is not up (warren lab up --lab {name})")
    sockets = sorted((LABS / name).glob("*/agent.sock"), key=lambda path: (len(path.parent.name), path.parent.name))
    if not sockets:
        raise Failure(f"lab {name!r} has no agent running (warren lab start h1 agent)")
    return [f"unix://{path}" for path in sockets]


def connect(where: Where, env: Mapping[str, str] = os.environ) -> Client:
    """A client of the agent that the user means. With https, WARREN_TLS_CERT, _KEY and _CA name the certificates, or SAND's SAND_CERT_FILE,
    SAND_KEY_FILE and SAND_CA_FILE. Raises `Failure`."""
    urls = candidates(where, env)
    tls = None
    if any(url.startswith("https://") for url in urls):
        cert, key, ca = (env.get(f"WARREN_TLS_{part}") or env.get(f"SAND_{part}_FILE") for part in ("CERT", "KEY", "CA"))
        try:
            tls = tls_context(cert if key else None, key, ca)
        except Error as error:
            raise Failure(f"WARREN_TLS_CERT, WARREN_TLS_KEY, WARREN_TLS_CA: {error}") from None
    try:
        return Client(*urls, tls=tls)
    except Error as error:
        raise Failure(str(error)) from None


def message_of(error: Exception) -> str:
    """The line for the user."""
    if isinstance(error, AgentUnreachable):
        return f"{error} (is warren-agent running? --url or WARREN_URL choose another)"
    return str(error)
