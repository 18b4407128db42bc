// Express on Node.

import { createStepflowRouter } from "@stepflow/client/express";
import express from "express";

import { options, PREFIX, sessionOf } from "./common.js";
import { liveOn } from "./node.js";

const app = express();
app.use(PREFIX, createStepflowRouter(options));
app.get("/own", (_request, response) => void response.send("own"));
app.post("/login", express.json(), (request, response) => {
  response.set("Set-Cookie", sessionOf(request.body)).send("welcome");
});
const server = app.listen(0, "127.0.0.1", () => liveOn(server));
