"""Finds the agent that the user means. Every failure of a command is a `Failure`, or an `Error` of the client, and is one line for the user."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warren.client import AgentUnreachable, Client, Error, tls_context

LABS = Path("/run/warren-lab")
DEFAULT_SOCKET = "/run/warren/agent.sock"


class Failure(Exception):
    """A failed command, in one line for the user."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Where:
    """The options --url, --lab and --context."""

    url: str | None = None
    lab: str | None = None
    context: str | None = None


def config_file(env: Mapping[str, str]) -> Path:
    """The file of the contexts: WARREN_CONFIG, or warren/config.json below the user's directory of settings."""
    below = env.get("XDG_CONFIG_HOME") or str(Path(env.get("HOME") or "/root") / ".config")
    return Path(env.get("WARREN_CONFIG") or Path(below) / "warren" / "config.json")


def read_config(env: Mapping[str, str]) -> dict[str, Any]:
    """The contexts by name, and the current one's name. Raises `Failure` for a file that nobody can read."""
    path = config_file(env)
    try:
        data = json.loads(path.read_text())
        contexts, current = dict(data["contexts"]), data.get("current")
        if not all(isinstance(fields, dict) for fields in contexts.values()):
            raise TypeError
    except FileNotFoundError:
        return {"current": None, "contexts": {}}
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise Failure(f'{path}: expected {{"current": NAME, "contexts": {{NAME: {{"url": URL}}}}}}') from None
    return {"current": current if current in contexts else None, "contexts": contexts}


def in_context(where: Where, env: Mapping[str, str]) -> tuple[Where, Mapping[str, str]]:
    """Return the options and the environment with the fields of the context that applies. --context has precedence over the environment, which
    has precedence over the current context."""
    stated = where.url or where.lab
    if stated or (where.context is None and any(env.get(name) for name in ("WARREN_URL", "SAND_API_URL", "WARREN_LAB"))):
        return where, env
    config = read_config(env)
    name = where.context if where.context is not None else config["current"]
    if name is None:
        return where, env
    if name not in config["contexts"]:
        raise Failure(f"context {name!r} does not exist (warren config list)")
    fields = config["contexts"][name]
    files = {f"WARREN_TLS_{part.upper()}": str(fields[part]) for part in ("cert", "key", "ca") if fields.get(part)}
    return Where(fields.get("url"), fields.get("lab")), {**env, **files}


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
    where, env = in_context(where, env)
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
