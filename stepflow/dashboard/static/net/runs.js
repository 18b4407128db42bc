// One run, kept as it is now: read whole, changed by its events, and read again a moment later.
//
// Events come without gaps (the stream resumes by its cursor), and a run's own without their time; the
// server's copy has all times, and the records each attempt. So what is seen at once is folded here, and
// what lasts is the server's.

import { ENDED } from "../lib/runs.js";
import { afterEvent, attemptsOf, logLine, logOf, readExport } from "../lib/fold.js";
import { base } from "../base.js";
import { useEffect, useState } from "../vendor/hooks.js";
import { api } from "./api.js";
import { Feed } from "./feed.js";
import { follow, line, listen } from "./live.js";

const AGAIN_MS = 700;
const WHY_MS = 10_000;
const RECORDS_MOST = 20_000;

class OneRun {
  run = null;
  why = null;
  attempts = new Map();
  log = [];
  masked = 0;
  error = null;
  gone = false;
  expired = false;
  #timer = 0;
  #frame = 0;
  #reading = false;
  #stale = false;
  #stopped = false;

  constructor(id, token, changed) {
    Object.assign(this, { id, token, changed });
  }

  start() {
    this.read();
    if (this.token) this.#watch();
    else {
      this.unfollow = follow(this.id, (one) => this.take(one.event, one.data, one.at));
      this.unlisten = listen((news) => news.reload && this.read());
      this.unwatch = line.subscribe((state) => this.#poll(state));
      this.#poll(line.value);
      this.asker = setInterval(() => this.#ask(), WHY_MS);
    }
  }

  // Its words count time, and grow old while nothing happens.
  async #ask() {
    if (document.hidden || this.run === null || ENDED.has(this.run.status)) return;
    this.why = (await api.why(this.id).catch(() => null)) ?? this.why;
    this.#tell();
  }

  stop() {
    this.#stopped = true;
    this.unfollow?.();
    this.unlisten?.();
    this.unwatch?.();
    this.feed?.stop();
    clearTimeout(this.#timer);
    clearInterval(this.poller);
    clearInterval(this.asker);
    cancelAnimationFrame(this.#frame);
  }

  #poll(state) {
    clearInterval(this.poller);
    if (state === "off")
      this.poller = setInterval(
        () => !document.hidden && !ENDED.has(this.run?.status) && this.read(),
        2000,
      );
  }

  // With a token there is the run's own stream: history first, so its log needs no records.
  #watch() {
    this.feed = new Feed({
      url: () =>
        `${base}runs/${encodeURIComponent(this.id)}/stream?token=${encodeURIComponent(this.token)}`,
      credentials: "omit",
      onEvent: (event, text, id) => {
        const data = JSON.parse(text);
        const at = Date.now();
        if (event === "expired") {
          // Nothing can be read with it any more, so nothing is asked.
          this.expired = true;
          this.feed.stop();
          clearTimeout(this.#timer);
          line.set("over");
          this.#tell();
          return;
        }
        if (event !== "resync")
          this.log = [
            ...this.log.slice(-RECORDS_MOST),
            logLine(event, data, Number(id) || "", this.settled ? at : NaN),
          ];
        clearTimeout(this.settling);
        this.settling = setTimeout(() => (this.settled = true), 400);
        if (this.settled) this.take(event, data, at);
        else {
          this.#tell();
          this.#later();
        }
        if (event === "complete" || event === "error") this.feed.stop();
      },
      onState: (state) => line.set(state === "over" ? "live" : state),
    });
    this.feed.start();
  }

  #tell() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.changed();
    });
  }

  take(event, data, at) {
    if (this.run === null) return;
    this.run = afterEvent(this.run, event, data, at);
    if (!this.token) this.log = [...this.log, { ...logLine(event, data, "", at), fresh: true }];
    this.#tell();
    this.#later();
  }

  #later() {
    if (this.#reading) this.#stale = true;
    else this.#timer ||= setTimeout(() => this.read(), AGAIN_MS);
  }

  /** Read all of it from the server. */
  async read() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    if (this.expired) return;
    if (this.#reading) {
      this.#stale = true;
      return;
    }
    this.#reading = true;
    const began = performance.now();
    try {
      const [run, why, records] = await Promise.all([
        api.run(this.id, this.token),
        this.token ? null : api.why(this.id).catch(() => null),
        this.token ? null : api.records(this.id).catch(() => null),
      ]);
      // What happened meanwhile is newer than this copy: it is read again below.
      if (!this.#stale || this.run === null) this.run = { ...run, progress: this.run?.progress };
      this.why = why;
      if (records !== null) this.#fold(records);
      this.error = null;
    } catch (error) {
      if (error.status === 404 && this.run !== null) this.gone = true;
      else if (error.status !== 0 || this.run === null) this.error = error;
    }
    this.#reading = false;
    if (this.#stopped) return;
    this.#tell();
    if (this.#stale) {
      this.#stale = false;
      // A run that takes long to read is read less often.
      const took = performance.now() - began;
      this.#timer = setTimeout(() => this.read(), Math.max(AGAIN_MS, took * 4));
    }
  }

  #fold(text) {
    const { head, records } = readExport(text);
    this.masked = head.masked ?? 0;
    this.attempts = attemptsOf(records);
    this.log = logOf(records);
  }
}

/** Return the run with this id, kept as it is now. */
export function useRun(id, token = "") {
  const [, redraw] = useState(0);
  const [one, setOne] = useState(null);
  useEffect(() => {
    const made = new OneRun(id, token, () => redraw((n) => n + 1));
    setOne(made);
    made.start();
    return () => made.stop();
  }, [id, token]);
  return one;
}
