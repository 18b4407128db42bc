// The core by itself behind a bare server of Node's web `Request`s, as a worker would have it.

import { serve } from "@hono/node-server";
import { createStepflowHandler } from "@stepflow/client/handler";

import { options, PREFIX, sessionOf } from "./common.js";
import { liveOn } from "./node.js";

const handler = createStepflowHandler({ ...options, basePath: PREFIX });
const fetch = async (request: Request): Promise<Response> => {
  const { pathname } = new URL(request.url);
  if (pathname.startsWith(`${PREFIX}/`)) return handler(request);
  if (pathname === "/own") return new Response("own");
  if (pathname !== "/login") return new Response("no such page", { status: 404 });
  return new Response("welcome", { headers: { "Set-Cookie": sessionOf(await request.json()) } });
};
const server = serve({ fetch, port: 0, hostname: "127.0.0.1" }, () => liveOn(server));
