"""`graph_overlay`: the topology as PNG, SVG, PDF or DOT, from the agent or from an export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from tools.graph.topology import draw, topology

FORMATS = ("png", "svg", "pdf", "dot")


def overlay(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file; its ending says what it is: .png .svg .pdf .dot")],
    source: Annotated[
        Path | None, typer.Option("--from", help="A document as `warren export` prints it; else the agent is asked.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Only this network.")] = None,
    host: Annotated[str | None, typer.Option(help="Only this host.")] = None,
) -> None:
    """Draw hosts, endpoints and the tunnels in use.  Example: graph_overlay --from examples/demo.yaml -o demo.png"""
    try:
        ending = output.suffix.removeprefix(".")
        if ending not in FORMATS:
            raise ValueError(f"{output}: the ending must be one of {', '.join(FORMATS)}")
        document = _restricted(_read(source), network, host)
        drawn = draw(topology(document))
        if ending == "dot":
            output.write_text(drawn.source)
        else:
            output.write_bytes(drawn.pipe(format=ending))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        print(f"graph_overlay: {' '.join(str(error).split())}", file=sys.stderr)
        raise typer.Exit(2) from None


def _read(source: Path | None) -> dict[str, Any]:
    if source is None:
        from cli.client import Client, Failure, Where  # only when an agent is asked

        try:
            text = Client(Where()).get("/export")
        except Failure as error:
            raise ValueError(str(error)) from None
    else:
        text = source.read_text()
    document = yaml.safe_load(text) or {}
    if not isinstance(document, dict):
        raise ValueError(f"{source}: expected a document with hosts, networks, endpoints")
    return document


def _restricted(document: dict[str, Any], network: str | None, host: str | None) -> dict[str, Any]:
    endpoints = [
        e
        for e in document.get("endpoints", ())
        if (network is None or network in (e.get("network"), e.get("network_id"))) and (host is None or e["host"] == host)
    ]
    hosts = [h for h in document.get("hosts", ()) if host is None or h["name"] == host]
    return {**document, "endpoints": endpoints, "hosts": hosts}


def main() -> None:
    """The console script."""
    typer.run(overlay)
