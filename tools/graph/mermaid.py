"""The topology as Mermaid's flowchart, for documents that are read in a browser. Pure."""

from __future__ import annotations

from tools.graph.nodes import Topology


def mermaid(whole: Topology, shades: dict[str, str]) -> str:
    """The flowchart. Nodes have short ids of their own: names may have any letters."""
    ids = {e.key: f"e{i}" for i, e in enumerate(whole.endpoints)}
    bridges = {h.name: f"b{i}" for i, h in enumerate(whole.hosts)}
    lines = ["flowchart TB"]
    for i, host in enumerate(whole.hosts):
        lines += [f'  subgraph s{i}["{_safe(host.name)}"]', f'    b{i}["br-warren<br/>VTEP {_safe(host.vtep)}"]']
        for endpoint in whole.at(host.name):
            parts = [endpoint.name, endpoint.ipv4, endpoint.ipv6, endpoint.mac, endpoint.seat]
            port = f'|"{endpoint.ofport}"|' if endpoint.ofport is not None else ""
            lines.append(f'    b{i} ---{port} {ids[endpoint.key]}["{"<br/>".join(_safe(t) for t in parts if t)}"]')
        lines.append("  end")
    first = sum(len(whole.at(host.name)) for host in whole.hosts)  # links are numbered as they come
    for number, tunnel in enumerate(whole.tunnels, first):
        words = ", ".join(tunnel.networks) if not tunnel.cipher else f"{tunnel.cipher}: {', '.join(tunnel.networks)}"
        lines.append(f'  {bridges[tunnel.one]} ===|"{_safe(words)}"| {bridges[tunnel.other]}')
        if tunnel.broken:
            lines.append(f"  linkStyle {number} stroke:#c62828,stroke-dasharray:4")
    for number, session in enumerate(whole.copies):
        target = ids.get(session.target, f"t{number}")
        if session.target not in ids:
            lines.append(f'  {target}["{_safe(session.target)}"]')
        lines += [f'  {ids[source]} -.->|"{_safe(session.name)}"| {target}' for source in session.sources]
    for number, network in enumerate(whole.networks):
        members = [ids[e.key] for e in whole.endpoints if e.network == network.name]
        colour = shades[network.name]
        if members and colour.startswith("#"):
            lines += [f"  classDef n{number} fill:{colour},color:#000", f"  class {','.join(members)} n{number}"]
    return "\n".join(lines) + "\n"


def _safe(text: str) -> str:
    return "".join(f"#{ord(letter)};" if letter in '"<>#&`|' else letter for letter in text)
