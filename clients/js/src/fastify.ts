// Fastify: `app.register(stepflowPlugin, { prefix: "/api/stepflow", url, apiKey })`.

import type { FastifyPluginAsync } from "fastify";

import { createStepflowHandler, type HandlerOptions } from "./handler.js";
import { answer } from "./node.js";

export const stepflowPlugin: FastifyPluginAsync<HandlerOptions> = async (app, options) => {
  const { basePath: _, ...rest } = options;
  const handler = createStepflowHandler(rest);
  // Bodies go on as they came: within this plugin nothing parses them.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", (_request, _payload, done) => done(null));
  app.all("/*", async (request, reply) => {
    reply.hijack();
    const path = (request.raw.url ?? "/").slice(app.prefix.length) || "/";
    try {
      const hosted = { parsed: {}, extra: request, mounted: app.prefix, closing: options.closing };
      await answer(handler, request.raw, reply.raw, path, hosted);
    } catch (error) {
      request.log.error(error);
      if (reply.raw.headersSent) reply.raw.destroy();
      else
        reply.raw
          .writeHead(500, { "Content-Type": "application/json" })
          .end('{"error":"Internal error","code":"INTERNAL"}');
    }
  });
};

export default stepflowPlugin;
