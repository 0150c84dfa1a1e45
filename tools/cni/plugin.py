#!/usr/bin/python3
"""`warren-cni` and `warren-netavark`, the plugins of CNI and netavark: pass a runtime's call to this host's agent (agent/cni/) and print the
answer.

A runtime starts it twice per container, so it imports little. It needs only the standard library: this file alone, executable and named
`warren` in the runtime's plugin directory, is both plugins too.
"""

import json
import os
import socket
import sys

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
ENVIRONMENT = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH")
SOCKET = "/run/warren/agent.sock"
VERSION = "0.1.0"  # Warren's
NETAVARK = ("create", "setup", "teardown", "info")
NETAVARK_API = "1.0.0"
ANSWER_S = 60.0  # an attach takes milliseconds; the agent gives up long before
IO_FAILURE, NOT_DECODED, WRONG_CONFIG, TRY_LATER, NOT_READY, OURS = 5, 6, 7, 11, 50, 100
HELP = """warren-cni: attaches containers of podman, containerd, nerdctl and Nomad to Warren's networks (CNI 0.3.0 to 1.1.0).

Container runtimes start it, under the name that network configurations have as `type`:

  warren network create amber --ip-range 10.0.0.0/24
  ln -s "$(command -v warren-cni)" /opt/cni/bin/warren
  cat >/etc/cni/net.d/amber.conflist <<'END'
  {"cniVersion": "1.0.0", "name": "amber", "plugins": [
    {"type": "warren", "capabilities": {"portMappings": true, "mac": true, "ips": true, "aliases": true}}]}
  END

More keys of a configuration: network (its name in Warren [name]), socket (the agent's [$WARREN_SOCKET, else /run/warren/agent.sock]),
acls, labels. By hand, as a runtime does it:

  echo '{"cniVersion": "1.0.0", "name": "amber", "type": "warren"}' |
    CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/c1 CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin warren-cni

Answers and errors are JSON on standard output, as the CNI specification has them; after an error it exits with 1.
"""


NETAVARK_HELP = """warren-netavark: attaches podman's containers (netavark 1.6 and later) to Warren's networks.

podman and netavark start it, under the name that is the network's driver:

  warren network create amber --ip-range 10.0.0.0/24
  mkdir -p /usr/local/libexec/netavark && ln -s "$(command -v warren-netavark)" /usr/local/libexec/netavark/warren
  podman network create --driver warren amber
  podman run --network amber ...

By hand, with the JSON of netavark's plugin API on standard input:

  warren-netavark create | setup NETNS | teardown NETNS | info
"""


class PluginError(Exception):
    """An error for the runtime: one line, and a code of the CNI specification or, from 100 on, one of Warren's."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code, self.details = code, details


def main() -> int:
    """The console script: serves one command of the runtime. Returns the exit code: 0, or 1 after an error as JSON."""
    if sys.argv[1:2] and sys.argv[1] in NETAVARK:
        return netavark()
    command = os.environ.get("CNI_COMMAND")
    if not command and sys.argv[1:] in (["--help"], ["-h"]):
        print(HELP, end="")
        return 0
    version = VERSIONS[-1]
    if not command:  # a probe: what the plugin is, for people, and its versions, for programs
        print(HELP, end="", file=sys.stderr)
        print(_versions(version))
        return 0
    try:
        config = _config(command)
        version = _version(config, version)
        answer = _versions(version) if command == "VERSION" else _cni(command, config)
    except PluginError as error:
        error_object = {"cniVersion": version, "code": error.code, "msg": str(error)}
        print(json.dumps(error_object | ({"details": error.details} if error.details else {})))
        return 1
    if answer:
        print(answer)
    return 0


def netavark() -> int:
    """The console script `warren-netavark`: serves one command of netavark or podman. Returns the exit code: 0, 1 after an error as
    JSON, or 2 after a wrong command line."""
    words = sys.argv[1:]
    if words == ["info"]:
        print(json.dumps({"version": VERSION, "api_version": NETAVARK_API}))
        return 0
    if words[:1] not in (["create"], ["setup"], ["teardown"]) or len(words) != (1 if words[0] == "create" else 2):
        print(NETAVARK_HELP, end="")
        return 0 if words in (["--help"], ["-h"]) else 2
    try:
        config = _config(words[0])
        network = (config if words[0] == "create" else config.get("network")) if isinstance(config, dict) else None
        options = network.get("options") if isinstance(network, dict) else None
        socket_path = options.get("socket") if isinstance(options, dict) else None
        body = {"command": words[0], "netns": "".join(words[1:]), "config": config}
        answer = _call_agent("/netavark", body, _socket(socket_path, "network.options.socket"), TRY_LATER)
    except PluginError as error:
        print(json.dumps({"error": str(error)}))
        return 1
    if answer:
        print(answer)
    return 0


def _versions(version: str) -> str:
    return json.dumps({"cniVersion": version, "supportedVersions": VERSIONS})


def _config(command: str) -> object:
    """The network configuration on standard input. Raises `PluginError`, but for VERSION, which needs none."""
    try:
        return json.loads(_standard_input(command))
    except (OSError, ValueError, RecursionError) as error:
        if command == "VERSION":
            return {}
        if isinstance(error, OSError):
            raise PluginError(IO_FAILURE, f"standard input cannot be read: {error.strerror}") from None
        raise PluginError(NOT_DECODED, f"the network configuration on standard input is not JSON: {error}") from None


def _standard_input(command: str) -> bytes:
    """Raises `OSError`. Python has no `stdin` when it is closed; a person's terminal has nothing for VERSION."""
    if sys.stdin is None:
        raise OSError(9, os.strerror(9))
    return b"" if command == "VERSION" and sys.stdin.isatty() else sys.stdin.buffer.read()


def _version(config: object, default: str) -> str:
    version = config.get("cniVersion") if isinstance(config, dict) else None
    return version if isinstance(version, str) and version else default


def _cni(command: str, config: object) -> str:
    """Ask the agent as a CNI plugin. Raises `PluginError`."""
    path = _socket(config.get("socket") if isinstance(config, dict) else None, "socket")
    body = {"environment": {name: os.environ.get(name, "") for name in ENVIRONMENT}, "config": config}
    return _call_agent("/cni", body, path, NOT_READY if command == "STATUS" else TRY_LATER)


def _socket(configured: object, key: str) -> str:
    """The path of the agent's socket. Raises `PluginError` if the configuration's is none."""
    if configured is None:
        return os.environ.get("WARREN_SOCKET") or SOCKET
    if not isinstance(configured, str) or not configured.startswith("/"):
        raise PluginError(WRONG_CONFIG, f"{key}: {configured!r}: expected the path of the agent's unix socket, such as {SOCKET}")
    return configured


def _call_agent(resource: str, request: object, path: str, unreachable: int) -> str:
    """Ask the agent; returns its result as text, empty for commands without one. Raises `PluginError` with the agent's error, or with
    the code `unreachable`."""
    status, answer = _post(path, resource, json.dumps(request).encode(), unreachable)
    if status < 400:
        return answer.decode()
    try:
        refusal = json.loads(answer)
        raise PluginError(int(refusal.get("code", OURS)), str(refusal["error"]), str(refusal.get("details", "")))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise PluginError(
            OURS, f"the agent at {path} answers with {status} and no JSON: does another program serve it?"
        ) from None


def _post(path: str, resource: str, body: bytes, unreachable: int) -> tuple[int, bytes]:
    """Status and body of the answer to a POST over a unix socket. Raises `PluginError`.

    HTTP/1.0, so the body ends with the connection (RFC 9112, 6.3). The standard library's client would take longer to import than all the
    rest of this program."""
    head = f"POST {resource} HTTP/1.0\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = b""
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(ANSWER_S)
        try:
            agent.connect(path)
        except OSError as error:
            reason = f"the agent of this host does not listen on {path}: {error.strerror or error}"
            raise PluginError(
                unreachable, reason, "start warren-agent, or name its socket in the configuration's key `socket`"
            ) from None
        try:
            agent.sendall(head.encode() + body)
            while piece := agent.recv(65536):
                answer += piece
        except TimeoutError:
            raise PluginError(unreachable, f"the agent at {path} has not answered within {ANSWER_S:g} s") from None
        except OSError as error:
            raise PluginError(unreachable, f"the agent at {path} went away: {error.strerror or error}") from None
    status, _, rest = answer.partition(b"\r\n")
    words = status.split()
    if len(words) < 2 or not words[1].isdigit():
        raise PluginError(unreachable, f"the agent at {path} went away before it had answered")
    return int(words[1]), rest.partition(b"\r\n\r\n")[2]


if __name__ == "__main__":
    sys.exit(main())
