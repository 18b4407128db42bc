// Hono's application, which Node, Deno and Bun serve.

import { createStepflowRoutes } from "@stepflow/client/hono";
import { Hono } from "hono";

import { options, PREFIX, sessionOf } from "./common.js";

export const app = new Hono();
app.route(PREFIX, createStepflowRoutes(options));
app.get("/own", (context) => context.text("own"));
app.post("/login", async (context) => {
  context.header("Set-Cookie", sessionOf(await context.req.json()));
  return context.text("welcome");
});
