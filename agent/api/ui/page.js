"use strict";
// The topology, from GET requests; a trace from POST /trace, which sends no packet. All text is set as text.

const POLL_MS = 2000;
const LISTED = 14; // endpoints of a host that are drawn each; more are numbers by network
const MATCHES = 60; // of a host, endpoints that a search shows
const DRAWN = 60; // hosts that are drawn; of more, those that are not well come first
const READ = 5000; // endpoints up to which all are read; of more, each host has its numbers by state
const LEGEND = 40; // networks that have a button; the search finds the others
const PROBLEMS = 3; // of a host, in the picture; the panel has all
const ASKED = 20; // hosts with an outside address that are asked for their encrypted tunnels and the drops of their guards
const ASK_POLLS = 5; // how many polls lie between two such questions

const state = { hosts: [], networks: [], endpoints: [], routers: [], services: [], copies: [], ciphers: new Map(), down: new Set(), guarded: new Map(), shades: new Map(), total: 0, read: "", only: "", chosen: [], polls: 0 };
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
      await read(status);
      state.read = now;
      await readOutside();
      draw();
    } else if (state.polls % ASK_POLLS === 0 && await readOutside()) draw();
    $("trouble").textContent = (status.problems || []).map(problemText).join("; ");
  } catch (error) {
    state.read = ""; // what is shown is old: read all once it is back
    $("trouble").textContent = error.answered ? `what is shown may be old: ${error.message}`
      : `the agent does not answer: ${error.message}`;
  }
  state.polls += 1;
  document.body.dataset.polls = state.polls;
  setTimeout(poll, POLL_MS);
}

async function read(status) {
  state.total = status.hosts.reduce((sum, host) => sum + states(host).reduce((n, [, count]) => n + count, 0), 0);
  const reading = state.total > READ ? { endpoints: [] } : ask("endpoints?states=true");
  const [networks, endpoints, routers, services, mirrors] = await Promise.all([ask("networks"), reading, ...["routers", "services", "mirrors"].map((kind) => ask(kind))]);
  state.hosts = status.hosts.sort((a, b) => natural(a.name, b.name));
  const named = networks.networks.map((n) => ({ ...n, name: n.unique_name })); // other clients may give one name to several
  state.networks = named.sort((a, b) => natural(a.name, b.name));
  state.shades = colours(named);
  state.endpoints = endpoints.endpoints.sort((a, b) => natural(called(a), called(b)));
  state.routers = routers.routers;
  state.services = services.services;
  state.copies = mirrors.mirrors.filter((m) => m.active).map(session);
}

async function readOutside() { // the ciphers of tunnels and the drops of guards; returns whether something has changed
  const outside = state.hosts.filter((host) => host.outside && host.agent === "alive");
  if (!outside.length && !state.ciphers.size) return false;
  const asked = outside.length <= ASKED ? outside : [];
  const answers = await Promise.all(asked.map((host) => ask(`hosts/${encodeURIComponent(host.name)}/encryption`).catch(() => ({ host: host.name, pairs: [], dropped: {} }))));
  const pairs = answers.flatMap((answer) => answer.pairs.map((pair) => [[answer.host, pair.peer].sort(natural).join("\n"), pair]));
  const ciphers = new Map(pairs.map(([key, pair]) => [key, pair.cipher]));
  const down = new Set(pairs.filter(([, pair]) => !pair.up).map(([key]) => key));
  const guarded = new Map(answers.map((answer) => [answer.host, Object.values(answer.dropped).reduce((sum, n) => sum + n, 0)]));
  const text = (...values) => JSON.stringify(values.map((value) => [...value]));
  const changed = text(ciphers, down, guarded) !== text(state.ciphers, state.down, state.guarded);
  Object.assign(state, { ciphers, down, guarded });
  return changed;
}

function cipherOf(ends, hosts) { // of a tunnel; empty for plain VXLAN
  const [one, other] = ends.map((name) => hosts.get(name)?.site || "");
  return state.ciphers.get(ends.join("\n")) || (one !== other ? "wireguard" : "");
}

const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
const states = (host) => Object.entries(host?.endpoints || {});
const natural = (a, b) => a.localeCompare(b, undefined, { numeric: true });
const called = (e) => `${e.network}/${e.name || e.id}`;
const nameOf = (network) => state.networks.find((n) => [n.id, n.name, `${n.tenant}/${n.name}`].includes(network))?.name ?? network;
const problemText = (problem) => (typeof problem === "string" ? problem : problem.text || problem.problem || Object.values(problem).filter(Boolean).join(": "));
const published = (e) => e.publish.map((p) => `${p.proto} ${p.host_port} → ${p.port}`).join(", ");
const serviceText = (s) => `${s.name}: ${s.proto || "tcp"} ${s.host_port} → ${s.port}`;
const servicesOf = (e) => state.services.filter((s) => nameOf(s.network) === e.network && s.members?.includes(`${e.name || e.id} on ${e.hostname}`));
const wayOut = (n) => (n.mode === "flat" ? "" : `${n.mode} via ${(n.gateway || n.ipv6_gateway || "").split("/")[0]}`);
const faded = (network) => (state.only && state.only !== network ? "faded" : "");

function session(mirror) { // its sources as ids of endpoints, its target an id or a text
  const selects = (source, e) => nameOf(source.network) === e.network && (source.endpoint === undefined || [e.name, e.id].includes(source.endpoint))
    && (source.label === undefined || Object.entries(e.labels).some(([key, value]) => [key, `${key}=${value}`].includes(source.label)));
  const sources = state.endpoints.filter((e) => mirror.sources.some((source) => selects(source, e)));
  const to = mirror.to;
  const target = to.endpoint && state.endpoints.find((e) => e.network === nameOf(to.network) && [e.name, e.id].includes(to.endpoint));
  const text = target ? called(target) : to.interface ? `${to.host}:${to.interface}` : Object.entries(to).map((pair) => pair.join(" ")).join(", ");
  return { name: mirror.name, sources: sources.map((e) => e.id), names: sources.map(called), target: target?.id, text };
}

function make(kind, attributes, text, parent) {
  const element = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function searched(e, words) { // every word of the search is part of what the endpoint shows
  const labels = Object.entries(e.labels).map(([key, value]) => `${key}=${value}`);
  const text = [called(e), e.hostname, e.target_veth_ip, e.target_veth_ipv6, e.target_veth_mac, e.port, e.state || "unknown", e.reason, ...labels, ...(e.acls || [])].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

function draw() {
  const picture = $("picture");
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const at = new Map(state.hosts.map((h) => [h.name, []]));
  for (const e of state.endpoints) {
    if (!at.has(e.hostname)) at.set(e.hostname, []);
    if (searched(e, words)) at.get(e.hostname).push(e);
  }
  const hosts = new Map(state.hosts.map((h) => [h.name, h]));
  const matching = (name) => !words.length || at.get(name).length > 0 || words.every((word) => name.toLowerCase().includes(word));
  const all = [...at.keys()].sort(natural).filter(matching);
  const few = all.length <= DRAWN;
  const isTroubled = (name) => !hosts.has(name) || trouble(hosts.get(name)).length > 0;
  const names = few ? all : [...all.filter(isTroubled), ...all.filter((name) => !isTroubled(name))].slice(0, DRAWN);
  const used = few ? tunnels(state.endpoints.filter((e) => !state.only || e.network === state.only)) : []; // as many as pairs of hosts
  place(picture, hosts, names.map((name) => tile(name, hosts.get(name), at.get(name), used, words.length > 0)));
  if (!names.length) make("p", {}, words.length ? "Nothing matches the search." : "No hosts.", picture);
  wire(picture, used, state.copies, hosts);
  totals(all, names, few, used, hosts, [...at.values()].reduce((sum, list) => sum + list.length, 0), words.length > 0);
  legend();
}

function place(picture, hosts, tiles) { // where there are sites, the hosts of each stand in a frame
  const siteOf = (element) => hosts.get(element.dataset.host)?.site || "";
  const sites = [...new Set(tiles.map(siteOf))].sort(natural);
  const sited = sites.some((site) => site);
  picture.classList.toggle("sited", sited);
  if (!sited) return picture.replaceChildren(...tiles);
  picture.replaceChildren(...sites.map((site) => {
    const frame = make("section", { class: "site", "data-site": site });
    frame.append(...tiles.filter((element) => siteOf(element) === site));
    make("h3", {}, site ? `site ${site}` : "no site", frame);
    return frame;
  }));
}

function totals(all, names, few, used, hosts, matching, searching) {
  const bad = used.filter((t) => broken(t, hosts)).length;
  const endpoints = state.endpoints.length || state.total;
  $("numbers").textContent = [count(all.length, "host") + (few ? "" : ` (${names.length} drawn, those with trouble first)`),
    searching ? `${matching} of ${count(endpoints, "endpoint")}` : count(endpoints, "endpoint"), count(state.networks.length, "network"),
    ...(few ? [count(used.length, "tunnel") + " in use"] : []), ...(bad ? [`${bad} of them broken`] : [])].join(", ");
}

function tile(name, host, endpoints, used, searching) {
  const notes = host ? trouble(host) : ["not registered"];
  const section = make("section", { class: notes.length ? "host troubled" : "host", "data-host": name });
  const head = make("button", { type: "button", class: "head", title: "all about this host" }, undefined, section);
  make("h2", {}, name, head);
  if (notes.length) make("span", { class: "notes" }, notes.join(", "), head);
  head.addEventListener("click", () => aboutHost(name));
  const mine = used.filter((t) => t.ends.includes(name)).length;
  make("div", { class: "bridge" }, `br-warren, VTEP ${host ? host.vtep : "?"}${used.length > WIRES ? `, ${mine} tunnels` : ""}`, section);
  const drops = state.guarded.get(name);
  if (drops) make("div", { class: "guard" }, `guard dropped ${drops} tunnel packet${drops === 1 ? "" : "s"} in clear text`, section);
  const problems = (host?.problems || []).map(problemText);
  for (const text of problems.slice(0, PROBLEMS)) make("p", { class: "problem" }, text, section);
  if (problems.length > PROBLEMS) make("p", { class: "problem" }, `and ${problems.length - PROBLEMS} more: choose the host`, section);
  fill(section, name, host, endpoints, searching);
  return section;
}

function fill(section, name, host, endpoints, searching) {
  const limit = searching ? MATCHES : LISTED;
  if (!endpoints.length && !searching) states(host).forEach(([word, number]) => make("div", {}, `${number} ${word}`, section));
  if (endpoints.length > limit && !searching) {
    for (const network of [...new Set(endpoints.map((e) => e.network))]) counted(section, name, network, endpoints.filter((e) => e.network === network));
  } else {
    endpoints.slice(0, limit).forEach((e) => end(section, e));
    if (endpoints.length > limit) make("div", {}, `and ${endpoints.length - limit} more`, section);
  }
  const gateway = gatewayOf(new Set(endpoints.map((e) => e.network)));
  if (gateway.length) make("p", { class: "gateway" }, `gateway: ${gateway.join("; ")}`, section);
}

function gatewayOf(used) { // what a host does between its networks and to the outside
  return [...state.networks.filter((n) => used.has(n.name) && wayOut(n)).map((n) => `${n.name} ${wayOut(n)}`),
    ...state.routers.filter((r) => r.networks.some((n) => used.has(nameOf(n)))).map((r) => `router ${r.name}: ${r.networks.map(nameOf).join(", ")}`),
    ...state.services.filter((s) => used.has(nameOf(s.network))).map((s) => `service ${serviceText(s)}`)];
}

function trouble(host) {
  const notes = ["agent", "controller"].filter((who) => host[who] === "dead").map((who) => `${who} dead`);
  if (host.controller === "alive" && !host.connected) notes.push("switch not connected");
  if (host.controller === "alive" && host.connected && !host.current) notes.push("behind the specs");
  if (host.problems.length) notes.push(`${host.problems.length} problem${host.problems.length > 1 ? "s" : ""}`);
  return notes;
}

function counted(section, host, network, endpoints) {
  const closed = endpoints.filter((e) => e.state === "closed").length;
  const button = make("button", { type: "button", class: `end ${faded(network)}`, "data-network": network, "data-state": closed ? "closed" : "up", title: "list them" }, undefined, section);
  button.style.backgroundColor = state.shades.get(network);
  const first = make("span", { class: "first" }, undefined, button);
  make("b", {}, network, first);
  make("span", {}, endpoints.length, first);
  if (closed) make("small", { class: "state" }, `${closed} closed`, button);
  button.addEventListener("click", () => search(`${network}/ ${host}`));
}

function end(section, e) {
  const kinds = ["end", e.state === "closed" && "closed", state.chosen.includes(e.id) && "chosen", faded(e.network)];
  const button = make("button", { type: "button", class: kinds.filter(Boolean).join(" "), "data-endpoint": called(e), "data-id": e.id, "data-state": e.state || "unknown", title: called(e) }, undefined, section);
  button.style.backgroundColor = state.shades.get(e.network);
  const first = make("span", { class: "first" }, undefined, button);
  make("b", {}, e.name || e.id, first);
  make("span", {}, (e.target_veth_ip || e.target_veth_ipv6 || e.port || e.target_veth_mac).split("/")[0], first);
  if (e.state !== "up") make("small", { class: "state" }, [e.state || "no report", e.reason].filter(Boolean).join(": "), button);
  const more = [e.acls?.length && `acl ${e.acls.join(", ")}`, published(e), ...servicesOf(e).map((s) => `service ${s.name}`),
    ...state.copies.filter((c) => c.sources.includes(e.id)).map((c) => `mirror ${c.name} to ${c.text}`)].filter(Boolean);
  if (more.length) make("small", {}, more.join(", "), button);
  button.addEventListener("click", () => choose(e));
}

function legend() {
  const shown = state.networks.length <= LEGEND ? state.networks : state.networks.slice(0, LEGEND);
  const buttons = shown.map((n) => {
    const item = document.createElement("li");
    const acls = n.default_acl.length ? `acl ${n.default_acl.join(", ")}` : "";
    const button = make("button", { type: "button", "aria-pressed": state.only === n.name, title: "fade the other networks" },
      [n.name, `VNI ${n.vxlan_vni}`, n.ip_range || n.ipv6_range || "no range", wayOut(n), acls].filter(Boolean).join(" · "), item);
    button.style.backgroundColor = state.shades.get(n.name);
    button.addEventListener("click", () => { state.only = state.only === n.name ? "" : n.name; draw(); });
    return item;
  });
  if (shown.length < state.networks.length) buttons.push(make("li", {}, `and ${state.networks.length - shown.length} more networks: search for them`));
  $("networks").replaceChildren(...buttons);
  const rows = [...state.routers.map((r) => `router ${r.name}: ${r.networks.map(nameOf).join(", ")}`),
    ...state.services.map((s) => `service ${serviceText(s)} of ${nameOf(s.network)}: ${s.members?.join(", ") || "no members"}`),
    ...state.copies.map((c) => `mirror ${c.name}: ${c.names.slice(0, 5).join(", ") || "no sources"}${c.names.length > 5 ? ` and ${c.names.length - 5} more` : ""} to ${c.text}`)];
  $("joined").hidden = !rows.length;
  $("joined").querySelector("summary").textContent = [count(state.routers.length, "router"), count(state.services.length, "service"), count(state.copies.length, "mirror session")].join(", ");
  $("joined").querySelector("ul").replaceChildren(...rows.map((row) => make("li", {}, row)));
}

function search(text) {
  $("search").value = text;
  draw();
}

function choose(e) {
  state.chosen = state.chosen.length === 1 && state.chosen[0] !== e.id ? [state.chosen[0], e.id] : [e.id];
  draw();
  if (state.chosen.length === 2) trace(); else about(e);
}

$("search").addEventListener("input", draw);
$("close").addEventListener("click", () => { state.chosen = []; show(false); });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("about").hidden) $("close").click();
  if (event.key === "/" && document.activeElement !== $("search")) { event.preventDefault(); $("search").focus(); }
});
window.addEventListener("resize", draw);
$("joined").addEventListener("toggle", draw);
poll();
