"""warren capture: tcpdump of any endpoint on any host, from here."""

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

from tools.cli.client import Client, Failure, Stream
from tools.cli.context import client

NAME_HEADER = "x-warren-capture"
ALIVE_S = 3.0  # how often the agent is told that somebody still reads
EMPTY = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")  # a pcap file of no frames, Ethernet
EPILOG = (
    "Examples: warren capture web-1; warren capture amber/db-1 -w db.pcap tcp port 5432; warren capture web-1 -w - | wireshark -k -i -; "
    "warren capture web-1 --tcp 80 -c 10 -- -vv -e"
)


def capture(
    context: typer.Context,
    endpoint: Annotated[str, typer.Argument(help="Whose packets: name, NETWORK/NAME or id; on any host.")],
    expression: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILTER]...", help="tcpdump's filter, pcap-filter(7); after -- also tcpdump's options."),
    ] = None,
    write: Annotated[
        str | None, typer.Option("-w", "--write", metavar="FILE", help="Write a pcap file; - is standard output.")
    ] = None,
    count: Annotated[int | None, typer.Option("-c", "--count", min=1, help="End after so many packets.")] = None,
    direction: Annotated[str, typer.Option(help="in: what it sends; out: what it receives; both.")] = "both",
    tcp: Annotated[int | None, typer.Option(metavar="PORT", help="Copy only TCP from or to this port.")] = None,
    udp: Annotated[int | None, typer.Option(metavar="PORT", help="Copy only UDP from or to this port.")] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Copy only packets with this, as rules of ACLs say it; may be repeated."),
    ] = None,
    snap: Annotated[int | None, typer.Option(min=14, max=65_535, help="The first so many bytes of each packet.")] = None,
) -> None:
    """Look at an endpoint's packets, on whichever host it is: tcpdump prints them, or -w keeps them.

    A temporary mirror session carries the copies to the agent that this command talks to; Ctrl-C ends it. What FILTER leaves out is
    copied and then dropped here; --tcp, --udp, --match and --direction choose at the source.
    """
    command = ["tcpdump", "-r", "-", "-n", *(expression or ())]
    _check(command)
    body: dict[str, Any] = {"endpoint": endpoint, "direction": direction}
    chosen = _match(tcp, udp, match or [])
    body |= {name: value for name, value in (("match", chosen), ("snap", snap)) if value is not None}
    options = [] if count is None else ["-c", str(count)]
    options += ["-l"] if write is None else ["-U", "-w", "-"]
    agent = client(context)
    with _output(write) as out, agent.stream("/captures", body) as stream:
        name = stream.headers.get(NAME_HEADER, "")
        print(f"capturing {endpoint}; Ctrl-C ends it", file=sys.stderr, flush=True)
        # in a session of its own: Ctrl-C is for this command, tcpdump ends when all packets are printed
        dump = subprocess.Popen(
            [*command[:4], *options, *command[4:]],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        told = threading.Thread(target=_relay_errors, args=(dump,), daemon=True)
        told.start()
        over = threading.Event()
        # not by an exception in the middle of a packet: the agent is first asked how many there were
        before = signal.signal(signal.SIGINT, lambda _number, _frame: over.set())
        threading.Thread(target=_end_with, args=(dump, stream), daemon=True).start()
        alive = threading.Thread(target=_stay_alive, args=(agent, name, stream, over), daemon=True)
        alive.start()
        try:
            _carry(stream, dump, over)
        finally:
            over.set()
            with contextlib.suppress(BrokenPipeError):
                dump.stdin.close()  # type: ignore[union-attr]
            dump.wait()
            told.join(1)
            signal.signal(signal.SIGINT, before)
    if dump.returncode not in (0, -13):
        raise typer.Exit(dump.returncode if dump.returncode > 0 else 1)


def _check(command: list[str]) -> None:
    """A wrong filter is told before anything is copied. Raises `Failure`."""
    try:
        done = subprocess.run([*command[:3], "-d", *command[3:]], input=EMPTY, capture_output=True, timeout=10)
    except FileNotFoundError:
        raise Failure("tcpdump is not here (Debian: apt-get install tcpdump)") from None
    except subprocess.TimeoutExpired:
        raise Failure("tcpdump does not answer") from None
    if done.returncode:
        lines = [
            line for line in done.stderr.decode(errors="replace").splitlines() if line and not line.startswith("reading from")
        ]
        raise Failure(f"FILTER: {lines[0] if lines else 'tcpdump refuses it'}")


def _match(tcp: int | None, udp: int | None, fields: list[str]) -> list[dict[str, Any]] | None:
    """The filter at the source, as a mirror session has it; a port is looked for at both ends."""
    ports = {proto: port for proto, port in (("tcp", tcp), ("udp", udp)) if port is not None}
    if len(ports) > 1:
        raise Failure("--tcp and --udp: one of the two")
    found: dict[str, Any] = {}
    for text in fields:
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise Failure(f"--match {text!r}: expected FIELD=VALUE, such as dl_type=0x0806")
        with contextlib.suppress(ValueError):
            found[name] = int(value, 0)
            continue
        found[name] = value
    for proto, port in ports.items():
        return [{"proto": proto, f"{proto}_{end}": port, **found} for end in ("dst", "src")]
    return [found] if found else None


@contextlib.contextmanager
def _output(write: str | None) -> Iterator[IO[bytes] | None]:
    """Where tcpdump writes to; None is where this command does."""
    if write is None or write == "-":
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(write).open("wb"))
        except OSError as error:
            raise Failure(f"-w {write}: {error.strerror}") from None
        yield file


def _carry(stream: Stream, dump: subprocess.Popen[bytes], over: threading.Event) -> None:
    """The packets to tcpdump, until either end is gone. Raises `Failure` when it is not this one."""
    assert dump.stdin is not None
    for piece in stream:
        try:
            dump.stdin.write(piece)
            dump.stdin.flush()
        except BrokenPipeError:
            return
    if dump.poll() is None and not over.is_set():
        raise Failure("the capture is over: the endpoint is gone, or the agent ends")


def _end_with(dump: subprocess.Popen[bytes], stream: Stream) -> None:
    """tcpdump may have had enough while no packet comes."""
    dump.wait()
    stream.cut()


def _stay_alive(agent: Client, name: str, stream: Stream, over: threading.Event) -> None:
    """Tell the agent now and then that somebody reads, and at the end ask what there was."""
    while True:
        ends = over.wait(ALIVE_S)
        with contextlib.suppress(Failure):
            found = agent.put(f"/captures/{name}")
            if not ends:
                continue
            lost = f", {found['dropped']} dropped because they came too fast" if found["dropped"] else ""
            print(f"{found['packets']} packets copied{lost}", file=sys.stderr)
        stream.cut()
        return


def _relay_errors(dump: subprocess.Popen[bytes]) -> None:
    for line in dump.stderr or ():
        if not line.startswith(b"reading from file"):
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
