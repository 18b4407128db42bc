// The API through a JavaScript server: a request in, the service's answer out, the key added between.
//
// One core in the web's own terms, for Next.js, workers and whatever speaks `Request` and
// `Response`; `hono.ts`, `express.ts` and `fastify.ts` are shims around it.
//
// - Only known routes are forwarded, with known methods; a segment is passed on as it came, and one
//   that could climb is 404.
// - Of the request only what the API knows goes on; cookies and the caller's own headers stay here.
// - The key is added where the caller has no `?token=`: a token reads its own run, with its own right,
//   whatever the host's own auth says; the service judges it.
// - Bodies are streams, both ways' ends are tied: when the page goes, the service hears of it.

import type { ErrorCode } from "./types.js";

export type EndpointPreset = "all" | "public" | "private" | "internal" | "none";

/** Which routes are forwarded. One that is not answers 404. What is left out is forwarded. */
export interface Endpoints {
  readonly trigger?: boolean;
  readonly notify?: boolean;
  /** All under `/runs` but the stream, and the lists of workflows, events and schedules. */
  readonly runs?: boolean;
  /** `/runs/{runId}/stream` and `/stream`. */
  readonly runsStream?: boolean;
  readonly health?: boolean;
  readonly docs?: boolean;
  readonly metrics?: boolean;
}

type Endpoint = keyof Endpoints;

export interface AuthResult {
  readonly ok: boolean;
  /** 401 unless it says 403. */
  readonly status?: 401 | 403;
  readonly message?: string;
}

export interface AuthContext {
  readonly request: Request;
  readonly endpoint: Endpoint;
  /** The host's own: Express's and Fastify's request, Hono's context. */
  readonly extra: unknown;
}

export type AuthHandler = (context: AuthContext) => AuthResult | boolean | Promise<AuthResult | boolean>;

export interface HandlerOptions {
  /** Where the service is, a path included. */
  readonly url: string;
  readonly apiKey?: string | undefined;
  /** Where the host serves it; taken off the path. */
  readonly basePath?: string | undefined;
  /** Where callers find it, if neither `basePath` nor the host knows: `/openapi.yaml` says so. */
  readonly publicPath?: string | undefined;
  readonly endpoints?: EndpointPreset | Endpoints | undefined;
  /**
   * Who may call: one handler, or one for each endpoint and `global` for the rest. Without any, whoever
   * reaches the host. `health` and `docs` are open unless they have a handler of their own.
   */
  readonly auth?: AuthHandler | Partial<Record<Endpoint | "global", AuthHandler>> | undefined;
  readonly onAuthFailure?: ((context: AuthContext, result: AuthResult) => void) | undefined;
  /** The host's own part of `/health`: false is 503. */
  readonly healthCheck?: (() => boolean | Promise<boolean>) | undefined;
  /** Once it is aborted, open streams end as whole answers: a server that closes waits for none. */
  readonly closing?: AbortSignal | undefined;
  readonly fetch?: typeof globalThis.fetch | undefined;
}

/**
 * Answers a request; `extra` is handed to the auth handlers. `mounted` is the prefix that the host has
 * taken off the path, where `basePath` does not say it.
 */
export type StepflowHandler = (request: Request, extra?: unknown, mounted?: string) => Promise<Response>;

const ROUTES: readonly [methods: string, path: RegExp, endpoint: Endpoint][] = [
  ["POST", /^\/trigger\/[^/]+(?:\/batch)?$/, "trigger"],
  ["POST", /^\/notify\/.+$/, "notify"],
  ["GET", /^\/runs\/[^/]+\/stream$/, "runsStream"],
  ["GET", /^\/stream$/, "runsStream"],
  ["GET", /^\/(?:runs|workflows|events|schedules|audit)$/, "runs"],
  ["GET DELETE", /^\/runs\/[^/]+$/, "runs"],
  ["POST", /^\/runs\/bulk$/, "runs"],
  ["GET", /^\/runs\/[^/]+\/(?:why|audit|export)$/, "runs"],
  ["GET", /^\/runs\/[^/]+\/steps\/.+$/, "runs"],
  ["POST", /^\/runs\/[^/]+\/(?:cancel|retry|pause|resume|fork|token)$/, "runs"],
  ["POST", /^\/tokens$/, "runs"],
  ["GET", /^\/(?:workflows|schedules)\/[^/]+$/, "runs"],
  ["POST", /^\/schedules\/[^/]+\/(?:pause|resume|trigger|backfill)$/, "runs"],
  ["GET", /^\/(?:health|ready)$/, "health"],
  ["GET", /^\/(?:openapi\.yaml|docs)$/, "docs"],
  ["GET", /^\/metrics$/, "metrics"],
];
const SENT_ON = ["accept", "content-type", "idempotency-key", "last-event-id", "traceparent"];
// Hop-by-hop (RFC 9110, 7.6.1), what fetch has undone, and cookies and CORS, which are the host's.
const KEPT_BACK = new Set([
  ...["connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"],
  ...["te", "trailer", "transfer-encoding", "upgrade", "content-encoding", "content-length"],
  ...["set-cookie", "server", "date"],
]);
/** What needs no credentials at the service either. */
const PUBLIC = new Set<Endpoint>(["health", "docs"]);
const TOKENS_READ = new Set<Endpoint>(["runs", "runsStream"]);
const OPEN = { trigger: true, notify: true, runs: true, runsStream: true, health: true, docs: true, metrics: true };
const SHUT: Endpoints = Object.fromEntries(Object.keys(OPEN).map((name) => [name, false]));
const PRESETS: Record<EndpointPreset, Endpoints> = {
  all: OPEN,
  public: OPEN,
  private: { ...OPEN, trigger: false, notify: false },
  internal: { ...SHUT, health: true },
  none: SHUT,
};

/** Return the handler. Throws `TypeError` on options that no request could be answered with. */
export function createStepflowHandler(options: HandlerOptions): StepflowHandler {
  const service = options.url.replace(/\/+$/, "");
  const base = `/${options.basePath ?? ""}`.replace(/\/{2,}/g, "/").replace(/\/+$/, "");
  const enabled = endpointsOf(options.endpoints ?? "all");
  const send = options.fetch ?? ((input, init) => globalThis.fetch(input, init));

  return async (request, extra, mounted = base) => {
    const url = new URL(request.url);
    // Without `basePath`, the host has taken its prefix off already.
    if (base && url.pathname !== base && !url.pathname.startsWith(`${base}/`)) return absent();
    const path = url.pathname.slice(base.length) || "/";
    const found = ROUTES.filter(([, pattern, endpoint]) => pattern.test(path) && enabled[endpoint]);
    if (found.length === 0 || climbs(path)) return absent();
    const method = request.method === "HEAD" ? "GET" : request.method;
    const route = found.find(([methods]) => methods.split(" ").includes(method));
    if (!route) {
      const allow = found.map(([methods]) => methods.replace(" ", ", ")).join(", ");
      return problem("METHOD_NOT_ALLOWED", 405, "Method not allowed", { Allow: allow });
    }
    const context: AuthContext = { request, endpoint: route[2], extra };
    const borne = url.searchParams.has("token");
    // Only before a service that has keys is a token, right or wrong, judged by somebody.
    const judged = borne && method === "GET" && TOKENS_READ.has(context.endpoint) && options.apiKey !== undefined;
    const refused = judged ? undefined : await authenticate(options, context);
    if (refused) return refused;
    if (path === "/health" && options.healthCheck && !(await healthy(options.healthCheck))) {
      return problem("UNAVAILABLE", 503, "the host's own health check failed", { "Retry-After": "1" });
    }
    const answer = await forward(send, service + path + url.search, request, borne ? undefined : options.apiKey);
    if (context.endpoint === "runsStream" && options.closing) return endingWith(answer, options.closing);
    return path === "/openapi.yaml" ? servedBelow(answer, options.publicPath ?? (mounted || "/")) : answer;
  };
}

function endpointsOf(choice: EndpointPreset | Endpoints): Endpoints {
  if (typeof choice !== "string") return { ...OPEN, ...choice };
  if (!Object.hasOwn(PRESETS, choice)) {
    throw new TypeError(`endpoints: "${choice}" is none of ${Object.keys(PRESETS).join(", ")}`);
  }
  return PRESETS[choice];
}

/** Whether a server that decodes the path first could read it as another one. */
function climbs(path: string): boolean {
  try {
    const parts = decodeURIComponent(path).split(/[/\\]/);
    return path.includes("//") || parts.includes("..") || parts.includes(".");
  } catch {
    return true;
  }
}

async function healthy(check: () => boolean | Promise<boolean>): Promise<boolean> {
  try {
    return await check();
  } catch {
    return false;
  }
}

async function authenticate(options: HandlerOptions, context: AuthContext): Promise<Response | undefined> {
  const { auth } = options;
  const named = typeof auth === "function" ? { global: auth } : auth;
  const own = named?.[context.endpoint];
  if (named === undefined || (!own && PUBLIC.has(context.endpoint))) return undefined;
  const handler = own ?? named.global;
  if (!handler) {
    // Handlers by route: one that was forgotten lets nobody in.
    return problem("UNAUTHORIZED", 401, "Unauthorized", { "WWW-Authenticate": "Bearer" });
  }
  const said = await handler(context);
  const result: AuthResult = typeof said === "boolean" ? { ok: said } : said;
  if (result.ok) return undefined;
  options.onAuthFailure?.(context, result);
  if (result.status === 403) return problem("FORBIDDEN", 403, result.message ?? "Forbidden");
  return problem("UNAUTHORIZED", 401, result.message ?? "Unauthorized", { "WWW-Authenticate": "Bearer" });
}

async function forward(
  send: typeof globalThis.fetch,
  url: string,
  request: Request,
  apiKey: string | undefined,
): Promise<Response> {
  const headers = new Headers();
  for (const name of SENT_ON) {
    const value = request.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  // A body that is compressed on its way would be held back until there is enough of it.
  headers.set("accept-encoding", "identity");
  if (apiKey !== undefined) headers.set("x-api-key", apiKey);
  const init: RequestInit & { duplex?: "half" } = {
    method: request.method,
    headers,
    redirect: "manual",
    signal: request.signal,
  };
  if (request.body && request.method !== "GET" && request.method !== "HEAD") {
    init.body = request.body;
    init.duplex = "half";
  }
  let answer: Response;
  try {
    answer = await send(url, init);
  } catch (error) {
    if (request.signal.aborted) throw error;
    // Whether it arrived is not known; a read has done no harm.
    const again = { "Retry-After": "1" };
    return request.method === "GET" || request.method === "HEAD"
      ? problem("UNAVAILABLE", 503, "the service does not answer", again)
      : problem("OUTCOME_UNKNOWN", 503, "the service did not answer; it may have been done", again);
  }
  const back = new Headers();
  for (const [name, value] of answer.headers) {
    if (!KEPT_BACK.has(name) && !name.startsWith("access-control-")) back.set(name, value);
  }
  const empty = answer.status === 204 || answer.status === 304;
  return new Response(empty ? null : answer.body, { status: answer.status, headers: back });
}

/** The same answer, whose body ends, in order, where the service's does or when the host closes. */
function endingWith(answer: Response, closing: AbortSignal): Response {
  if (!answer.body) return answer;
  const reader = answer.body.getReader();
  const close = (): void => void reader.cancel().catch(() => undefined);
  const done = (): void => closing.removeEventListener("abort", close);
  closing.addEventListener("abort", close);
  if (closing.aborted) close();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const part = await reader.read();
        if (!part.done) {
          controller.enqueue(part.value);
          return;
        }
        done();
        controller.close();
      } catch (error) {
        done();
        controller.error(error);
      }
    },
    cancel(reason) {
      done();
      return reader.cancel(reason);
    },
  });
  return new Response(body, { status: answer.status, headers: answer.headers });
}

/** The document, which names its service's own place, with the host's. */
async function servedBelow(answer: Response, mounted: string): Promise<Response> {
  if (answer.status !== 200 || !answer.body) return answer;
  const text = await answer.text();
  const server = `servers:\n  - url: ${JSON.stringify(mounted)}\n`;
  return new Response(
    text.replace(/^servers:\n(?: .*\n)+/m, () => server),
    { headers: answer.headers },
  );
}

function absent(): Response {
  return problem("NOT_FOUND", 404, "Not found");
}

function problem(code: ErrorCode, status: number, error: string, headers: Record<string, string> = {}): Response {
  return Response.json({ error, code }, { status, headers: { "Cache-Control": "no-store", ...headers } });
}

// ---------------------------------------------------------------- auth helpers

/** Take whoever sends this key as `X-API-Key`. */
export function createApiKeyAuth(key: string): AuthHandler {
  return async ({ request }) => ({ ok: await same(request.headers.get("x-api-key") ?? "", key) });
}

/**
 * Ask `handler` only where no page of another site can be behind the request: for handlers that go by
 * what a browser sends by itself, a session's cookie above all. Else it is 403.
 */
export function sameSite(handler: AuthHandler): AuthHandler {
  return (context) => {
    const { headers } = context.request;
    const origin = headers.get("origin");
    const host = headers.get("host") ?? new URL(context.request.url).host;
    // The scheme is left out: whoever ends TLS before us has changed it.
    const other = origin !== null && origin.replace(/^.*?:\/\//, "").toLowerCase() !== host.toLowerCase();
    if (other || headers.get("sec-fetch-site") === "cross-site") {
      return { ok: false, status: 403, message: "A page of another site may not call with this one's cookies" };
    }
    return handler(context);
  };
}

/** Take whoever one of them takes. */
export function anyOf(...handlers: AuthHandler[]): AuthHandler {
  return async (context) => {
    let last: AuthResult = { ok: false };
    for (const handler of handlers) {
      const said = await handler(context);
      last = typeof said === "boolean" ? { ok: said } : said;
      if (last.ok) return last;
    }
    return last;
  };
}

/** Compare without telling by the time taken how much of it was right. */
async function same(a: string, b: string): Promise<boolean> {
  const digest = async (text: string): Promise<Uint8Array> =>
    new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  const [x, y] = await Promise.all([digest(a), digest(b)]);
  return x.reduce((differs, byte, i) => differs | (byte ^ (y[i] ?? 0)), 0) === 0;
}
