"""What both sides of the comparison have in common: what is measured of each, and how processor time and lost packets are counted."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from benchmarks.attach import until_answered
from benchmarks.laboratory import inside
from tools.lab import run

NETWORK = {"name": "bench", "ip_range": "10.64.0.0/15", "ipv6_range": "fd00::/64"}
RULES = 50  # of the one ACL
REMOTE = 100_000  # the number of the first endpoint that comes and goes on a host that does not exist
PING_EVERY_S = "0.005"

Sample = dict[str, float]


class Side(Protocol):
    """A controller with its database, two hosts and the network."""

    name: str

    def seed(self, upto: int) -> None:
        """Let the network have so many endpoints that are records only."""

    def attach(self, number: int) -> Sample:
        """Attach one more endpoint on h1, ping h2 from it, and remove it again."""

    def remote(self, number: int) -> list[float]:
        """Let an endpoint come and go on a host that does not exist; milliseconds until h1's last flow of each has changed."""

    def rule(self, number: int) -> Sample:
        """Change one rule of the ACL, in the database and by a client's request; milliseconds until the last flow of h1 has changed."""

    def restart(self) -> Sample:
        """Restart h1's controller."""

    def memory(self) -> Sample:
        """Bytes of its processes."""

    def pids(self) -> Iterable[int]:
        """All its processes, those of the database and of both Open vSwitches included."""

    def flows(self) -> int:
        """How many flows h1 has."""

    def end(self) -> None:
        """End what is not the laboratory's."""


class Watch:
    """Time since its construction, and processor time of a side's processes and of this one, their client."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.pids = tuple(pids)
        before_ms = sum(map(processor_ms, self.pids))
        self.before_ms = time.process_time() * 1000 + before_ms
        self.began = time.monotonic()

    def ms(self) -> float:
        """Milliseconds since then."""
        return (time.monotonic() - self.began) * 1000

    def processor_ms(self) -> float:
        """Milliseconds of processor time since then."""
        client_ms = time.process_time() * 1000  # first: the reading that follows is no work of the client's
        return client_ms + sum(map(processor_ms, self.pids)) - self.before_ms


def processor_ms(pid: int) -> float:
    """Milliseconds that all threads of a process have run."""
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[0])
        except OSError:  # the thread has ended
            continue
    return total / 1e6


def rules(number: int) -> list[dict[str, Any]]:
    """The ACL's rules in Warren's language, the third of them changed for each `number`."""
    third = {"ipv4_dst": f"192.0.{number // 250 % 250}.{number % 250 + 1}", "tcp_dst": 1002}
    plain: list[dict[str, Any]] = [{"ipv4_dst": f"10.64.{n}.0/24", "tcp_dst": 1000 + n} for n in range(RULES - 1)]
    matches: list[dict[str, Any]] = [*plain[:2], third, *plain[3:]]
    denying = [{"eth_type": 0x800, "ip_proto": 6, **match, "actions": {"allow": 0}} for match in matches]
    return [*denying, {"actions": {"allow": 1}}]


def ping_once(netns: str, target: str) -> None:
    """Send pings from a namespace until one is answered."""
    inside(netns, lambda: until_answered(target))


@contextmanager
def pinging(netns: str, target: str) -> Iterator[Callable[[], float]]:
    """A ping every 5 ms while something goes on; it gives the function that ends it and returns how many were lost."""
    command = run.in_netns(netns, "ping", "-n", "-i", PING_EVERY_S, target)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ping:
        try:

            def end() -> float:
                ping.send_signal(signal.SIGINT)
                return float(lost(ping.communicate(timeout=10)[0]))

            yield end
        finally:
            ping.kill()


def lost(text: str) -> int:
    """How many echo requests were not answered of those before the last that was, from ping(8)'s output."""
    answered = {int(number) for number in re.findall(r"^\d+ bytes from .*icmp_seq=(\d+) ", text, re.M)}
    if not answered:
        raise run.LabError("no ping was answered")
    return max(answered) - len(answered)
