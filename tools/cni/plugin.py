#!/usr/bin/python3
"""`warren-cni`, the CNI plugin: hands a runtime's call to this host's agent (agent/cni/attachments.py) and prints its answer.

A runtime starts it twice for every container, so it imports little, and nothing that does not come with Python: this file alone,
executable and called `warren` in the runtime's plugin directory, is the plugin too.
"""

import json
import os
import socket
import sys

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
ENVIRONMENT = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH")
SOCKET = "/run/warren/agent.sock"
ANSWER_S = 60.0  # an attach takes milliseconds; the agent gives up long before
IO_FAILURE, NOT_DECODED, WRONG_CONFIG, TRY_LATER, NOT_READY, OURS = 5, 6, 7, 11, 50, 100
HELP = """warren-cni: attaches containers of podman, containerd, nerdctl and Nomad to Warren's networks (CNI 0.3.0 to 1.1.0).

Container runtimes start it, under the name that network configurations have as `type`:

  warren network create amber --ip-range 10.0.0.0/24
  ln -s "$(command -v warren-cni)" /opt/cni/bin/warren
  cat >/etc/cni/net.d/amber.conflist <<'END'
  {"cniVersion": "1.0.0", "name": "amber", "plugins": [
    {"type": "warren", "capabilities": {"portMappings": true, "mac": true, "ips": true}}]}
  END

More keys of a configuration: network (its name in Warren [name]), socket (the agent's [$WARREN_SOCKET, else /run/warren/agent.sock]),
acls, labels. By hand, as a runtime does it:

  echo '{"cniVersion": "1.0.0", "name": "amber", "type": "warren"}' |
    CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/c1 CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin warren-cni

Answers and errors are JSON on standard output, as the CNI specification has them; after an error it exits with 1.
"""


class Refused(Exception):
    """What the runtime is told: a code of the specification, or from 100 on of ours, and one line."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code, self.details = code, details


def main() -> int:
    """The console script: one command of the runtime. Exits with 0, or with 1 after an error as JSON."""
    if not os.environ.get("CNI_COMMAND"):
        print(HELP, end="")
        return 0 if sys.argv[1:] in (["--help"], ["-h"]) else 2
    version = VERSIONS[-1]
    try:
        config = _config()
        version = _said(config, version)
        if os.environ["CNI_COMMAND"] == "VERSION":
            answer = json.dumps({"cniVersion": version, "supportedVersions": VERSIONS})
        else:
            answer = _ask(config)
    except Refused as error:
        told = {"cniVersion": version, "code": error.code, "msg": str(error)}
        print(json.dumps(told | ({"details": error.details} if error.details else {})))
        return 1
    if answer:
        print(answer)
    return 0


def _config() -> object:
    """The network configuration on standard input. Raises `Refused`."""
    try:
        text = sys.stdin.buffer.read()
    except OSError as error:
        raise Refused(IO_FAILURE, f"standard input cannot be read: {error.strerror}") from None
    if not text.strip() and os.environ["CNI_COMMAND"] == "VERSION":
        return {}
    try:
        return json.loads(text)
    except ValueError as error:
        raise Refused(NOT_DECODED, f"the network configuration on standard input is not JSON: {error}") from None


def _said(config: object, otherwise: str) -> str:
    said = config.get("cniVersion") if isinstance(config, dict) else None
    return said if isinstance(said, str) and said else otherwise


def _ask(config: object) -> str:
    """What the agent answers: the result, or nothing. Raises `Refused` with its error."""
    path = config.get("socket") if isinstance(config, dict) else None
    if path is not None and (not isinstance(path, str) or not path.startswith("/")):
        raise Refused(WRONG_CONFIG, f"socket: {path!r}: expected the path of the agent's unix socket, such as {SOCKET}")
    path = path or os.environ.get("WARREN_SOCKET") or SOCKET
    body = json.dumps({"environment": {name: os.environ.get(name, "") for name in ENVIRONMENT}, "config": config}).encode()
    status, answer = _post(path, "/cni", body)
    if status < 400:
        return answer.decode()
    try:
        told = json.loads(answer)
        raise Refused(int(told.get("code", OURS)), str(told["error"]), str(told.get("details", "")))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Refused(OURS, f"the agent at {path} answers with {status} and no JSON: does another program serve it?") from None


def _post(path: str, resource: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to a POST over a unix socket. HTTP/1.0, so the body ends with the connection (RFC 9112, 6.3):
    the standard library's client takes longer to import than all else takes. Raises `Refused`."""
    away = NOT_READY if os.environ["CNI_COMMAND"] == "STATUS" else TRY_LATER
    head = f"POST {resource} HTTP/1.0\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = b""
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(ANSWER_S)
        try:
            agent.connect(path)
        except OSError as error:
            reason = f"the agent of this host does not listen on {path}: {error.strerror or error}"
            raise Refused(away, reason, "start warren-agent, or say its socket in the configuration's key `socket`") from None
        try:
            agent.sendall(head.encode() + body)
            while got := agent.recv(65536):
                answer += got
        except TimeoutError:
            raise Refused(away, f"the agent at {path} has not answered within {ANSWER_S:g} s") from None
        except OSError as error:
            raise Refused(away, f"the agent at {path} went away: {error.strerror or error}") from None
    status, _, rest = answer.partition(b"\r\n")
    words = status.split()
    if len(words) < 2 or not words[1].isdigit():
        raise Refused(away, f"the agent at {path} went away before it had answered")
    return int(words[1]), rest.partition(b"\r\n\r\n")[2]


if __name__ == "__main__":
    sys.exit(main())
