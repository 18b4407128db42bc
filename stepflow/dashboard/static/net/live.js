// What a tab hears of the stream over all runs.
import { base } from "../base.js";
import { Store } from "../parts/store.js";
import { credentials, findOut, who } from "./api.js";
import { Hub } from "./hub.js";

/** "idle", "opening", "live", "lost", "refused", or "off" where this server has no such stream. */
export const line = new Store("idle");

const followers = new Map();
const listeners = new Set();
let port = null;

/** Hear `{ patches }`, or `{ reload: true }`: then load again what is shown. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Hear the events of one run as `{ event, data, at }`. */
export function follow(runId, listener) {
  if (!followers.has(runId)) followers.set(runId, new Set());
  followers.get(runId).add(listener);
  tellRuns();
  return () => {
    followers.get(runId)?.delete(listener);
    if (!followers.get(runId)?.size) followers.delete(runId);
    tellRuns();
  };
}

const tellRuns = () => port?.postMessage({ do: "follow", runs: [...followers.keys()] });

function connect() {
  if (port === null) port = makePort();
  const key = credentials()["X-API-Key"] ?? "";
  port.postMessage({ do: "hello", key, hidden: document.hidden, runs: [...followers.keys()] });
}

function makePort() {
  if (typeof SharedWorker === "function") {
    try {
      // Trusted Types: this is the one script that the page may name, and it names no other.
      const policy = globalThis.trustedTypes?.createPolicy("stepflow-worker", {
        createScriptURL: () => new URL("./worker.js", import.meta.url).href,
      });
      const url = policy?.createScriptURL("") ?? new URL("./worker.js", import.meta.url).href;
      const worker = new SharedWorker(url, { type: "module", name: "stepflow" });
      worker.port.onmessage = ({ data }) => hear(data);
      return worker.port;
    } catch {
      // As below.
    }
  }
  const hub = new Hub(base);
  const own = { postMessage: (message) => queueMicrotask(() => hear(message)) };
  return { postMessage: (message) => hub.hear(own, message) };
}

function hear(message) {
  if (message.is === "state") {
    const off = message.state === "refused" && [403, 404, 405].includes(message.status);
    line.set(off ? "off" : message.state);
    if (message.state === "refused" && message.status === 401) findOut().catch(() => undefined);
  } else if (message.is === "gone") {
    connect();
    for (const listener of listeners) listener({ reload: true });
  } else if (message.is === "reload") {
    for (const listener of listeners) listener({ reload: true });
  } else if (message.is === "news") {
    for (const listener of listeners) listener(message);
    for (const { event, data, at } of message.events) {
      for (const listener of followers.get(data.runId) ?? []) listener({ event, data, at });
    }
  }
}

// Whoever signs in opens it, whoever signs out closes it.
who.subscribe((now) => {
  if (now && now.kind !== "none") connect();
  else if (port) {
    port.postMessage({ do: "bye" });
    line.set("idle");
  }
});

const there = () => port && who.value && who.value.kind !== "none";
document.addEventListener(
  "visibilitychange",
  () => there() && port.postMessage({ do: "hidden", hidden: document.hidden }),
);
addEventListener("online", () => there() && port.postMessage({ do: "poke" }));
addEventListener("pagehide", () => port?.postMessage({ do: "bye" }));
addEventListener("pageshow", ({ persisted }) => persisted && there() && connect());
setInterval(() => there() && port.postMessage({ do: "alive" }), 60_000);

/** Look at once whether the line still stands. */
export const poke = () => port?.postMessage({ do: "poke" });
