"use strict";
// Draws the OpenAPI document. Everything that is shown goes through textContent.

const doc = JSON.parse(document.getElementById("document").textContent);
const base = location.href.replace(/[?#].*$/, "").replace(/\/docs\/?$/, "");
const methods = ["get", "post", "put", "patch", "delete"];

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

// Text with `code` in it, as nodes.
function words(text) {
  return text.split(/(`[^`]+`)/).map((part) =>
    part.startsWith("`") && part.length > 2 ? el("code", null, part.slice(1, -1)) : part);
}

function paragraphs(text) {
  return (text || "").split(/\n\n+/).filter(Boolean).map((part) => el("p", null, words(part)));
}

function nameOf(schema) {
  return schema && schema.$ref ? schema.$ref.split("/").pop() : "";
}

function resolved(schema) {
  return schema && schema.$ref ? doc.components.schemas[nameOf(schema)] : schema || {};
}

function kindOf(schema) {
  if (schema.$ref) return nameOf(schema);
  const choice = schema.anyOf || schema.oneOf;
  if (choice) return choice.map(kindOf).join(" or ");
  if (schema.type === "array") return "array of " + kindOf(schema.items || {});
  const kind = Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type;
  return kind ? kind + (schema.format ? ", " + schema.format : "") : "any JSON value";
}

// The schemas inside `schema` that have fields of their own.
function inner(schema) {
  const choice = schema.anyOf || schema.oneOf;
  if (choice) return choice.flatMap(inner);
  if (schema.type === "array") return inner(schema.items || {});
  return resolved(schema).properties ? [schema] : [];
}

function fields(schema, depth) {
  const whole = resolved(schema);
  const required = new Set(whole.required || []);
  return el("div", { class: "fields" }, Object.entries(whole.properties || {}).map(([name, part]) =>
    field(name, part, required.has(name), part.description, depth)));
}

function field(name, schema, required, description, depth, place) {
  const whole = resolved(schema);
  const parts = [
    el("span", { class: "name" }, name),
    el("span", { class: "kind" }, kindOf(schema) + (place ? ", in " + place : "")),
    required && el("span", { class: "must" }, "required"),
  ];
  const more = [];
  if (description) more.push(el("p", null, words(description)));
  const values = whole.enum || (whole.items && whole.items.enum);
  if (values) more.push(el("div", { class: "values" }, values.map((value) => el("code", null, String(value)))));
  if (whole.pattern) more.push(el("p", null, "matches ", el("code", null, whole.pattern)));
  const nested = depth < 3 ? inner(schema) : [];
  if (!nested.length) return el("div", { class: "field" }, parts, more);
  return el("div", { class: "field" }, el("details", null, el("summary", null, parts), more,
    nested.map((each) => fields(each, depth + 1))));
}

// ---------------------------------------------------------------- examples

function slab(title, text, paint) {
  const copy = el("button", { type: "button", on: { click: () => copied(copy, text) } }, "Copy");
  return el("section", { class: "slab", "aria-label": title },
    el("header", null, title, copy), el("pre", { tabindex: "0" }, paint(text)));
}

async function copied(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    const area = el("textarea", { readonly: true });
    area.value = text;
    document.body.append(area);
    area.select();
    button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
    area.remove();
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1600);
}

function painted(text, pattern, kinds) {
  const nodes = [];
  let last = 0;
  for (const match of text.matchAll(pattern)) {
    nodes.push(text.slice(last, match.index));
    const kind = kinds[match.slice(1).findIndex((group) => group !== undefined)];
    nodes.push(el("span", { class: "t-" + kind }, match[0]));
    last = match.index + match[0].length;
  }
  nodes.push(text.slice(last));
  return nodes;
}

const paintJson = (text) => painted(text,
  /("(?:[^"\\]|\\.)*"(?=\s*:))|("(?:[^"\\]|\\.)*")|(-?\d+(?:\.\d+)?)|\b(true|false|null)\b/g,
  ["key", "string", "number", "word"]);
const paintCurl = (text) => painted(text, /('(?:[^'\\]|\\.)*')|(\s-{1,2}[A-Za-z-]+)|(^curl)/g, ["string", "key", "word"]);
const paintPlain = (text) => painted(text, /(^[a-z]+:)/gm, ["key"]);

function quoted(text) {
  return "'" + text.replaceAll("'", "'\\''") + "'";
}

function curl(method, path, operation, parameters) {
  let url = path;
  for (const parameter of parameters) {
    if (parameter.in === "path") url = url.replace("{" + parameter.name + "}", encodeURIComponent(parameter.example));
  }
  const stream = operation.responses["200"] && operation.responses["200"].content
    && "text/event-stream" in operation.responses["200"].content;
  const parts = ["curl" + (stream ? " -N" : "") + (method === "get" ? "" : " -X " + method.toUpperCase()) + " " + quoted(base + url)];
  if (operation.security.length) parts.push('-H "X-API-Key: $STEPFLOW_API_KEY"');
  const body = operation.requestBody && operation.requestBody.content["application/json"];
  if (body) {
    parts.push("-H 'Content-Type: application/json'");
    parts.push("-d " + quoted(JSON.stringify(body.example)));
  }
  return parts.join(" \\\n  ");
}

function exampleOf(operation) {
  for (const [status, response] of Object.entries(operation.responses)) {
    for (const [media, content] of Object.entries(response.content || {})) {
      if (content.examples) {
        const lines = Object.values(content.examples).map(({ value }) =>
          Object.entries(value).map(([name, text]) => name + ": " + text).join("\n"));
        return slab(status + " " + media, lines.join("\n\n"), paintPlain);
      }
      if (status < "300" && content.example !== undefined) {
        const json = media === "application/json";
        return slab(status + " " + media, json ? JSON.stringify(content.example, null, 2) : content.example,
          json ? paintJson : paintPlain);
      }
    }
  }
  return null;
}

// ---------------------------------------------------------------- one operation

function pathNodes(path) {
  return path.split(/(\{[^}]+\})/).map((part) => part.startsWith("{") ? el("i", null, part) : part);
}

function badges(operation) {
  if (!operation.security.length) return el("div", { class: "badges" }, el("span", { class: "badge open" }, "no credentials needed"));
  const ways = { apiKey: "API key", jwt: "JWT", publicAccessToken: "public access token" };
  return el("div", { class: "badges" },
    operation["x-required-scope"] && el("span", { class: "badge open" }, "scope " + operation["x-required-scope"]),
    operation.security.flatMap(Object.keys).map((way) => el("span", { class: "badge" }, ways[way] || way)));
}

function reply(status, response) {
  const kind = status < "300" ? "ok" : status < "400" ? "other" : "bad";
  const body = el("div", { class: "body" });
  for (const [name, header] of Object.entries(response.headers || {})) {
    body.append(el("div", { class: "fields" }, field(name, header.schema || {}, header.required, "", 9, "header")));
  }
  for (const [media, content] of Object.entries(response.content || {})) {
    const schema = content.schema || {};
    body.append(el("p", null, el("code", null, media), " ", schema.$ref || schema.type === "array" ? kindOf(schema) : ""));
    for (const each of inner(schema)) body.append(fields(each, 1));
  }
  return el("details", { class: "reply" },
    el("summary", null, el("span", { class: "status " + kind }, status), el("span", null, words(response.description))), body);
}

function operationOf(method, path, item, operation) {
  const id = "op-" + operation.operationId;
  const parameters = [...(item.parameters || []), ...(operation.parameters || [])];
  const body = operation.requestBody;
  const left = el("div", null,
    el("h3", null, el("a", { href: "#" + id }, operation.summary)),
    el("div", { class: "path" }, el("span", { class: "method " + method }, method), el("span", null, pathNodes(path))),
    badges(operation), paragraphs(operation.description));
  if (parameters.length) {
    left.append(el("div", { class: "label" }, "Parameters"),
      el("div", { class: "fields" }, parameters.map((parameter) =>
        field(parameter.name, parameter.schema, parameter.required, parameter.description, 9, parameter.in))));
  }
  if (body) {
    const schema = body.content["application/json"].schema;
    left.append(el("div", { class: "label" }, "Body"),
      el("p", null, words(body.description), el("span", { class: "kind" }, kindOf(schema))));
    for (const each of inner(schema)) left.append(fields(each, 1));
  }
  left.append(el("div", { class: "label" }, "Responses"),
    el("div", null, Object.entries(operation.responses).map(([status, response]) => reply(status, response))));
  return el("article", { class: "operation", id }, left,
    el("div", { class: "examples" }, slab("curl", curl(method, path, operation, parameters), paintCurl), exampleOf(operation)));
}

// ---------------------------------------------------------------- the page

function operationsOf(tag) {
  return Object.entries(doc.paths).flatMap(([path, item]) =>
    methods.filter((method) => item[method] && item[method].tags.includes(tag))
      .map((method) => ({ method, path, item, operation: item[method] })));
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

function side() {
  const nav = el("nav", { "aria-label": "Operations" });
  const links = [];
  for (const tag of doc.tags) {
    const list = el("ul");
    for (const { method, path, operation } of operationsOf(tag.name)) {
      const link = el("a", { href: "#op-" + operation.operationId, title: path },
        el("span", { class: "method " + method }, method === "delete" ? "del" : method), operation.summary);
      const entry = el("li", null, link);
      links.push({ link, entry, list, text: [method, path, operation.summary, operation.operationId].join(" ").toLowerCase() });
      list.append(entry);
    }
    nav.append(el("section", null, el("h2", null, tag.name), list));
  }
  nav.append(el("section", null, el("h2", null, "Reference"), el("ul", null, el("li", null, el("a", { href: "#schemas" }, "Schemas")))));
  const nothing = el("p", { class: "nothing", hidden: true }, "Nothing by that name.");
  const find = el("input", { class: "find", type: "search", placeholder: "Find a route", "aria-label": "Find a route", on: { input: () => {
    const wanted = find.value.trim().toLowerCase();
    for (const each of links) each.entry.hidden = !each.text.includes(wanted);
    for (const list of new Set(links.map((each) => each.list))) list.parentNode.hidden = [...list.children].every((entry) => entry.hidden);
    nothing.hidden = links.some((each) => !each.entry.hidden);
  } } });
  watch(links);
  return el("aside", { class: "side" },
    el("a", { class: "brand", href: "#top" }, el("span", { class: "mark", "aria-hidden": "true" }, el("i"), el("i"), el("i")),
      doc.info.title, el("span", { class: "version" }, doc.info.version)), find, nothing, nav);
}

// Marks the operation that is being read.
function watch(links) {
  if (!("IntersectionObserver" in window)) return;
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting)) {
      for (const { link } of links) link.classList.toggle("here", link.hash === "#" + entry.target.id);
    }
  }, { rootMargin: "-10% 0px -75% 0px" });
  requestAnimationFrame(() => document.querySelectorAll(".operation").forEach((each) => observer.observe(each)));
}

function intro() {
  const ways = [
    ["API key", "`X-API-Key: …` for servers. Its scopes say what it may do."],
    ["JWT", "`Authorization: Bearer …` for callers that your identity provider knows."],
    ["Public access token", "`?token=pat_…` reads one run and its stream from a browser, and nothing else."],
  ];
  return el("section", { id: "top" },
    el("div", { class: "top" },
      el("div", null, el("h1", null, doc.info.title + " API"), el("p", { class: "lead" }, doc.info.summary)),
      el("div", { class: "tools" },
        el("a", { class: "button", href: "openapi.yaml", download: "openapi.yaml" }, "openapi.yaml"),
        el("button", { type: "button", on: { click: theme }, "aria-label": "Change between dark and light" }, "Theme"))),
    el("div", { class: "prose" }, paragraphs(doc.info.description), el("p", null, "Base URL ", el("code", null, base))),
    el("div", { class: "ways" }, ways.map(([title, text]) => el("div", { class: "way" }, el("b", null, title), words(text)))));
}

function schemas() {
  return [
    el("div", { class: "group", id: "schemas" }, el("h2", null, "Schemas"), el("p", null, "What bodies and events are made of.")),
    ...Object.entries(doc.components.schemas).map(([name, schema]) => el("section", { class: "schema", id: "schema-" + name },
      el("h3", null, name), el("p", null, words(schema.description || "")), fields(schema, 2))),
  ];
}

document.body.append(el("div", { class: "shell" }, side(),
  el("main", null, intro(), doc.tags.flatMap((tag) => [
    el("div", { class: "group" }, el("h2", null, tag.name), el("p", null, tag.description)),
    ...operationsOf(tag.name).map(({ method, path, item, operation }) => operationOf(method, path, item, operation)),
  ]), schemas())));
document.title = doc.info.title + " API";
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" });
