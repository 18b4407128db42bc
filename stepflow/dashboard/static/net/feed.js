// One stream of server-sent events that is held open: it comes back by its cursor, and tells what
// state it is in. Read with `fetch`, so that a refusal can be told from a broken line.
//
// The server sends a comment every 15 seconds. A line on which nothing came for three times as long is
// dead, whatever the operating system thinks of it: so it is after a laptop's sleep. The same holds for
// a request that is not answered: it may have gone out on a connection that died meanwhile.

import { EventParser } from "../lib/sse.js";

const SILENCE_MS = 45_000;
const UNANSWERED_MS = 10_000;
const LOOK_MS = 2_500;
const BACK_OFF_MS = [250, 500, 1000, 2000, 4000];

export class Feed {
  #abort = null;
  #timer = 0;
  #tries = 0;
  #heard = 0;
  #running = false;

  /**
   * `url()` and `headers()` are asked at each connection. `onEvent(event, data, id)` gets text;
   * `onState` gets "opening", "live", "lost" (it comes back by itself), "refused" (a status of 4xx, as
   * second argument) or "over" (204: there is nothing more to come).
   */
  constructor({ url, headers = () => ({}), onEvent, onState, credentials = "same-origin" }) {
    Object.assign(this, { url, headers, onEvent, onState, credentials });
    this.cursor = "";
  }

  start() {
    if (this.#running) return;
    this.#running = true;
    this.#tries = 0;
    this.#open();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
  }

  /** Look whether the line is dead: the machine has woken, or is on a network again. */
  poke() {
    if (!this.#running) return;
    if (this.#abort === null || Date.now() - this.#heard > 20_000) this.again();
  }

  /** Connect anew, now. */
  again() {
    if (!this.#running) return;
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
    this.#tries = 0;
    this.#open();
  }

  async #open() {
    const abort = (this.#abort = new AbortController());
    this.onState(this.#tries ? "lost" : "opening");
    this.#heard = Date.now();
    let most = UNANSWERED_MS;
    const watch = setInterval(() => Date.now() - this.#heard > most && abort.abort(), LOOK_MS);
    try {
      const headers = { Accept: "text/event-stream", ...this.headers() };
      if (this.cursor) headers["Last-Event-ID"] = this.cursor;
      const { signal } = abort;
      const response = await fetch(this.url(), {
        headers,
        signal,
        cache: "no-store",
        credentials: this.credentials,
      });
      if (response.status === 204) return this.#end("over");
      if (response.status >= 400 && response.status < 500 && response.status !== 429) {
        return this.#end("refused", response.status);
      }
      if (!response.ok) throw new Error(`status ${response.status}`);
      this.#heard = Date.now();
      most = SILENCE_MS;
      this.#tries = 0;
      this.onState("live");
      await this.#read(response.body, abort);
    } catch {
      // Whatever it was, the way on is the same: come back by the cursor.
    } finally {
      clearInterval(watch);
    }
    if (this.#running && this.#abort === abort) this.#later();
    return undefined;
  }

  async #read(body, abort) {
    const parser = new EventParser();
    parser.lastId = this.cursor;
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || abort.signal.aborted) return;
      this.#heard = Date.now();
      for (const { event, data, id } of parser.push(value)) {
        if (!this.#running || this.#abort !== abort) return;
        this.cursor = id;
        this.onEvent(event, data, id);
      }
      // An id may come without an event.
      this.cursor = parser.lastId;
    }
  }

  #later() {
    const most = BACK_OFF_MS[Math.min(this.#tries, BACK_OFF_MS.length - 1)];
    this.#tries += 1;
    this.#abort = null;
    this.onState("lost");
    // Many pages that lost one server do not come back at one moment.
    this.#timer = setTimeout(() => this.#open(), most * (0.5 + Math.random() / 2));
  }

  #end(state, status) {
    this.#running = false;
    this.#abort = null;
    this.onState(state, status);
  }
}
