// Fastify on Node.

import { stepflowPlugin } from "@stepflow/client/fastify";
import Fastify from "fastify";

import { options, PREFIX, sessionOf } from "./common.js";
import { liveOn } from "./node.js";

const app = Fastify();
await app.register(stepflowPlugin, { prefix: PREFIX, ...options });
app.get("/own", async () => "own");
app.post("/login", async (request, reply) => reply.header("Set-Cookie", sessionOf(request.body)).send("welcome"));
await app.listen({ port: 0, host: "127.0.0.1" });
liveOn({
  address: () => app.server.address(),
  close: (done) => app.close(done),
  closeIdleConnections: () => app.server.closeIdleConnections(),
});
