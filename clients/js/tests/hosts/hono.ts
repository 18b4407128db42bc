// Hono on Node.

import { serve } from "@hono/node-server";

import { liveOn } from "./node.js";
import { app } from "./site.js";

const server = serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, () => liveOn(server));
