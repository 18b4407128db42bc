// Express: `app.use("/api/stepflow", createStepflowRouter({ url, apiKey }))`, before or after
// `express.json()`.

import type { IncomingMessage, ServerResponse } from "node:http";

import { createStepflowHandler, type HandlerOptions } from "./handler.js";
import { answer } from "./node.js";

export type StepflowRouter = (
  request: IncomingMessage,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => void;

/** Return the middleware. Express takes its prefix off the path; `basePath` is for hosts that do not. */
export function createStepflowRouter(options: HandlerOptions): StepflowRouter {
  const handler = createStepflowHandler(options);
  return (request, response, next) => {
    const parsed = request as IncomingMessage & { body?: unknown; baseUrl?: string };
    const hosted = { parsed, extra: request, mounted: options.basePath ?? parsed.baseUrl, closing: options.closing };
    answer(handler, request, response, request.url ?? "/", hosted).catch(next);
  };
}
