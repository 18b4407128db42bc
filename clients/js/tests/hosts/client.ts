// The client on whatever runs this: `client.js URL KEY`. It says "client: ok" when all was as it must be.

import assert from "node:assert/strict";
import process from "node:process";

import { createClient, WorkflowNotFoundError } from "@stepflow/client";

const [url = "", apiKey = ""] = process.argv.slice(2);
const client = createClient({ url, apiKey });

assert.equal(await client.result(await client.trigger("double", 21)), 42);
await assert.rejects(client.trigger("nothing", 1), WorkflowNotFoundError);

const id = `client-${crypto.randomUUID()}`;
const run = await client.trigger("talk", { id });
const events: string[] = [];
let said = false;
for await (const event of client.subscribeToRun(run)) {
  events.push(event.event);
  if (event.event === "status" && event.data.stepName === "turn-0" && !said) {
    said = true;
    await client.notify(`say-${id}`, "stop");
  }
}
assert.ok(said);
assert.equal(events.at(-1), "complete");
assert.equal((await client.getRun(run)).status, "completed");
console.log("client: ok");
process.exit(0);
