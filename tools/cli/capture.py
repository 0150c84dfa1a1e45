"""warren capture: runs tcpdump here on the packets of any endpoint on any host."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from tools.cli.client import Failure
from tools.cli.context import client
from warren.client import Capture, Error

FINISH_S = 5.0  # how long the agent may take, at the end of a capture, to say how many packets it copied
EMPTY = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")  # a pcap file of no frames, Ethernet
EPILOG = (
    "Examples: warren capture web-1; warren capture amber/db-1 -w db.pcap tcp port 5432; warren capture web-1 -w - | wireshark -k -i -; "
    "warren capture web-1 --tcp 80 -c 10 -- -vv -e"
)


def capture(
    context: typer.Context,
    endpoint: Annotated[str, typer.Argument(help="Name, NETWORK/NAME or id; on any host.")],
    expression: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILTER", help="Filter of tcpdump, see pcap-filter(7); after -- also tcpdump's options."),
    ] = None,
    write: Annotated[
        str | None, typer.Option("-w", "--write", metavar="FILE", help="Write a pcap file; - is standard output.")
    ] = None,
    count: Annotated[int | None, typer.Option("-c", "--count", min=1, help="Stop after this many packets.")] = None,
    direction: Annotated[str, typer.Option(help="in: packets that it sends; out: packets that it receives; both.")] = "both",
    tcp: Annotated[int | None, typer.Option(metavar="PORT", help="Copy only TCP from or to this port.")] = None,
    udp: Annotated[int | None, typer.Option(metavar="PORT", help="Copy only UDP from or to this port.")] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE", help="Copy only packets with this field, named as in rules of ACLs; may be repeated."
        ),
    ] = None,
    snap: Annotated[int | None, typer.Option(min=14, max=65_535, help="Copy only this many bytes of each packet.")] = None,
) -> None:
    """Print or save the packets of an endpoint, whichever host it is on: tcpdump prints them, -w saves them.

    A temporary mirror session carries copies to the agent that this command talks to. Ctrl-C ends it. --tcp, --udp, --match and --direction
    choose packets at the source. FILTER chooses here, after packets were copied.
    """
    command = ["tcpdump", "-r", "-", "-n", *(expression or ())]
    _check(command)
    chosen = _match(tcp, udp, match or [])
    options = [] if count is None else ["-c", str(count)]
    options += ["-l"] if write is None else ["-U", "-w", "-"]
    agent = client(context)
    with _output(write) as out, agent.capture(endpoint, direction=direction, match=chosen, snap=snap) as packets:
        print(f"capturing {endpoint}; Ctrl-C ends it", file=sys.stderr, flush=True)
        # in a session of its own: Ctrl-C is for this command, tcpdump ends when all packets are printed
        dump = subprocess.Popen(
            [*command[:4], *options, *command[4:]],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        errors = threading.Thread(target=_relay_errors, args=(dump,), daemon=True)
        errors.start()
        over = threading.Event()
        # Ctrl-C raises no exception in the middle of a packet: the agent is asked first how many packets it copied
        before = signal.signal(signal.SIGINT, lambda _number, _frame: over.set())
        threading.Thread(target=_end_with, args=(dump, packets), daemon=True).start()
        finisher = threading.Thread(target=_finish, args=(packets, over), daemon=True)
        finisher.start()
        try:
            _carry(packets, dump, over)
        finally:
            over.set()
            with contextlib.suppress(BrokenPipeError):
                dump.stdin.close()  # type: ignore[union-attr]
            dump.wait()
            errors.join(1)
            finisher.join(FINISH_S)  # it uses the agent's client, which is closed next
            signal.signal(signal.SIGINT, before)
    if dump.returncode not in (0, -13):
        raise typer.Exit(dump.returncode if dump.returncode > 0 else 1)


def _check(command: list[str]) -> None:
    """Let tcpdump check the filter before anything is copied. Raises `Failure`."""
    try:
        done = subprocess.run([*command[:3], "-d", *command[3:]], input=EMPTY, capture_output=True, timeout=10)
    except FileNotFoundError:
        raise Failure("tcpdump is not installed (Debian: apt-get install tcpdump)") from None
    except subprocess.TimeoutExpired:
        raise Failure("tcpdump does not answer") from None
    if done.returncode:
        lines = [
            line for line in done.stderr.decode(errors="replace").splitlines() if line and not line.startswith("reading from")
        ]
        raise Failure(f"FILTER: {lines[0] if lines else 'tcpdump refuses it'}")


def _match(tcp: int | None, udp: int | None, fields: list[str]) -> list[dict[str, Any]] | None:
    """The filter at the source, as in a mirror session; a port may be the packet's source or destination. Raises `Failure`."""
    ports = {proto: port for proto, port in (("tcp", tcp), ("udp", udp)) if port is not None}
    if len(ports) > 1:
        raise Failure("give one of --tcp, --udp")
    chosen: dict[str, Any] = {}
    for text in fields:
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise Failure(f"--match {text!r}: expected FIELD=VALUE, such as dl_type=0x0806")
        with contextlib.suppress(ValueError):
            chosen[name] = int(value, 0)
            continue
        chosen[name] = value
    for proto, port in ports.items():
        return [{"proto": proto, f"{proto}_{end}": port, **chosen} for end in ("dst", "src")]
    return [chosen] if chosen else None


@contextlib.contextmanager
def _output(write: str | None) -> Iterator[IO[bytes] | None]:
    """Return the file that tcpdump writes to, or None for standard output."""
    if write is None or write == "-":
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(write).open("wb"))
        except OSError as error:
            raise Failure(f"-w {write}: {error.strerror}") from None
        yield file


def _carry(packets: Capture, dump: subprocess.Popen[bytes], over: threading.Event) -> None:
    """Write the packets to tcpdump until one side ends. Raises `Failure` when the agent's side ends first."""
    assert dump.stdin is not None
    for piece in packets:
        try:
            dump.stdin.write(piece)
            dump.stdin.flush()
        except BrokenPipeError:
            return
    if dump.poll() is None and not over.is_set():
        raise Failure("the capture has ended: the endpoint was deleted, or the agent stopped")


def _end_with(dump: subprocess.Popen[bytes], packets: Capture) -> None:
    """End the capture when tcpdump ends, even while no packet comes."""
    dump.wait()
    packets.cut()


def _finish(packets: Capture, over: threading.Event) -> None:
    """When the command ends, print how many packets were copied, and end the capture."""
    over.wait()
    with contextlib.suppress(Error, RuntimeError):  # RuntimeError: the agent was silent until the command closed its client
        counts = packets.counts()
        lost = f", {counts.dropped} dropped because they came too fast" if counts.dropped else ""
        print(f"{counts.packets} packets copied{lost}", file=sys.stderr)
    packets.cut()


def _relay_errors(dump: subprocess.Popen[bytes]) -> None:
    for line in dump.stderr or ():
        if not line.startswith(b"reading from file"):
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
