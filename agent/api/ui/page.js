"use strict";
// The topology, from GET /status, /networks and /endpoints; a trace from POST /trace, which sends no packet. All text is set as text.

const POLL_MS = 2000;
const COLOURS = ["#f6b44b", "#6aa9e9", "#8fd19e", "#d99ad9", "#f08a7a", "#9ad9d4", "#c9c26a", "#b3a3f0"];
const TILE = { width: 210, head: 54, line: 30, gap: 50, top: 60 };
const LISTED = 14; // endpoints of a host that are drawn each; more are numbers by network
const BROKEN = { down: "nothing comes back", mtu: "large packets are lost" };
const DRAWN = 60; // hosts that are drawn; of more, those that are not well come first
const READ = 5000; // endpoints up to which all are read; of more, each host has its numbers by state
const TUNNELS = 28; // tunnels that are drawn; more are a number at each host

const state = { hosts: [], networks: [], endpoints: [], total: 0, read: "", only: "", chosen: [], polls: 0 };
const $ = (id) => document.getElementById(id);

async function ask(path, body) {
  const options = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
  const answer = await fetch(path, options);
  const data = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(data.error || answer.statusText), { answered: true });
  return data;
}

async function poll() {
  try {
    const status = await ask("status");
    const now = JSON.stringify(status);
    if (now !== state.read) { // the large lists only when something has changed
      state.total = status.hosts.reduce((sum, host) => sum + states(host).reduce((n, [, count]) => n + count, 0), 0);
      const reading = state.total > READ ? { endpoints: [] } : ask("endpoints?states=true");
      const [networks, endpoints] = await Promise.all([ask("networks"), reading]);
      state.hosts = status.hosts.sort((a, b) => natural(a.name, b.name));
      const named = networks.networks.map((n) => ({ ...n, name: n.unique_name })); // other clients may give one name to several
      state.networks = named.sort((a, b) => natural(a.name, b.name));
      state.endpoints = endpoints.endpoints;
      state.read = now;
      draw();
    }
    $("trouble").textContent = "";
  } catch (error) {
    state.read = ""; // what is shown is old: read all once it is back
    $("trouble").textContent = error.answered ? `what is shown may be old: ${error.message}`
      : `the agent does not answer: ${error.message}`;
  }
  state.polls += 1;
  document.body.dataset.polls = state.polls;
  setTimeout(poll, POLL_MS);
}

const states = (host) => Object.entries(host?.endpoints || {});
const natural = (a, b) => a.localeCompare(b, undefined, { numeric: true });
const called = (e) => `${e.network}/${e.name || e.id}`;

function colour(network) {
  const at = state.networks.findIndex((n) => n.name === network);
  return at < COLOURS.length ? COLOURS[Math.max(at, 0)] : `hsl(${(at * 222.5) % 360} 60% 78%)`;
}

function make(kind, attributes, text, parent) {
  const found = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  if (text !== undefined) found.textContent = text;
  if (parent) parent.append(found);
  return found;
}

function tunnels() {
  const members = new Map(); // network -> hosts
  for (const e of state.endpoints) {
    if (state.only && e.network !== state.only) continue;
    if (!members.has(e.network)) members.set(e.network, new Set());
    members.get(e.network).add(e.hostname);
  }
  const found = new Map(); // "h1 h2" -> networks
  for (const [network, hosts] of members) {
    const names = [...hosts].sort(natural);
    names.forEach((one, i) => names.slice(i + 1).forEach((other) => {
      const key = `${one}\n${other}`;
      found.set(key, [...(found.get(key) || []), network]);
    }));
  }
  return [...found].map(([key, networks]) => ({ ends: key.split("\n"), networks }));
}

function draw() {
  const picture = $("picture");
  const at = new Map(state.hosts.map((h) => [h.name, []]));
  for (const e of state.endpoints) {
    if (!at.has(e.hostname)) at.set(e.hostname, []);
    at.get(e.hostname).push(e);
  }
  const all = [...at.keys()].sort(natural);
  const few = all.length <= DRAWN;
  const named = new Map(state.hosts.map((h) => [h.name, h]));
  const isTroubled = (name) => !named.has(name) || trouble(named.get(name)).length > 0;
  const names = few ? all : [...all.filter(isTroubled), ...all.filter((name) => !isTroubled(name))].slice(0, DRAWN);
  const used = few ? tunnels() : []; // as many as pairs of hosts
  const columns = Math.max(1, Math.min(names.length, Math.floor(picture.parentElement.clientWidth / (TILE.width + TILE.gap))));
  const lines = (name) => {
    const endpoints = at.get(name);
    if (!endpoints.length) return states(named.get(name)).length;
    return endpoints.length <= LISTED ? endpoints.length : new Set(endpoints.map((e) => e.network)).size;
  };
  const places = new Map();
  let top = TILE.top;
  for (let i = 0; i < names.length; i += columns) {
    const row = names.slice(i, i + columns);
    const height = TILE.head + TILE.line * Math.max(1, ...row.map(lines)) + 8;
    row.forEach((name, j) => places.set(name, { x: j * (TILE.width + TILE.gap) + 10, y: top, height }));
    top += height + TILE.top;
  }
  picture.replaceChildren();
  picture.setAttribute("width", columns * (TILE.width + TILE.gap) + 20);
  picture.setAttribute("height", top);
  if (used.length <= TUNNELS) used.forEach((t) => tunnel(picture, t, places)); // behind the hosts
  for (const name of names) tile(picture, name, at.get(name), places.get(name), used);
  const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  $("numbers").textContent = [count(all.length, "host") + (few ? "" : ` (${names.length} drawn, those with trouble first)`),
    count(state.endpoints.length || state.total, "endpoint"), count(state.networks.length, "network"),
    ...(few ? [count(used.length, "tunnel") + " in use"] : []), ...broke(used)].join(", ");
  legend();
}

function broke(used) {
  const count = used.filter((t) => broken(t)).length;
  return count ? [`${count} of them broken`] : [];
}

function tile(picture, name, endpoints, place, used) {
  const host = state.hosts.find((h) => h.name === name);
  const notes = host ? trouble(host) : [];
  const group = make("g", { transform: `translate(${place.x} ${place.y})`, "data-host": name }, undefined, picture);
  make("rect", { class: notes.length ? "host troubled" : "host", width: TILE.width, height: place.height, rx: 8 }, undefined, group);
  make("rect", { class: "bridge", x: 6, y: 24, width: TILE.width - 12, height: 22, rx: 3 }, undefined, group);
  make("text", { class: "name", x: 10, y: 17 }, name, group);
  if (notes.length) make("text", { class: "small", x: TILE.width - 8, y: 17, "text-anchor": "end", fill: "#c62828" }, notes.join(", "), group);
  const mine = used.filter((t) => t.ends.includes(name)).length;
  const more = used.length > TUNNELS ? `, ${mine} tunnels` : "";
  make("text", { class: "small", x: 12, y: 39 }, `br-warren, VTEP ${host ? host.vtep : "?"}${more}`, group);
  if (!endpoints.length) {
    states(host).forEach(([word, number], i) => make("text", { x: 14, y: TILE.head + i * TILE.line + 17 }, `${number} ${word}`, group));
  } else if (endpoints.length > LISTED) {
    const networks = [...new Set(endpoints.map((e) => e.network))].sort(natural);
    networks.forEach((network, i) => counted(group, network, endpoints.filter((e) => e.network === network).length, i));
  } else {
    endpoints.sort((a, b) => natural(called(a), called(b))).forEach((e, i) => end(group, e, i));
  }
}

function trouble(host) {
  const notes = ["agent", "controller"].filter((who) => host[who] === "dead").map((who) => `${who} dead`);
  if (host.controller === "alive" && !host.connected) notes.push("switch not connected");
  if (host.controller === "alive" && host.connected && !host.current) notes.push(`${state.revision - host.revision} behind the specs`);
  if (host.problems.length) notes.push(`${host.problems.length} problem${host.problems.length > 1 ? "s" : ""}`);
  return notes;
}

function counted(group, network, count, i) {
  const y = TILE.head + i * TILE.line;
  const shown = make("g", { class: faded(network), "data-network": network }, undefined, group);
  make("rect", { x: 8, y, width: TILE.width - 16, height: TILE.line - 4, rx: 5, fill: colour(network) }, undefined, shown);
  make("text", { class: "name", x: 16, y: y + 17 }, network, shown);
  make("text", { x: TILE.width - 16, y: y + 17, "text-anchor": "end" }, count, shown);
}

function end(group, e, i) {
  const y = TILE.head + i * TILE.line;
  const kinds = ["end", e.state === "closed" && "closed", state.chosen.includes(e.id) && "chosen", faded(e.network)];
  const shown = make("g", { class: kinds.filter(Boolean).join(" "), tabindex: 0, role: "button", "data-endpoint": called(e) }, undefined, group);
  make("title", {}, `${called(e)} ${e.state} ${e.reason}`, shown);
  make("rect", { x: 8, y, width: TILE.width - 16, height: TILE.line - 4, rx: 5, fill: colour(e.network) }, undefined, shown);
  make("text", { class: "name", x: 14, y: y + 17 }, clipped(e.name || e.id, 15), shown);
  const address = (e.target_veth_ip || e.target_veth_ipv6 || e.port || e.target_veth_mac).split("/")[0];
  make("text", { x: TILE.width - 14, y: y + 17, "text-anchor": "end" }, clipped(address, 17), shown);
  shown.addEventListener("click", () => choose(e));
  shown.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") choose(e); });
}

const faded = (network) => (state.only && state.only !== network ? "faded" : "");
const clipped = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

function tunnel(picture, t, places) {
  const [one, other] = t.ends.map((name) => places.get(name)).sort((a, b) => a.y - b.y);
  const middle = (place) => place.x + TILE.width / 2;
  const [x1, x2] = [middle(one), middle(other)];
  const bend = one.y === other.y ? Math.min(46, 14 + Math.abs(x2 - x1) / 18) : -30;
  const y1 = one.y < other.y ? one.y + one.height : one.y; // a row further down: from below
  const path = `M ${x1} ${y1} C ${x1} ${y1 - bend}, ${x2} ${other.y - Math.abs(bend)}, ${x2} ${other.y}`;
  const word = broken(t);
  const shown = make("path", { class: `tunnel ${word}`.trim(), d: path, "data-tunnel": t.ends.join(" "), "data-state": word }, undefined, picture);
  make("title", {}, `VXLAN ${t.ends.join(" - ")}: ${t.networks.join(", ")}${word ? `: ${BROKEN[word]}` : ""}`, shown);
}

function broken(t) { // what either end says of the other; the worse counts
  const said = t.ends.map((here, i) => state.hosts.find((h) => h.name === here)?.tunnels?.broken[t.ends[1 - i]]);
  return ["down", "mtu"].find((word) => said.includes(word)) || "";
}

function legend() {
  const buttons = state.networks.map((n) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${n.name} · VNI ${n.vxlan_vni} · ${n.ip_range || n.ipv6_range || "no range"}`;
    button.style.background = colour(n.name);
    button.setAttribute("aria-pressed", state.only === n.name);
    button.addEventListener("click", () => { state.only = state.only === n.name ? "" : n.name; draw(); });
    item.append(button);
    return item;
  });
  $("networks").replaceChildren(...buttons);
}

function choose(e) {
  state.chosen = state.chosen.length === 1 && state.chosen[0] !== e.id ? [state.chosen[0], e.id] : [e.id];
  draw();
  if (state.chosen.length === 2) trace(); else about(e);
}

function panel(title, fields, hint, text) {
  show(true);
  $("about-title").textContent = title;
  $("about-fields").replaceChildren(...fields.flatMap(([name, value]) => {
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    dt.textContent = name;
    dd.textContent = value;
    return [dt, dd];
  }));
  $("about-hint").textContent = hint;
  $("about-text").textContent = text;
}

function show(open) { // beside the picture, not over it
  if ($("about").hidden !== open) return;
  $("about").hidden = !open;
  document.body.classList.toggle("about", open);
  draw();
}

async function about(e) {
  const published = e.publish.map((p) => `${p.proto} ${p.host_port} → ${p.port}`).join(", ");
  const labels = Object.entries(e.labels).map(([key, value]) => (value ? `${key}=${value}` : key)).join(", ");
  const fields = [["state", `${e.state || "not reported"} ${e.reason}`], ["host", e.hostname], ["network", e.network],
    ["address", [e.target_veth_ip, e.target_veth_ipv6].filter(Boolean).join(", ") || "none"],
    e.port ? [e.coprocessor ? "coprocessor behind" : "interface of the host", e.port] : ["MAC", e.target_veth_mac],
    ...(e.vlan ? [["VLAN on its port", e.vlan]] : []),
    ["OpenFlow port", e.ofport], ["ACLs", e.acls === null ? "the network's" : e.acls.join(", ") || "none"],
    ...(e.allowed?.length ? [["allowed", e.allowed.map((a) => [a.address, a.mac].filter(Boolean).join(" ")).join(", ")]] : []),
    ["published", published || "nothing"], ["labels", labels || "none"], ["namespace", e.target_netns_path || "none"]];
  const hint = "Choose another endpoint for a trace from this one to it.";
  panel(called(e), fields, hint, "");
  try { // its counters, as far as its own flows tell them
    const { flows } = await ask(`hosts/${encodeURIComponent(e.hostname)}/flows`);
    if (state.chosen.length !== 1 || state.chosen[0] !== e.id) return;
    const mine = flows.filter((f) => f.origin === `endpoint/${called(e)}` && matches(f, e.ofport));
    const sum = (rows) => rows.reduce((total, f) => total + Number(f.packets), 0);
    fields.push(["packets sent", sum(mine.filter((f) => f.table === "CLASSIFY"))],
      ["of them refused: not its own, nor allowed", sum(mine.filter((f) => f.table === "SPOOF_GUARD" && f.actions === "drop"))]);
    panel(called(e), fields, hint, "");
  } catch (error) {
    panel(called(e), fields, `${hint} No counters: ${error.message}`, "");
  }
}

const matches = (flow, port) => flow.match.split(",").includes(`in_port=${port}`);

async function trace() {
  const [from, to] = state.chosen.map((id) => state.endpoints.find((e) => e.id === id));
  if (!from || !to) return;
  const title = `${called(from)} → ${called(to)}`;
  panel(title, [], "tracing", "");
  try {
    const found = await ask("trace", { src: from.id, dst: to.id, proto: "icmp" });
    panel(title, [["verdict", `${found.verdict} ${found.reason}`]], "No packet was sent: the switches were asked.", found.text);
  } catch (error) {
    panel(title, [["verdict", `unknown: ${error.message}`]], "", "");
  }
}

$("close").addEventListener("click", () => { state.chosen = []; show(false); });
window.addEventListener("resize", draw);
poll();
