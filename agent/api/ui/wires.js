"use strict";
// Lines behind the hosts: tunnels between them, and mirror sessions between endpoints.

const WIRES = 28; // lines of a kind that are drawn; more are a number at each host
const CIPHERS = { wireguard: "WireGuard", ipsec: "IPsec" };
const BROKEN = { down: "nothing comes back", mtu: "large packets are lost" };

function svg(kind, attributes, text, parent) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function tunnels(endpoints) { // pairs of hosts that share networks
  const members = new Map(); // network -> hosts
  for (const e of endpoints) {
    if (!members.has(e.network)) members.set(e.network, new Set());
    members.get(e.network).add(e.hostname);
  }
  const pairs = new Map(); // "h1\nh2" -> networks
  for (const [network, hosts] of members) {
    const names = [...hosts].sort(natural);
    names.forEach((one, i) => names.slice(i + 1).forEach((other) => {
      const key = `${one}\n${other}`;
      pairs.set(key, [...(pairs.get(key) || []), network]);
    }));
  }
  return [...pairs].map(([key, networks]) => ({ ends: key.split("\n"), networks }));
}

function broken(t, hosts) { // what either end says of the other; the worse counts
  const words = t.ends.map((end, i) => hosts.get(end)?.tunnels?.broken[t.ends[1 - i]]);
  if (state.down.has(t.ends.join("\n"))) words.push("down");
  return ["down", "mtu"].find((word) => words.includes(word)) || "";
}

function wire(picture, used, copies, hosts) {
  const canvas = document.getElementById("wires");
  canvas.replaceChildren();
  const origin = canvas.getBoundingClientRect();
  const box = (element) => {
    const r = element.getBoundingClientRect();
    return { left: r.left - origin.left, right: r.right - origin.left, top: r.top - origin.top, bottom: r.bottom - origin.top, middle: (r.left + r.right) / 2 - origin.left };
  };
  const frames = new Map([...picture.querySelectorAll("[data-host]")].map((element) => [element.dataset.host, box(element)]));
  if (used.length <= WIRES) used.forEach((t, i) => tunnel(canvas, t, frames, hosts, i));
  const ends = new Map([...picture.querySelectorAll("[data-id]")].map((element) => [element.dataset.id, element]));
  const lines = copies.flatMap((c) => c.sources.map((source) => [c.name, ends.get(source), ends.get(c.target)]).filter(([, from, to]) => from && to));
  if (lines.length <= WIRES) lines.forEach(([name, from, to]) => copy(canvas, name, box(from), box(to)));
}

function tunnel(canvas, t, frames, hosts, number) {
  const [one, other] = t.ends.map((name) => frames.get(name)).sort((a, b) => a?.top - b?.top || a?.left - b?.left);
  if (!one || !other) return;
  const word = broken(t, hosts);
  const [d, x, y] = route(one, other, number);
  const cipher = cipherOf(t.ends, hosts);
  const kind = cipher ? CIPHERS[cipher] || cipher : "VXLAN";
  const style = `tunnel ${cipher ? "encrypted" : ""} ${word}`.replace(/ +/g, " ").trim();
  const line = svg("path", { class: style, d, "data-tunnel": t.ends.join(" "), "data-state": word, "data-cipher": cipher }, undefined, canvas);
  svg("title", {}, `${kind} ${t.ends.join(" - ")}: ${t.networks.join(", ")}${word ? `: ${BROKEN[word]}` : ""}`, line);
  const networks = t.networks.length > 2 ? `${t.networks.length} networks` : t.networks.join(", ");
  const label = cipher ? `${kind} ${networks}` : networks;
  const text = svg("text", { x, y, class: word ? "bad" : cipher ? "encrypted" : "" }, word ? `${label}: ${BROKEN[word]}` : label, canvas);
  if (cipher) lock(canvas, x - text.getComputedTextLength() / 2 - 12, y, word);
}

function lock(canvas, x, y, word) { // a padlock: few fonts have one
  const style = `lock ${word ? "bad" : ""}`.trim();
  svg("path", { class: style, d: `M ${x} ${y - 5} h 8 v 6 h -8 z` }, undefined, canvas);
  svg("path", { class: `${style} ring`, d: `M ${x + 1.5} ${y - 5} v -2.5 a 2.5 2.5 0 0 1 5 0 v 2.5` }, undefined, canvas);
}

function route(one, other, number) { // the path, and where its text stands
  if (Math.abs(one.top - other.top) < 2) { // side by side: above the hosts, higher for those farther apart
    const apart = Math.min(3, Math.round((other.left - one.left) / (one.right - one.left)));
    const [x1, x2] = [one.middle + 30 - 18 * apart + 40, other.middle - 30 + 18 * apart - 40];
    const y = one.top - 18 * apart + 4;
    const bend = 8;
    const d = `M ${x1} ${one.top} V ${y + bend} Q ${x1} ${y}, ${x1 + bend} ${y} H ${x2 - bend} Q ${x2} ${y}, ${x2} ${y + bend} V ${other.top}`;
    return [d, x1 + (x2 - x1) * (apart > 1 ? 0.3 + 0.2 * (number % 3) : 0.5), y - 5];
  }
  const x1 = one.middle + (number % 3 - 1) * 16;
  const x2 = other.middle + (number % 3 - 1) * 16;
  const near = other.top - one.bottom < 90;
  if (near) return [`M ${x1} ${one.bottom} C ${x1} ${one.bottom + 30}, ${x2} ${other.top - 30}, ${x2} ${other.top}`, (x1 + x2) / 2, (one.bottom + other.top) / 2 + 5];
  const side = Math.min(one.left, other.left) - 12; // past the hosts between them
  return [`M ${one.left} ${one.top + 20} C ${side} ${one.top + 40}, ${side} ${other.top}, ${other.left} ${other.top + 20}`, other.left + 40, other.top - 8];
}

function copy(canvas, name, from, to) { // behind the hosts; the source says the session's name
  const right = from.left < to.left;
  const [x1, x2] = [right ? from.right : from.left, right ? to.left : to.right];
  const [y1, y2] = [(from.top + from.bottom) / 2, (to.top + to.bottom) / 2];
  const bend = Math.max(24, Math.abs(x2 - x1) / 3) * (right ? 1 : -1);
  const line = svg("path", { class: "copy", "data-mirror": name, d: `M ${x1} ${y1} C ${x1 + bend} ${y1}, ${x2 - bend} ${y2}, ${x2} ${y2}` }, undefined, canvas);
  svg("title", {}, `mirror ${name}`, line);
}
