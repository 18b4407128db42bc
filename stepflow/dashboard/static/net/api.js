// The HTTP API, as docs/http-api.md has it. Answers are objects; refusals are `ApiError`.
import { base } from "../base.js";
import { Store } from "../parts/store.js";

export class ApiError extends Error {
  /** `status` 0: the server was not reached. */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * Who is asking: `null` until it is known, else `{ kind, name, scopes }`; `kind` is "session" (a cookie
 * that no script can read), "open" (the server lets everybody in, or the host does), "key" (a header; the
 * key is in this tab's memory alone) or "none".
 */
export const who = new Store(null);

let key = "";
// A connection may have died without a word, as in a laptop's sleep: then no answer ever comes.
const LATE_MS = 30_000;

/** The headers that stand for whoever asks. */
export const credentials = () => (key ? { "X-API-Key": key } : {});

const path = (parts) => parts.map((part) => encodeURIComponent(part)).join("/");

/** Ask; return the decoded answer. `token` reads one run in place of any other credentials. */
export async function ask(method, parts, { query = {}, body, token, signal, text = false } = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value])
      if (one !== undefined && one !== "") search.append(name, one);
  }
  if (token) search.set("token", token);
  const headers = token ? {} : credentials();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(`${base}${path(parts)}${search.size ? `?${search}` : ""}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: token ? "omit" : "same-origin",
      cache: "no-store",
      signal: AbortSignal.any([AbortSignal.timeout(LATE_MS), ...(signal ? [signal] : [])]),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (error.name === "TimeoutError") throw unanswered(method);
    throw new ApiError(0, "UNREACHABLE", "The server cannot be reached.");
  }
  compareClocks(response.headers.get("date"));
  if (!response.ok) throw await refusal(response, token);
  if (response.status === 204) return null;
  return text ? response.text() : response.json();
}

function unanswered(method) {
  const perhaps = method === "GET" ? "" : " It may have been done all the same: look first.";
  return new ApiError(0, "UNREACHABLE", `The server has not answered for half a minute.${perhaps}`);
}

let skew = 0;

// The header has whole seconds: less than three is no difference.
function compareClocks(date) {
  const there = Date.parse(date ?? "");
  if (Number.isFinite(there)) skew = Math.abs(there - Date.now()) > 3000 ? there - Date.now() : 0;
}

/** The time by the server's clock, as near as can be told. */
export const serverNow = () => Date.now() + skew;

async function refusal(response, token) {
  const said = await response.json().catch(() => ({}));
  if (response.status === 401 && !token && who.value?.kind !== "none") signedOut();
  const message = said.error ?? `The server answered ${response.status}.`;
  return new ApiError(response.status, said.code ?? "INTERNAL", message);
}

function signedOut() {
  key = "";
  who.set({ kind: "none", name: "", scopes: [] });
}

/** Find out who asks: the session's cookie, if there is one. */
export async function findOut() {
  try {
    const found = await ask("GET", ["session"]);
    // Neither a cookie nor a key of ours: there is nothing to sign out of.
    who.set(known(found.session || key ? found : { ...found, kind: "open" }));
  } catch (error) {
    if (error.status === 0 || error.status === 503) throw error;
    if (error.status === 404 && key) who.set(known({ scopes: ALL }));
    else signedOut();
  }
}

const ALL = ["trigger", "read", "notify", "control", "admin"];
const known = ({ name = "", kind = "key", scopes, session = false, expiresAt }) => ({
  kind: session ? "session" : kind,
  name,
  scopes,
  expiresAt,
});

/** Sign in with an API key: into a cookie where the server has sessions, else into this tab's memory. */
export async function signIn(text) {
  try {
    who.set(known(await ask("POST", ["session"], { body: { key: text } })));
  } catch (error) {
    if (error.status !== 404 && error.status !== 405) throw error;
    await trySilently(text);
  }
}

// A host that switched the session's routes off: the key goes with each request.
async function trySilently(text) {
  key = text;
  try {
    await ask("GET", ["runs"], { query: { limit: 1 } });
  } catch (error) {
    if (error.status !== 403) {
      key = "";
      throw error;
    }
  }
  who.set(known({ scopes: ALL }));
}

/** End the session. */
export async function signOut() {
  if (who.value?.kind === "session") await ask("DELETE", ["session"]).catch(() => null);
  signedOut();
}

/** Return why the caller may not do what needs this scope; "" where it may. */
export function lacks(scope) {
  const scopes = who.value?.scopes ?? [];
  return scopes.includes(scope) ? "" : `Your key has not the scope “${scope}”.`;
}

export const api = {
  runs: (query, signal) => ask("GET", ["runs"], { query, signal }),
  run: (id, token) => ask("GET", ["runs", id], { token }),
  why: (id, token) => ask("GET", ["runs", id, "why"], { token }),
  records: (id) => ask("GET", ["runs", id, "export"], { text: true }),
  audit: (id) => ask("GET", ["runs", id, "audit"]),
  act: (id, what, body) => ask("POST", ["runs", id, what], { body }),
  purge: (id, reason) => ask("DELETE", ["runs", id], { query: { reason } }),
  trigger: (workflow, input, query) => ask("POST", ["trigger", workflow], { body: input, query }),
  notify: (event, payload, runId) =>
    ask("POST", ["notify", event], { body: payload, query: { runId } }),
  workflows: () => ask("GET", ["workflows"]),
  workflow: (id) => ask("GET", ["workflows", id]),
  events: () => ask("GET", ["events"]),
  schedules: () => ask("GET", ["schedules"]),
  schedule: (id, what) => ask("POST", ["schedules", id, what]),
  system: () => ask("GET", ["system"]),
  metrics: () => ask("GET", ["metrics"], { text: true }),
  ready: () => ask("GET", ["ready"]),
  keys: () => ask("GET", ["keys"]),
  makeKey: (body) => ask("POST", ["keys"], { body }),
  revokeKey: (id) => ask("DELETE", ["keys", id]),
};
