"""The colour of each network. A colour depends on the network's own VNI, so it stays when other networks come and go. Pure.

`agent/api/ui/colours.js` computes the same for the page."""

from __future__ import annotations

from collections.abc import Iterable
from colorsys import hls_to_rgb
from zlib import crc32

from tools.graph.nodes import NetworkNode

# twelve hues in an order that sets neighbours far apart; then the same in another tint; then the hues between them
HUES = (182, 33, 210, 125, 300, 2, 155, 60, 245, 90, 332, 272)
TINTS = ((0.82, 0.74), (0.70, 0.86), (0.48, 0.66))  # saturation, lightness: dark text is legible on all
BETWEEN = 8
SLOTS = len(HUES) * len(TINTS) * BETWEEN


def colours(networks: Iterable[NetworkNode]) -> dict[str, str]:
    """A light colour for each network, by its VNI, or by a hash of its name where a document leaves the VNI to Warren. Of two with the
    same colour the later VNI takes the next free one."""
    shades: dict[str, str] = {}
    taken: set[int] = set()
    for network in sorted(networks, key=lambda n: (n.vni is None, n.vni or 0, n.name)):
        slot = (crc32(network.name.encode()) if network.vni is None else network.vni) % SLOTS
        while slot in taken and len(taken) < SLOTS:
            slot = (slot + 1) % SLOTS
        taken.add(slot)
        shades[network.name] = _shade(slot)
    return shades


def _shade(slot: int) -> str:
    hue = HUES[slot % len(HUES)] + slot // (len(HUES) * len(TINTS)) * 30 / BETWEEN
    saturation, lightness = TINTS[slot // len(HUES) % len(TINTS)]
    return "#" + "".join(f"{round(part * 255):02x}" for part in hls_to_rgb(hue / 360 % 1, lightness, saturation))
