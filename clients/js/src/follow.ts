// A stream that is followed to its end, whatever happens to the connection.
//
//               opened                 complete, error, 204
//    connecting ───────► open ───────────────────────────────► closed
//        ▲                │ the connection ends, breaks, or is silent for 45 s
//        └─── waiting ◄───┘ goes on after the last event's id
//
// - Ids go back as they came: the server sends precisely what was missed.
// - An answer that is no stream is thrown, unless it says to come again (503, 429, a proxy's).
// - `resync` brings the whole run. If that has ended, the connection's end is the stream's.
// - `expired`, and a 401: another token from `getToken`, and on at once; without one it is thrown.
// - Waits double from the server's `retry:` to 30 s, with jitter; an event sets them back; a page
//   that wakes, or whose network comes back, does not sit them out. The first connection is given
//   up like any request; after that there is no end of trying, unless `triesMax` bounds it.
// - Silence is neither event nor comment. It is measured while somebody waits for more.

import type { Credential } from "./credentials.js";
import {
  InternalError,
  OutcomeUnknownError,
  RateLimitedError,
  refusal,
  StepflowError,
  UnauthorizedError,
  UnavailableError,
} from "./errors.js";
import { type Batch, type Frame, type Reading, readBody } from "./frames.js";
import { type Call, type Http, name, type Query } from "./http.js";
import { backoffMs, linked, onWake, pause } from "./pause.js";
import type { ConnectionState } from "./types.js";

export interface Followed {
  readonly http: Http;
  readonly path: string;
  readonly query?: Query;
  readonly accessToken?: string | undefined;
  readonly lastEventId?: string | undefined;
  /** Whether `complete` and `error` end it: those of one run do. */
  readonly ends: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly triesMax?: number | undefined;
  readonly silenceMs: number;
  /** How to open it, where that is not by `fetch`. */
  readonly open?: ((opening: Opening) => Promise<Reading | null>) | undefined;
  readonly onConnection?: ((state: ConnectionState, why?: unknown) => void) | undefined;
}

/** What it takes to open one connection. */
export interface Opening {
  readonly http: Http;
  readonly call: Call;
  readonly credential: Credential;
  readonly lastEventId: string;
  readonly signal: AbortSignal;
  /** What an answer that `fetch` brought means. */
  readonly fetched: (response: Response) => Promise<Reading | null>;
}

/** A frame whose data was read, and after which id the stream would go on. */
export interface Event {
  readonly event: string;
  readonly data: unknown;
  readonly id?: string;
  readonly lastEventId: string;
}

const RETRY_MS = 1000;
const RETRY_MAX_MS = 30_000;
const FIRST_TRIES = 4;
const KNOWN = new Set(["status", "step", "complete", "error", "emit", "progress", "resync"]);
const ENDED = new Set<unknown>(["completed", "failed", "cancelled"]);

/** Yield the stream's events in batches as they come, each once. */
export async function* follow(stream: Followed): AsyncGenerator<readonly Event[], void, void> {
  const watch = new Watch(stream);
  try {
    while (!watch.over) {
      watch.say("connecting");
      try {
        yield* watch.connection();
      } catch (error) {
        await watch.failed(error);
        continue;
      }
      if (!watch.over) await watch.failed(watch.ended());
    }
  } finally {
    watch.say("closed");
  }
}

class Watch {
  over = false;
  readonly #stream: Followed;
  readonly #call: Call;
  #lastEventId: string;
  #retryMs = RETRY_MS;
  #failures = 0;
  #opened = false;
  #renewed = false;
  #endedByResync = false;
  #expired = false;
  #credential: Credential = {};
  #state: ConnectionState | undefined;

  constructor(stream: Followed) {
    this.#stream = stream;
    this.#lastEventId = stream.lastEventId ?? "";
    const { path, query, accessToken, signal } = stream;
    this.#call = { method: "GET", path, query: query ?? {}, accessToken, signal };
  }

  say(state: ConnectionState, why?: unknown): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#stream.onConnection?.(state, why);
  }

  /** Yield the batches of one connection; returns when it has ended, throws when it broke. */
  async *connection(): AsyncGenerator<readonly Event[], void, void> {
    const { http, signal } = this.#stream;
    this.#expired = false;
    this.#credential = await http.credential(this.#call);
    const [controller, cut] = linked(signal);
    try {
      const reading = await this.#inTime(this.#open(controller.signal), controller);
      if (reading === null) {
        this.over = true;
        return;
      }
      this.#opened = true;
      this.say("open");
      for (;;) {
        const batch = await this.#inTime(reading.next(), controller);
        if (batch === null) return;
        const events = this.#read(batch);
        if (events.length > 0) yield events;
        if (this.over || this.#expired) return;
      }
    } finally {
      // Whatever ended it, the server hears of it.
      controller.abort();
      cut();
    }
  }

  /** Open the stream; `null`: there is nothing more. */
  async #open(signal: AbortSignal): Promise<Reading | null> {
    const { http, open } = this.#stream;
    const fetched = (response: Response): Promise<Reading | null> => this.#fetched(response);
    if (open) {
      const [call, credential, lastEventId] = [this.#call, this.#credential, this.#lastEventId];
      return open({ http, call, credential, lastEventId, signal, fetched });
    }
    const headers: Record<string, string> = { Accept: "text/event-stream" };
    if (this.#lastEventId) headers["Last-Event-ID"] = this.#lastEventId;
    return fetched(await http.send({ ...this.#call, headers }, this.#credential, signal));
  }

  async #fetched(response: Response): Promise<Reading | null> {
    if (response.status === 204) return null;
    const type = response.headers.get("content-type") ?? "";
    if (response.status === 200 && response.body && type.startsWith("text/event-stream")) {
      return readBody(response.body);
    }
    const body = await response.text();
    if (response.ok) {
      const strange = `${name(this.#call)}: ${type || "no content"} is no stream; is this a Stepflow API?`;
      throw new InternalError(strange, "INTERNAL", response.status);
    }
    throw refusal(name(this.#call), response.status, body, response.headers.get("retry-after"));
  }

  /** Await what must come in time; a page that slept looks at the clock when it wakes. */
  async #inTime<T>(coming: Promise<T>, controller: AbortController): Promise<T> {
    const { silenceMs } = this.#stream;
    const since = Date.now();
    const silent = new UnavailableError(
      `${name(this.#call)}: neither an event nor a comment for ${silenceMs} ms`,
      "UNAVAILABLE",
      0,
    );
    let stop: (() => void) | undefined;
    const late = new Promise<never>((_, reject) => {
      const give_up = (): void => {
        reject(silent);
        controller.abort(silent);
      };
      const timer = setTimeout(give_up, silenceMs);
      const stopWake = onWake(() => {
        if (Date.now() - since >= silenceMs) give_up();
      });
      stop = () => {
        clearTimeout(timer);
        stopWake();
      };
    });
    late.catch(() => undefined);
    coming.catch(() => undefined);
    try {
      return await Promise.race([coming, late]);
    } finally {
      stop?.();
    }
  }

  #read(batch: Batch): Event[] {
    if (batch.retryMs !== undefined) this.#retryMs = batch.retryMs;
    const events: Event[] = [];
    for (const frame of batch.frames) {
      const event = this.#event(frame);
      if (event) events.push(event);
    }
    return events;
  }

  #event({ event, data, id }: Frame): Event | undefined {
    // An empty id is one, and means: from the start.
    if (id !== undefined) this.#lastEventId = id;
    if (this.over || this.#expired) return undefined;
    if (event === "expired") {
      this.#expired = true;
      return undefined;
    }
    // A later server may send more kinds; who does not know them skips them.
    if (!KNOWN.has(event)) return undefined;
    this.#failures = 0;
    this.#renewed = false;
    const read: unknown = JSON.parse(data);
    if (this.#stream.ends) {
      const status = (read as { status?: unknown } | null)?.status;
      this.#endedByResync = event === "resync" && ENDED.has(status);
      this.over = event === "complete" || event === "error";
    }
    const lastEventId = this.#lastEventId;
    return id ? { event, data: read, id, lastEventId } : { event, data: read, lastEventId };
  }

  /** Return what the end of the connection means; `over` where it is the end of the stream. */
  ended(): StepflowError | undefined {
    if (this.#expired) {
      const where = `go on after event ${this.#lastEventId || "0"} with another`;
      return new UnauthorizedError(`the credential expired; ${where}`, "UNAUTHORIZED", 401);
    }
    if (this.#endedByResync) {
      this.over = true;
      return undefined;
    }
    const early = `${name(this.#call)}: the stream ended before the run did`;
    return new UnavailableError(early, "UNAVAILABLE", 0);
  }

  /** Wait before the next connection, or throw what ends the stream. */
  async failed(why: unknown): Promise<void> {
    const { http, signal, accessToken, triesMax } = this.#stream;
    if (why === undefined) return;
    signal?.throwIfAborted();
    const error = this.#meaning(why);
    const renews = accessToken === undefined && http.options.credentials.renewable;
    if (error instanceof UnauthorizedError && renews && (this.#expired || !this.#renewed)) {
      // Once between two events: a fresh token that is refused, too, is wrong. One that is over was
      // good, and a quiet run may outlive many.
      this.#renewed = true;
      await http.options.credentials.renew(this.#credential, this.#expired ? "expired" : "refused", signal);
      return;
    }
    if (!comesAgain(error)) throw error;
    this.#failures += 1;
    const max = triesMax ?? (this.#opened ? Number.POSITIVE_INFINITY : FIRST_TRIES);
    if (this.#failures >= max) throw error;
    this.say("waiting", error);
    const wait = backoffMs(this.#failures, this.#opened ? this.#retryMs : 200, RETRY_MAX_MS);
    await pause(Math.max(wait, (error.retryAfterS ?? 0) * 1000), signal, true);
  }

  #meaning(why: unknown): unknown {
    return why instanceof StepflowError ? why : this.#stream.http.lost(this.#call, why);
  }
}

function comesAgain(error: unknown): error is StepflowError {
  return error instanceof UnavailableError || error instanceof OutcomeUnknownError || error instanceof RateLimitedError;
}
