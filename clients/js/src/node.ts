// From Node's requests and responses to the web's, and back, without a buffer in between.

import type { IncomingMessage, ServerResponse } from "node:http";

import type { StepflowHandler } from "./handler.js";

/** What a body parser of the host has made of a body that is read already, if one has. */
export type Parsed = { readonly body?: unknown };

/** What a host adds to a request: its parsed body, what auth handlers get, and its prefix. */
export interface Hosted {
  readonly parsed: Parsed;
  readonly extra: unknown;
  readonly mounted: string | undefined;
  readonly closing: AbortSignal | undefined;
}

/** Answer `request` by the handler; `path` is relative to where it is mounted. */
export async function answer(
  handler: StepflowHandler,
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
  { parsed, extra, mounted, closing }: Hosted,
): Promise<void> {
  const gone = new AbortController();
  // The connection's end, before the answer's: the page has left.
  response.once("close", () => gone.abort());
  let told: Response;
  try {
    told = await handler(webRequest(request, path, parsed, gone.signal), extra, mounted);
  } catch (error) {
    if (gone.signal.aborted) return;
    throw error;
  }
  response.writeHead(told.status, Object.fromEntries(told.headers));
  if (!told.body) {
    response.end();
    return;
  }
  // A stream's head goes out before its first event.
  response.flushHeaders();
  const reader = told.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (!response.write(value)) await drained(response);
    }
    // A server that closes waits for connections that are kept, too.
    response.end(() => closing?.aborted && request.socket.end());
  } catch {
    // The service broke off: so does the answer, and whoever reads it comes again.
    response.destroy();
  }
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const go = (): void => {
      response.off("drain", go);
      response.off("close", go);
      resolve();
    };
    response.once("drain", go);
    response.once("close", go);
  });
}

function webRequest(request: IncomingMessage, path: string, parsed: Parsed, signal: AbortSignal): Request {
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    if (typeof value === "string") headers.set(name, value);
  }
  const method = request.method ?? "GET";
  const init: RequestInit & { duplex?: "half" } = { method, headers, signal };
  const { "content-length": length, "transfer-encoding": chunked } = request.headers;
  // Parsers make an object of nothing: whether there was a body, the head says.
  if (method !== "GET" && method !== "HEAD" && (chunked !== undefined || Number(length ?? 0) > 0)) {
    if (request.readableEnded || parsed.body !== undefined)
      init.body = textOf(parsed.body, request.headers["content-type"]);
    else {
      init.body = streamOf(request);
      init.duplex = "half";
    }
  }
  return new Request(new URL(path, "http://host.invalid"), init);
}

function textOf(body: unknown, type = ""): BodyInit | null {
  if (body === undefined) return null;
  if (body instanceof Uint8Array) return body as Uint8Array<ArrayBuffer>;
  return typeof body === "string" && !type.includes("json") ? body : JSON.stringify(body);
}

function streamOf(request: IncomingMessage): ReadableStream<Uint8Array> {
  const chunks = request[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
}
