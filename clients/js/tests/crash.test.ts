// The server is killed with -9 and started again under subscriptions: no gap, no repeat.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createClient, type RunEvent } from "@stepflow/client";

import { Service, row, until } from "./kit.js";

const ROUNDS = 4;

test("events come once each, in order, while the server is killed again and again", async (t) => {
  const service = await Service.start();
  t.after(() => service.close());
  // A test that fails leaves nobody following.
  const leaving = new AbortController();
  const { signal } = leaving;
  t.after(() => leaving.abort());
  const client = service.client();
  const run = await client.trigger("rounds", { id: "k", rounds: ROUNDS, steps: 8 });
  const events: RunEvent[] = [];
  const states = new Set<string>();
  const iterated = (async () => {
    const how = { signal, onConnection: (state: string) => void states.add(state) };
    for await (const event of client.subscribeToRun(run.runId, how)) events.push(event);
  })();
  // Beside it one with callbacks, and one of a browser that has nothing but the run's token.
  const called: RunEvent[] = [];
  const subscription = client.subscribeToRun(run.runId, { signal, onEvent: (event) => called.push(event) });
  const bare = createClient({ url: service.url });
  const borne: RunEvent[] = [];
  const third = (async () => {
    for await (const event of bare.subscribeToRun(run, { signal })) borne.push(event);
  })();

  const all = [events, called, borne];
  // A first connection is given up like any call; what was open is followed for ever.
  await until(() => all.every((list) => list.length > 0));
  for (let turn = 0; turn < ROUNDS; turn += 1) {
    // A moment by progress: in the middle of the stage, or at its gate.
    const seen = events.length + 1 + Math.floor(Math.random() * 12);
    const gate = (each: RunEvent): boolean =>
      each.event === "status" && each.data.key === `go#${turn + 1}`;
    await until(() => events.length >= seen || all.some((list) => list.some(gate)));
    await service.kill();
    await service.start();
    await until(async () => {
      const { steps = [] } = await client.getRun(run);
      return steps.some((step) => step.key === `go#${turn + 1}` && step.status === "pending");
    });
    await client.notify(`go-k-${turn}`);
  }
  await Promise.all([iterated, subscription.done, third]);
  const fresh = await service.freshRead(run.runId);
  for (const list of all) assert.deepEqual(list.filter((each) => each.id).map(row), fresh);
  assert.ok(states.has("waiting"));
});

test("a call waits out a restart, and a trigger that was sent twice is one run", async (t) => {
  const service = await Service.start();
  t.after(() => service.close());
  const client = createClient({ url: service.url, apiKey: "js-client-test-key-0123456789", tries: 50 });
  const run = await client.trigger("echo", 1);
  await client.result(run);
  await service.kill();
  const reading = client.getRun(run);
  const starting = client.trigger("echo", 2, { idempotencyKey: "through" });
  await service.start();
  assert.equal((await reading).status, "completed");
  assert.equal(await client.result(await starting), 2);
  const again = await client.trigger("echo", 2, { idempotencyKey: "through" });
  assert.equal(again.runId, (await starting).runId);
});
