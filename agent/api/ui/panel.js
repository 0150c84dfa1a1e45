"use strict";
// The panel beside the picture: an endpoint, a host, or a trace between two endpoints.

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
  const labels = Object.entries(e.labels).map(([key, value]) => (value ? `${key}=${value}` : key)).join(", ");
  const network = state.networks.find((n) => n.name === e.network);
  const defaults = network?.default_acl.join(", ");
  const fields = [["state", `${e.state || "not reported"} ${e.reason}`], ["host", e.hostname], ["network", e.network],
    ["address", [e.target_veth_ip, e.target_veth_ipv6].filter(Boolean).join(", ") || "none"],
    e.port ? [e.coprocessor ? "coprocessor behind" : "interface of the host", e.port] : ["MAC", e.target_veth_mac],
    ...(e.vlan ? [["VLAN on its port", e.vlan]] : []),
    ["OpenFlow port", e.ofport], ["ACLs", e.acls === null ? `the network's: ${defaults || "none"}` : e.acls.join(", ") || "none"],
    ...(e.allowed?.length ? [["allowed", e.allowed.map((a) => [a.address, a.mac].filter(Boolean).join(" ")).join(", ")]] : []),
    ["published", published(e) || "nothing"], ["services", servicesOf(e).map(serviceText).join("\n") || "none"],
    ["mirrored by", state.copies.filter((c) => c.sources.includes(e.id)).map((c) => c.name).join(", ") || "nothing"],
    ["way out", network && wayOut(network) ? wayOut(network) : "none"], ["labels", labels || "none"], ["namespace", e.target_netns_path || "none"]];
  const hint = "Choose another endpoint for a trace from this one to it.";
  panel(called(e), fields, hint, "");
  try { // its counters, as far as its own flows tell them
    const { flows } = await ask(`hosts/${encodeURIComponent(e.hostname)}/flows`);
    if (state.chosen.length !== 1 || state.chosen[0] !== e.id) return;
    const mine = flows.filter((f) => f.origin === `endpoint/${called(e)}` && matches(f, e.ofport));
    const sum = (rows) => rows.reduce((total, f) => total + Number(f.packets), 0);
    fields.push(["packets sent", sum(mine.filter((f) => f.table === "CLASSIFY"))],
      ["of them not its own", `${sum(mine.filter((f) => f.table === "SPOOF_GUARD" && f.actions === "drop"))} refused: other source addresses, such as the kernel's own IPv6 probes`]);
    panel(called(e), fields, hint, "");
  } catch (error) {
    panel(called(e), fields, `${hint} No counters: ${error.message}`, "");
  }
}

function aboutHost(name) {
  const host = state.hosts.find((h) => h.name === name);
  state.chosen = [];
  if (!host) return;
  panel(name, [["agent", `${host.agent} ${host.agent_version || ""}`], ["controller", host.controller], ["switch", host.connected ? "connected" : "not connected"],
    ["specs", host.current ? "current" : "behind"], ["VTEP", host.vtep], ["flows", host.flows ?? "not reported"],
    ["endpoints", states(host).map(([word, count]) => `${count} ${word}`).join(", ") || "none"],
    ["problems", host.problems.map(problemText).join("\n") || "none"]], "", "");
}

const matches = (flow, port) => flow.match.split(",").includes(`in_port=${port}`);

async function trace() {
  const [from, to] = state.chosen.map((id) => state.endpoints.find((e) => e.id === id));
  if (!from || !to) return;
  const title = `${called(from)} → ${called(to)}`;
  panel(title, [], "tracing", "");
  try {
    const answer = await ask("trace", { src: from.id, dst: to.id, proto: "icmp" });
    panel(title, [["verdict", `${answer.verdict} ${answer.reason}`]], "No packet was sent: the switches were asked.", answer.text.replace(/(\S) {3,}/g, "$1  ")); // columns are wider than the panel
  } catch (error) {
    panel(title, [["verdict", `unknown: ${error.message}`]], "", "");
  }
}
