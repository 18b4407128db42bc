// The client: every call of the API that a program or a page makes of runs.

import { Credentials, type GetToken } from "./credentials.js";
import { runFailure } from "./errors.js";
import { byEventSource } from "./eventsource.js";
import { finished } from "./fold.js";
import type { Followed } from "./follow.js";
import { type Call, Http, segment } from "./http.js";
import { linked } from "./pause.js";
import { flat, type RunCallbacks, type RunSubscription, type SubscribeOptions, subscription } from "./subscription.js";
import type {
  AnyWorkflows,
  AwaitedEvent,
  BatchFailure,
  ConnectionState,
  Health,
  Run,
  RunEvent,
  RunPage,
  RunStatus,
  StreamEvent,
  TokenGrant,
  Triggered,
  Why,
  Workflow,
  WorkflowTypes,
} from "./types.js";

export interface ClientOptions {
  /** Where the API is, a path included: `https://shop.example/api/stepflow`; a path alone in a page. */
  readonly url?: string | undefined;
  /** The same under the name that the published client has for it. */
  readonly baseUrl?: string | undefined;
  readonly apiKey?: string | undefined;
  /** A public access token (`pat_…`) or a JWT. */
  readonly token?: string | undefined;
  /** Returns a token: at the first call, and when the last one was refused or has expired. */
  readonly getToken?: GetToken | undefined;
  /** Sent with every request. */
  readonly headers?: Record<string, string> | undefined;
  /** Whether cookies go along, as of `fetch`; `same-origin` where it is not given. */
  readonly credentials?: RequestCredentials | undefined;
  readonly fetch?: typeof globalThis.fetch | undefined;
  /** Attempts for one call; 4. */
  readonly tries?: number | undefined;
  /** How long one attempt may take; 30,000. Streams have no such end. */
  readonly timeoutMs?: number | undefined;
  /** After how long without event or comment a stream's connection is dead; 45,000. */
  readonly silenceMs?: number | undefined;
  /** How streams are read: with `fetch`, or with the browser's `EventSource`. */
  readonly transport?: "fetch" | "eventsource" | undefined;
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface ReadOptions extends CallOptions {
  /** A run's public access token, instead of the client's own credential. */
  readonly accessToken?: string | undefined;
}

export interface TriggerOptions extends CallOptions {
  /** The same key and input give the same run for 24 hours; a random one where none is given. */
  readonly idempotencyKey?: string | undefined;
  /** Begin so much later: seconds, or `"15m"`. */
  readonly delay?: string | number | undefined;
}

export interface ReasonOptions extends CallOptions {
  /** Kept in the audit. */
  readonly reason?: string | undefined;
}

export interface RunFilter {
  readonly status?: RunStatus | readonly RunStatus[] | undefined;
  readonly workflowId?: string | undefined;
  readonly tag?: string | undefined;
  readonly createdAfter?: Date | string | undefined;
  readonly createdBefore?: Date | string | undefined;
}

export interface StreamOptions {
  readonly workflowId?: string | undefined;
  readonly status?: RunStatus | readonly RunStatus[] | undefined;
  readonly tag?: string | undefined;
  readonly runId?: string | readonly string[] | undefined;
  /** A list's `streamCursor`, or the `lastEventId` of an earlier event: nothing since is missed. */
  readonly cursor?: string | undefined;
  readonly accessToken?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly triesMax?: number | undefined;
  readonly transport?: "fetch" | "eventsource" | undefined;
  readonly onConnection?: ((state: ConnectionState, why?: unknown) => void) | undefined;
}

/** What an id stands for: itself, or the run that `trigger` has returned. */
export type RunRef<Output = unknown> = string | Triggered<Output>;

type TriggerArguments<Input> = undefined extends Input
  ? [input?: Input, options?: TriggerOptions]
  : [input: Input, options?: TriggerOptions];

/** Speaks the HTTP API of one service. It holds no connection between calls. */
export class StepflowClient<W extends WorkflowTypes<W> = AnyWorkflows> {
  readonly #http: Http;
  readonly #transport: "fetch" | "eventsource";
  readonly #silenceMs: number;
  readonly #credentials: Credentials;

  constructor(options: ClientOptions) {
    const url = options.url ?? options.baseUrl;
    if (url === undefined) throw new TypeError("say where the API is: url");
    this.#transport = options.transport ?? "fetch";
    this.#silenceMs = options.silenceMs ?? 45_000;
    this.#credentials = new Credentials(options);
    this.#http = new Http({
      url: url.replace(/\/+$/, ""),
      credentials: this.#credentials,
      // Looked up at each call, and called as a function: browsers demand it.
      fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
      headers: options.headers ?? {},
      mode: options.credentials,
      tries: options.tries ?? 4,
      timeoutMs: options.timeoutMs ?? 30_000,
    });
  }

  // -------------------------------------------------------------- starting

  /** Start a run. It is durable when this resolves, and started once however often it was sent. */
  async trigger<K extends keyof W & string>(
    workflowId: K,
    ...[input, options = {}]: TriggerArguments<W[K]["input"]>
  ): Promise<Triggered<W[K]["output"]>> {
    return this.#http.json({
      method: "POST",
      path: `/trigger/${segment(workflowId)}`,
      query: { delay: options.delay },
      body: input,
      headers: { "Idempotency-Key": options.idempotencyKey ?? randomKey() },
      repeatable: true,
      signal: options.signal,
    });
  }

  /** Start at most 1,000 runs in one durable write; return what became of each input, in order. */
  async triggerBatch<K extends keyof W & string>(
    workflowId: K,
    inputs: readonly W[K]["input"][],
    options: CallOptions & Pick<TriggerOptions, "delay"> = {},
  ): Promise<(Triggered<W[K]["output"]> | BatchFailure)[]> {
    return this.#http.json({
      method: "POST",
      path: `/trigger/${segment(workflowId)}/batch`,
      query: { delay: options.delay },
      body: inputs,
      signal: options.signal,
    });
  }

  /** Start a run and yield its events to the end. */
  async *triggerAndStream<K extends keyof W & string>(
    workflowId: K,
    ...[input, options = {}]: TriggerArguments<W[K]["input"]>
  ): AsyncGenerator<RunEvent<W[K]["output"]>, void, void> {
    const given = [input, options] as unknown as TriggerArguments<W[K]["input"]>;
    yield* this.subscribeToRun(await this.trigger(workflowId, ...given), { signal: options.signal });
  }

  /** Deliver an event to the runs that wait for it or declared it, or to one of them. */
  async notify(
    eventId: string,
    payload?: unknown,
    options: CallOptions & { readonly runId?: string | undefined } = {},
  ): Promise<void> {
    await this.#http.json({
      method: "POST",
      path: `/notify/${segment(eventId)}`,
      query: { runId: options.runId },
      body: payload,
      signal: options.signal,
    });
  }

  // -------------------------------------------------------------- reading

  async getRun<Output = unknown>(run: RunRef<Output>, options: ReadOptions = {}): Promise<Run<Output>> {
    return this.#http.json({
      method: "GET",
      path: runPath(run),
      accessToken: this.#tokenFor(run, options),
      signal: options.signal,
    });
  }

  /** Return one page of runs, newest first. */
  async listRuns(
    filter: RunFilter & { readonly limit?: number; readonly cursor?: string } & CallOptions = {},
  ): Promise<RunPage> {
    const { signal, createdAfter, createdBefore, ...query } = filter;
    return this.#http.json({
      method: "GET",
      path: "/runs",
      query: { ...query, createdAfter: moment(createdAfter), createdBefore: moment(createdBefore) },
      signal,
    });
  }

  /** Yield all runs that the filter takes, page by page as they are asked for. */
  async *iterateRuns(filter: RunFilter & CallOptions = {}): AsyncGenerator<Run, void, void> {
    let cursor: string | null = null;
    do {
      const page: RunPage = await this.listRuns({ ...filter, ...(cursor !== null && { cursor }) });
      yield* page.runs;
      cursor = page.nextCursor;
    } while (cursor !== null);
  }

  /** Say in one sentence, and as data, what the run waits for. */
  async why(run: RunRef, options: CallOptions = {}): Promise<Why> {
    return this.#http.json({ method: "GET", path: `${runPath(run)}/why`, signal: options.signal });
  }

  async listWorkflows(options: CallOptions = {}): Promise<Workflow[]> {
    const call: Call = { method: "GET", path: "/workflows", signal: options.signal };
    return (await this.#http.json<{ workflows: Workflow[] }>(call)).workflows;
  }

  async listEvents(options: CallOptions = {}): Promise<AwaitedEvent[]> {
    const call: Call = { method: "GET", path: "/events", signal: options.signal };
    return (await this.#http.json<{ events: AwaitedEvent[] }>(call)).events;
  }

  async health(options: CallOptions = {}): Promise<Health> {
    return this.#http.json({ method: "GET", path: "/health", signal: options.signal });
  }

  // -------------------------------------------------------------- watching

  /**
   * Watch a run to its end: `for await (const event of client.subscribeToRun(id))`, or with
   * callbacks, where it runs by itself. Call what it returns to stop.
   */
  subscribeToRun<Output = unknown>(
    run: RunRef<Output>,
    options: SubscribeOptions & RunCallbacks<Output> = {},
  ): RunSubscription<Output> {
    const accessToken = this.#tokenFor(run, options);
    const stream: Followed = {
      ...this.#followed(options),
      path: `${runPath(run)}/stream`,
      accessToken,
      lastEventId: options.lastEventId,
      ends: true,
    };
    return subscription(idOf(run), stream, options, (signal) => this.getRun(run, { signal, accessToken }));
  }

  /** Watch many runs in one connection, without end: leave the loop, or abort the signal. */
  stream(options: StreamOptions = {}): AsyncIterableIterator<StreamEvent> {
    const { workflowId, status, tag, runId, cursor, accessToken } = options;
    const [controller, cut] = linked(options.signal);
    const stream: Followed = {
      ...this.#followed(options),
      path: "/stream",
      query: { workflowId, status, tag, runId },
      accessToken,
      lastEventId: cursor,
      ends: false,
      signal: controller.signal,
    };
    return flat<StreamEvent>(stream, controller, undefined, cut);
  }

  /** Return the run when it has ended, however it did. */
  async waitForRun<Output = unknown>(run: RunRef<Output>, options: ReadOptions = {}): Promise<Run<Output>> {
    for (;;) {
      const now = await this.getRun(run, options);
      if (finished(now)) return now;
      for await (const event of this.subscribeToRun(run, options)) {
        if (event.event === "resync" && finished(event.data)) break;
      }
    }
  }

  /** Return the run's result; throws `RunFailedError` or `RunCancelledError`. */
  async result<Output = unknown>(run: RunRef<Output>, options: ReadOptions = {}): Promise<Output> {
    const ended = await this.waitForRun(run, options);
    if (ended.status !== "completed") throw runFailure(ended);
    return ended.result as Output;
  }

  // -------------------------------------------------------------- acting

  /** Ask the run to end. It has 30 s to clean up; with `force` it ends at once. */
  async cancel(run: RunRef, options: ReasonOptions & { readonly force?: boolean } = {}): Promise<Run> {
    const { reason, force } = options;
    return this.#act(run, "cancel", { reason, force }, options);
  }

  /** Let a failed or cancelled run go on from where it failed. */
  async retry(run: RunRef, options: ReasonOptions = {}): Promise<Run> {
    return this.#act(run, "retry", { reason: options.reason }, options);
  }

  /** Hold the run before its next effect. */
  async pause(run: RunRef, options: ReasonOptions = {}): Promise<Run> {
    return this.#act(run, "pause", { reason: options.reason }, options);
  }

  /** Let a run go on that is paused or was set aside. */
  async resume(run: RunRef, options: ReasonOptions = {}): Promise<Run> {
    return this.#act(run, "resume", { reason: options.reason }, options);
  }

  /** Start a new run that keeps what was recorded before `fromStep`. */
  async fork(
    run: RunRef,
    options: ReasonOptions & {
      readonly fromStep: string;
      readonly input?: unknown;
      readonly results?: Record<string, unknown> | undefined;
    },
  ): Promise<Triggered> {
    const { fromStep, input, results, reason } = options;
    return this.#act(run, "fork", { fromStep, input, results, reason }, options);
  }

  /** Forget a finished run. */
  async purge(run: RunRef, options: ReasonOptions = {}): Promise<void> {
    const { reason, signal } = options;
    await this.#http.json({ method: "DELETE", path: runPath(run), query: { reason }, signal });
  }

  /** Make a token that reads this one run: what `getToken` of a page is answered with. */
  async createToken(
    run: RunRef,
    options: CallOptions & { readonly ttl?: string | number | undefined } = {},
  ): Promise<TokenGrant> {
    // Made twice, there are two tokens, and no harm.
    return this.#act(run, "token", { ttl: options.ttl }, options, true);
  }

  // -------------------------------------------------------------- within

  #act<T>(run: RunRef, verb: string, body: object, options: CallOptions, repeatable = false): Promise<T> {
    const path = `${runPath(run)}/${verb}`;
    return this.#http.json({ method: "POST", path, body, repeatable, signal: options.signal });
  }

  #followed(options: SubscribeOptions | StreamOptions): Omit<Followed, "path" | "ends"> {
    const transport = options.transport ?? this.#transport;
    const eventSource = transport === "eventsource" ? globalThis.EventSource : undefined;
    if (transport === "eventsource" && eventSource === undefined) {
      throw new TypeError('this runtime has no EventSource: leave out transport: "eventsource"');
    }
    return {
      http: this.#http,
      signal: options.signal,
      triesMax: options.triesMax,
      silenceMs: this.#silenceMs,
      onConnection: options.onConnection,
      open: eventSource && byEventSource(eventSource),
    };
  }

  /** Return the token to read a run with: a run's own, where the client has no credential. */
  #tokenFor(run: RunRef, options: { accessToken?: string | undefined }): string | undefined {
    if (options.accessToken !== undefined) return options.accessToken;
    if (typeof run === "string" || !this.#credentials.none) return undefined;
    return run.publicAccessToken;
  }
}

/** Return a client; `createClient<Workflows>()` knows your workflows' inputs and outputs. */
export function createClient<W extends WorkflowTypes<W> = AnyWorkflows>(options: ClientOptions): StepflowClient<W> {
  return new StepflowClient<W>(options);
}

function idOf(run: RunRef): string {
  return typeof run === "string" ? run : run.runId;
}

function runPath(run: RunRef): string {
  return `/runs/${segment(idOf(run))}`;
}

function moment(at: Date | string | undefined): string | undefined {
  return at instanceof Date ? at.toISOString() : at;
}

function randomKey(): string {
  // crypto.randomUUID is missing on pages that came over plain HTTP.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
