// The stream over all runs, read once and given to every tab: what the worker runs, and a tab where
// there are no shared workers.
//
// A port gets, some times a second, one patch for each run that something happened to, and for those
// runs that it asked to follow the events themselves. A port that nobody looks at is not written to: its
// patches gather, one a run, and when they are too many it is told to load its list again.

import { foldEvent } from "../lib/runs.js";
import { Feed } from "./feed.js";

const FLUSH_MS = 120;
const PATCHES_MOST = 5000;
const EVENTS_MOST = 5000;
const SILENT_MS = 10 * 60_000;

export class Hub {
  #ports = new Map();
  #feed = null;
  #timer = 0;
  #state = "idle";
  #status = 0;
  #key = "";
  #heard = 0;

  constructor(base) {
    this.base = base;
  }

  /** Take a message of a port; `port.postMessage` answers. */
  hear(port, message) {
    const mine = this.#ports.get(port);
    if (mine) mine.seen = Date.now();
    // It slept for so long that it was given up.
    else if (message.do !== "hello" && message.do !== "bye")
      return port.postMessage({ is: "gone" });
    switch (message.do) {
      case "hello":
        this.#hello(port, message);
        break;
      case "follow":
        mine.runs = new Set(message.runs);
        break;
      case "hidden":
        this.#look(port, mine, message.hidden);
        break;
      case "poke":
        this.#feed?.poke();
        break;
      case "bye":
        this.#bye(port);
        break;
      default:
    }
    return undefined;
  }

  #hello(port, { key, hidden, runs = [] }) {
    this.#ports.set(port, {
      patches: new Map(),
      events: [],
      runs: new Set(runs),
      hidden,
      over: false,
      seen: Date.now(),
    });
    const other = key !== this.#key;
    this.#key = key;
    if (this.#feed === null || other || this.#state === "refused") this.#restart();
    else port.postMessage({ is: "state", state: this.#state, status: this.#status });
    this.#sweep();
  }

  #bye(port) {
    this.#ports.delete(port);
    if (this.#ports.size) return;
    this.#feed?.stop();
    this.#feed = null;
    this.#state = "idle";
  }

  // A tab that was killed says no bye; one that lives says something now and then.
  #sweep() {
    for (const [port, { seen }] of this.#ports) if (Date.now() - seen > SILENT_MS) this.#bye(port);
  }

  #restart() {
    this.#feed?.stop();
    const cursor = this.#feed?.cursor ?? "";
    this.#feed = new Feed({
      url: () => `${this.base}stream`,
      headers: () => (this.#key ? { "X-API-Key": this.#key } : {}),
      onEvent: (event, data) => this.#take(event, data),
      onState: (state, status = 0) => {
        this.#state = state;
        this.#status = status;
        this.#tell({ is: "state", state, status });
      },
    });
    this.#feed.cursor = cursor;
    this.#feed.start();
  }

  #take(event, text) {
    // The login is over: the stream ends, and who opens it again is told so.
    if (event === "expired") return;
    this.#heard += 1;
    if (event === "resync") {
      for (const mine of this.#ports.values()) {
        mine.patches.clear();
        mine.events = [];
        mine.over = true;
      }
    } else {
      const data = JSON.parse(text);
      const at = Date.parse(data.at ?? "") || Date.now();
      for (const mine of this.#ports.values()) {
        if (mine.over) continue;
        foldEvent(mine.patches, event, data, at);
        if (mine.runs.has(data.runId)) mine.events.push({ event, data, at });
        if (mine.patches.size > PATCHES_MOST || mine.events.length > EVENTS_MOST) {
          mine.patches.clear();
          mine.events = [];
          mine.over = true;
        }
      }
    }
    this.#timer ||= setTimeout(() => this.#flush(), FLUSH_MS);
  }

  #flush() {
    this.#timer = 0;
    for (const [port, mine] of this.#ports) if (!mine.hidden) this.#give(port, mine);
  }

  #give(port, mine) {
    if (mine.over) port.postMessage({ is: "reload" });
    else if (mine.patches.size) {
      port.postMessage({
        is: "news",
        patches: [...mine.patches.values()],
        events: mine.events,
        heard: this.#heard,
      });
    }
    mine.over = false;
    mine.patches.clear();
    mine.events = [];
  }

  #look(port, mine, hidden) {
    mine.hidden = hidden;
    if (hidden) return;
    this.#feed?.poke();
    port.postMessage({ is: "state", state: this.#state, status: this.#status });
    this.#give(port, mine);
  }

  #tell(message) {
    for (const port of this.#ports.keys()) port.postMessage(message);
  }
}
