"use strict";
// A network's colour follows from its VNI, so it stays when others come and go. The pictures use the same: tools/graph/colours.py.

const HUES = [182, 33, 210, 125, 300, 2, 155, 60, 245, 90, 332, 272];
const TINTS = [[82, 74], [70, 86], [48, 66]]; // saturation, lightness: dark text is legible on all
const BETWEEN = 8;

function colours(networks) { // Map: name -> colour; of two with the same colour the later VNI takes the next free one
  const slots = HUES.length * TINTS.length * BETWEEN;
  const [shades, taken] = [new Map(), new Set()];
  for (const network of [...networks].sort((a, b) => a.vxlan_vni - b.vxlan_vni)) {
    let slot = network.vxlan_vni % slots;
    while (taken.has(slot) && taken.size < slots) slot = (slot + 1) % slots;
    taken.add(slot);
    const hue = HUES[slot % HUES.length] + Math.floor(slot / (HUES.length * TINTS.length)) * 30 / BETWEEN;
    const [saturation, lightness] = TINTS[Math.floor(slot / HUES.length) % TINTS.length];
    shades.set(network.name, `hsl(${hue % 360} ${saturation}% ${lightness}%)`);
  }
  return shades;
}
