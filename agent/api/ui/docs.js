"use strict";
// The reference of the agent's API, from its own openapi.json. All text is set as text; nothing comes from elsewhere.

const $ = (id) => document.getElementById(id);
let schemas = {};

function make(kind, parent, text, className) {
  const element = document.createElement(kind);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  if (parent) parent.append(element);
  return element;
}

function prose(parent, text) { // `words` in back quotes are code
  text.split("`").forEach((part, i) => (i % 2 ? make("code", parent, part) : parent.append(part)));
}

const resolved = (schema) => (schema && schema.$ref ? schemas[schema.$ref.split("/").pop()] || {} : schema || {});

function choices(schema) { // the alternatives of a schema, but null, and the empty text that counts as not set
  const all = schema.anyOf || schema.oneOf;
  return all ? all.filter((one) => one.type !== "null" && one.const !== "") : [schema];
}

function typeOf(given) {
  const schema = resolved(given);
  if (schema.anyOf || schema.oneOf) return [...new Set(choices(schema).map(typeOf))].join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${typeOf(schema.items) || "values"}`;
  if (Array.isArray(schema.type)) return schema.type.join(" or ");
  return [schema.type || "any value", schema.format && `(${schema.format})`].filter(Boolean).join(" ");
}

function limits(given) {
  const bounds = { minimum: "at least", maximum: "at most", minLength: "at least so many characters:", maxLength: "at most so many:",
    minItems: "at least so many items:", maxItems: "at most so many items:", pattern: "pattern" };
  const words = choices(resolved(given)).map(resolved).flatMap((schema) => Object.entries(bounds)
    .filter(([key]) => schema[key] !== undefined).map(([key, word]) => `${word} ${schema[key]}`));
  const fallback = resolved(given).default;
  if (fallback !== undefined && fallback !== null) words.push(`default ${JSON.stringify(fallback)}`);
  return words.join(", ");
}

function row(table, name, schema, required, description) {
  const line = make("tr", table);
  const first = make("td", line, name);
  if (required) make("span", first, " *", "required").title = "required";
  make("td", line, typeOf(schema));
  make("td", line, [description || schema.description, limits(schema)].filter(Boolean).join(" "));
  return line;
}

function fields(table, given, prefix, seen) {
  const schema = resolved(given);
  const required = schema.required || [];
  for (const [name, field] of Object.entries(schema.properties || {})) {
    const line = row(table, prefix + name, field, required.includes(name));
    if (prefix) line.className = "nested";
    const inner = choices(resolved(field)).map((one) => resolved(one.type === "array" ? one.items : one)).find((one) => one.properties);
    const mark = resolved(field).type === "array" || choices(resolved(field)).some((one) => one.type === "array") ? "[]." : ".";
    if (inner && !seen.includes(inner)) fields(table, inner, `${prefix}${name}${mark}`, [...seen, inner]);
  }
}

function body(section, operation) {
  const content = (operation.requestBody || {}).content || {};
  for (const [kind, { schema }] of Object.entries(content)) {
    make("h3", section, `body (${kind})`);
    const object = choices(resolved(schema)).map(resolved).find((one) => one.properties) || resolved(schema);
    prose(make("p", section), object.description || "");
    fields(make("table", section), object, "", [object]);
  }
}

function route(path, method, operation) {
  const section = make("section", $("routes"));
  section.id = operation.operationId;
  const title = make("h2", section);
  make("span", title, method, `method ${method}`);
  make("span", title, ` ${path}`, "path");
  prose(make("p", section), operation.description || operation.summary || "");
  const parameters = operation.parameters || [];
  if (parameters.length) {
    make("h3", section, "parameters");
    const table = make("table", section);
    for (const p of parameters) row(table, p.name, p.schema, p.required, [p.in, p.description].filter(Boolean).join(": "));
  }
  body(section, operation);
  make("h3", section, "answers");
  const answers = make("table", section);
  for (const [status, answer] of Object.entries(operation.responses)) {
    const line = make("tr", answers);
    make("td", line, status);
    make("td", line, answer.description);
    make("td", line, Object.keys(answer.content || {}).join(", "));
  }
  return section;
}

function contents(groups) {
  for (const [tag, routes] of groups) {
    const group = make("div", $("contents"));
    make("h2", group, tag);
    const list = make("ul", group);
    for (const { section, method, path } of routes) {
      const item = make("li", list);
      const link = make("a", item);
      link.href = `#${section.id}`;
      make("span", link, method, `method ${method}`);
      make("span", link, ` ${path}`, "path");
      section.entry = item;
    }
  }
}

function search() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll("section")) {
    const text = section.textContent.toLowerCase();
    section.hidden = section.entry.hidden = !words.every((word) => text.includes(word));
  }
}

async function start() {
  try {
    const reference = await (await fetch("openapi.json")).json();
    schemas = (reference.components || {}).schemas || {};
    $("title").textContent = `${reference.info.title} ${reference.info.version}`;
    prose($("description"), reference.info.description);
    const groups = new Map();
    for (const [path, methods] of Object.entries(reference.paths)) {
      for (const [name, operation] of Object.entries(methods)) {
        const [tag, method] = [(operation.tags || ["other"])[0], name.toUpperCase()];
        groups.set(tag, [...(groups.get(tag) || []), { section: route(path, method, operation), method, path }]);
      }
    }
    contents(groups);
    search();
    document.body.dataset.routes = document.querySelectorAll("section").length;
    if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  } catch (error) {
    $("trouble").textContent = `the reference cannot be read: ${error.message}`;
  }
}

$("search").addEventListener("input", search);
start();
