// One request and its answer: credentials, a time limit, and what may be sent twice.
//
//   what came back                   meaning        sent again
//   no connection                    not done       yes
//   503 UNAVAILABLE                  not done       yes, after Retry-After
//   503 OUTCOME_UNKNOWN, no answer,  perhaps done   only a read, or a trigger, whose idempotency
//   502 or 504 of a proxy                           key makes it safe
//   401, with a getToken             not done       once, with another token
//   anything else                    an answer      no
//
// At most `tries` times, with backoff and jitter; the last outcome is thrown.

import { type Credential, credentialOf, type Renewing } from "./credentials.js";
import { OutcomeUnknownError, refusal, UnauthorizedError, UnavailableError } from "./errors.js";
import { backoffMs, linked, pause } from "./pause.js";

export interface Call {
  readonly method: "GET" | "POST" | "DELETE";
  /** Percent-encoded, below the base URL. */
  readonly path: string;
  readonly query?: Query;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  /** Whether sending it twice does no harm. Reads never do any. */
  readonly repeatable?: boolean;
  /** Instead of the client's own credential. */
  readonly accessToken?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type Query = Record<string, string | number | boolean | readonly string[] | undefined>;

export interface HttpOptions {
  readonly url: string;
  readonly credentials: Renewing;
  readonly fetch: typeof globalThis.fetch;
  readonly headers: Record<string, string>;
  readonly mode: RequestCredentials | undefined;
  readonly tries: number;
  readonly timeoutMs: number;
}

const INITIAL_MS = 200;
const MAX_MS = 10_000;
/** Codes of failed connections, where a runtime says so: nothing was sent. */
const NOT_SENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"]);

export class Http {
  readonly options: HttpOptions;

  constructor(options: HttpOptions) {
    this.options = options;
  }

  /** Send the call until it has an answer; return its JSON. */
  async json<T>(call: Call): Promise<T> {
    return JSON.parse(await this.text(call)) as T;
  }

  async text(call: Call): Promise<string> {
    const repeatable = call.method === "GET" || call.repeatable === true;
    let renewed = false;
    for (let failures = 1; ; failures += 1) {
      const credential = await this.credential(call);
      try {
        return await this.#once(call, credential);
      } catch (error) {
        if (error instanceof UnauthorizedError && this.#renews(call) && !renewed) {
          renewed = true;
          failures -= 1;
          await this.options.credentials.renew(credential, "refused", call.signal);
          continue;
        }
        const again = error instanceof UnavailableError || (error instanceof OutcomeUnknownError && repeatable);
        if (!again || failures >= this.options.tries) throw error;
        const wait = backoffMs(failures, INITIAL_MS, MAX_MS);
        await pause(Math.max(wait, (error.retryAfterS ?? 0) * 1000), call.signal);
      }
    }
  }

  #renews(call: Call): boolean {
    return call.accessToken === undefined && this.options.credentials.renewable;
  }

  async credential(call: Pick<Call, "accessToken" | "signal">): Promise<Credential> {
    if (call.accessToken !== undefined) return credentialOf(call.accessToken);
    return this.options.credentials.current(call.signal);
  }

  async #once(call: Call, credential: Credential): Promise<string> {
    const [controller, cut] = linked(call.signal);
    const late = new Error("late");
    const timer = setTimeout(() => controller.abort(late), this.options.timeoutMs);
    try {
      const response = await this.send(call, credential, controller.signal);
      const body = await response.text();
      if (response.ok) return body;
      throw refusal(name(call), response.status, body, response.headers.get("retry-after"));
    } catch (error) {
      throw this.lost(call, error, late);
    } finally {
      clearTimeout(timer);
      cut();
    }
  }

  /** Start one exchange; the answer's body is the caller's to read or cancel. */
  send(call: Call, credential: Credential, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { ...this.options.headers, ...call.headers };
    if (credential.header) headers[credential.header[0]] = credential.header[1];
    const request: RequestInit = { method: call.method, headers, signal, redirect: "manual" };
    if (this.options.mode !== undefined) request.credentials = this.options.mode;
    if (call.body !== undefined) {
      headers["Content-Type"] = "application/json";
      request.body = JSON.stringify(call.body);
    }
    return this.options.fetch(this.urlOf(call, credential), request);
  }

  urlOf(call: Pick<Call, "path" | "query">, credential: Credential): string {
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(call.query ?? {})) {
      if (value === undefined) continue;
      for (const one of Array.isArray(value) ? value : [value]) query.append(key, String(one));
    }
    if (credential.query !== undefined) query.append("token", credential.query);
    const text = query.toString();
    return this.options.url + call.path + (text && `?${text}`);
  }

  /** Return what a failed exchange means: a caller's abort is itself, the rest is told. */
  lost(call: Call, error: unknown, late?: Error): unknown {
    if (call.signal?.aborted) return call.signal.reason;
    if (error === late) {
      return unanswered(call, `no answer in ${this.options.timeoutMs} ms`, error);
    }
    // What fetch throws when the network fails is a TypeError, and why is in its cause, if anywhere.
    if (!(error instanceof TypeError)) return error;
    const cause = error.cause as { code?: unknown; message?: unknown } | undefined;
    const why = typeof cause?.message === "string" && cause.message ? cause.message : error.message;
    if (typeof cause?.code === "string" && NOT_SENT.has(cause.code)) {
      const refused = new UnavailableError(`${name(call)}: ${why}`, "UNAVAILABLE", 0);
      refused.cause = error;
      return refused;
    }
    return unanswered(call, why, error);
  }
}

function unanswered(call: Call, why: string, cause: unknown): Error {
  // A read that is lost has done nothing, whatever became of it.
  const error =
    call.method === "GET"
      ? new UnavailableError(`${name(call)}: ${why}`, "UNAVAILABLE", 0)
      : new OutcomeUnknownError(`${name(call)}: ${why}; it may have been done`, "OUTCOME_UNKNOWN", 0);
  error.cause = cause;
  return error;
}

/** What to call a request in a message: without its query, which may hold a token. */
export function name(call: Pick<Call, "method" | "path">): string {
  return `${call.method} ${call.path}`;
}

/** Return a path's segment percent-encoded, so that no id can leave its place. */
export function segment(id: string): string {
  // URLs resolve a segment of dots in any spelling, so that no request could bear it.
  if (id === "" || id === "." || id === "..") {
    throw new TypeError(`${JSON.stringify(id)} cannot be an id in a path`);
  }
  return encodeURIComponent(id);
}
