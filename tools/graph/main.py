"""`graph_overlay`: the topology, a packet's way or a host's tables as a picture, from the agent or from an export."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import graphviz
import networkx as nx
import typer

from specs.documents.document import parse
from specs.documents.text import load
from tools.cli import usage
from tools.cli.client import Failure, Where, connect
from tools.cli.documents import read
from tools.graph.boxes import boxes
from tools.graph.colours import colours
from tools.graph.inside import journey, pipeline
from tools.graph.mermaid import mermaid
from tools.graph.nodes import Topology
from tools.graph.tiles import tiles
from tools.graph.topology import graph, restricted, topology
from warren.client import Error, Host
from warren.errors import Invalid

if TYPE_CHECKING:
    from warren.client import Client

T = TypeVar("T")
PICTURES = ("png", "svg", "pdf")
FORMATS = (*PICTURES, "dot", "json", "mmd")
Detail = Literal["auto", "boxes", "list", "counts"]
# what fits on a page: more is a coarser picture (hosts, endpoints of one host; endpoints)
BOXES_HOSTS, BOXES_ENDPOINTS, LISTED = 4, 5, 160
BOXES_HOSTS_OF_SITES = 6  # only boxes have lines, which show what is encrypted

EXAMPLES = (
    "Examples: graph_overlay -o overlay.png; graph_overlay --path web db -o way.svg; graph_overlay --pipeline h1 -o tables.png"
)


def overlay(
    output: Annotated[Path, typer.Option("--output", "-o", help=f"The file; its ending says what it is: {', '.join(FORMATS)}")],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A document as `warren export` prints it (- is standard input); else an agent is asked."),
    ] = None,
    network: Annotated[str | None, typer.Option(help="Only this network, by name.")] = None,
    host: Annotated[str | None, typer.Option(help="Only this host and its tunnels.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only the networks of this tenant.")] = None,
    path: Annotated[
        tuple[str, str] | None, typer.Option(metavar="FROM TO", help="A packet's way between two endpoints, table by table.")
    ] = None,
    tcp: Annotated[int | None, typer.Option(metavar="PORT", help="With --path: TCP to this port instead of a ping.")] = None,
    tables: Annotated[str | None, typer.Option("--pipeline", metavar="HOST", help="A host's tables with their flows.")] = None,
    detail: Annotated[
        Detail, typer.Option(help="boxes: each endpoint; list: hosts with a line for each; counts: numbers only.")
    ] = "auto",
    url: Annotated[str | None, typer.Option(help="The agent, as `warren --url`.")] = None,
    lab: Annotated[str | None, typer.Option(help="The laboratory, as `warren --lab`.")] = None,
) -> None:
    """Draw hosts, networks, endpoints and the tunnels in use."""
    ending = output.suffix.removeprefix(".")
    if ending not in FORMATS:
        raise Failure(f"--output {output}: expected a file that ends in one of {', '.join(FORMATS)}")
    try:
        if path is not None:
            src, dst = path
            answer = _agent(url, lab, lambda agent: agent.trace(src, dst, "icmp" if tcp is None else "tcp", tcp)).raw
            _write(output, ending, lambda: journey(answer), answer)
        elif tables is not None:
            host_name = tables
            flows = [dict(flow.raw) for flow in _agent(url, lab, lambda agent: agent.flows(host_name))]
            _write(output, ending, lambda: pipeline(tables, flows), flows)
        else:
            whole = _only(_offline(source) if source is not None else _agent(url, lab, _online), network, host, tenant)
            if ending == "mmd":
                output.write_text(mermaid(whole, colours(whole.networks)))
            else:
                _write(output, ending, lambda: picture(whole, detail), nx.node_link_data(graph(whole), edges="edges"))
    except graphviz.ExecutableNotFound:
        raise Failure("Graphviz' program `dot` is not there (Debian: apt install graphviz)") from None
    except graphviz.CalledProcessError as error:
        raise Failure(str(error)) from None


def _only(whole: Topology, network: str | None, host: str | None, tenant: str | None) -> Topology:
    try:
        return restricted(whole, network, host, tenant)
    except ValueError as error:
        raise Failure(str(error)) from None


def picture(whole: Topology, detail: Detail = "auto") -> graphviz.Digraph:
    """The topology's picture, as coarse as its size asks for."""
    if detail == "auto":
        crowd = max((len(whole.at(h.name)) for h in whole.hosts), default=0)
        small = len(whole.hosts) <= (BOXES_HOSTS_OF_SITES if whole.sites() else BOXES_HOSTS) and crowd <= BOXES_ENDPOINTS
        detail = "boxes" if small else "list" if len(whole.endpoints) <= LISTED else "counts"
    shades = colours(whole.networks)
    return boxes(whole, shades) if detail == "boxes" else tiles(whole, shades, detail == "counts")


def _write(output: Path, ending: str, draw: Callable[[], graphviz.Digraph], data: Any) -> None:
    if ending == "json":
        output.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    elif ending == "dot":
        output.write_text(draw().source)
    elif ending in PICTURES:
        output.write_bytes(draw().pipe(format=ending))
    else:
        raise Failure(f"--output {output}: only the topology can be written as .{ending}")


def _offline(source: Path) -> Topology:
    text = read(str(source))
    try:
        parse(text)
        document = load(text) or {}
    except Invalid as error:
        raise Failure(f"{source}: {error}") from None
    if not any(document.get(section) for section in ("hosts", "networks", "endpoints")):
        raise Failure(f"{source}: expected a document with hosts, networks or endpoints, such as `warren export` prints")
    return topology(document)


def _online(agent: Client) -> Topology:
    document = load(agent.export(), size_limit=sys.maxsize) or {}
    endpoints = [dict(endpoint.raw) for endpoint in agent.endpoints(states=True)]
    return topology(document, endpoints, [_report(agent, host) for host in agent.status().hosts])


def _report(agent: Client, host: Host) -> dict[str, Any]:
    """What a host reports; if it has an outside address, also its encrypted tunnels and the drops of its guard."""
    report = dict(host.raw)
    if report.get("outside") and host.agent == "alive":
        with contextlib.suppress(Error):  # the picture is drawn without them
            report["encryption"] = [tunnel.raw for tunnel in agent.encryption(host.name)]
            report["dropped"] = agent.dropped(host.name)
    return report


def _agent(url: str | None, lab: str | None, question: Callable[[Client], T]) -> T:
    with connect(Where(url, lab)) as agent:
        return question(agent)


def main(arguments: list[str] | None = None) -> None:
    """The console script."""
    app = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, context_settings={"help_option_names": list(usage.HELP_OPTIONS)}
    )
    app.command(epilog=EXAMPLES)(overlay)
    command = typer.main.get_command(app)
    usage.tidy(command)
    sys.exit(usage.run(command, "graph_overlay", arguments))
