// Hono: `app.route("/api/stepflow", createStepflowRoutes({ url, apiKey }))`.

import { Hono } from "hono";

import { createStepflowHandler, type HandlerOptions } from "./handler.js";

/** Return the routes; where they are mounted is found at each request. */
export function createStepflowRoutes(options: HandlerOptions): Hono {
  const { basePath: _, ...rest } = options;
  const handler = createStepflowHandler(rest);
  const app = new Hono();
  app.all("*", (context) => {
    const url = new URL(context.req.url);
    // The pattern that has matched: where it was mounted, and a star.
    const mounted = options.basePath ?? context.req.routePath.replace(/\/?\*$/, "");
    url.pathname = url.pathname.slice(mounted.length) || "/";
    const init: RequestInit & { duplex?: "half" } = { signal: context.req.raw.signal };
    return handler(new Request(url, new Request(context.req.raw, init)), context, mounted);
  });
  return app;
}
