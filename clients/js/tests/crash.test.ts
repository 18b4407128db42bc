// The server is killed with -9 and started again under subscriptions: no gap, no repeat.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createClient, type RunEvent } from "@stepflow/client";

import { row, Service, until, within } from "./kit.js";

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
    const gate = (each: RunEvent): boolean => each.event === "status" && each.data.key === `go#${turn + 1}`;
    await until(() => events.length >= seen || all.some((list) => list.some(gate)));
    await service.kill();
    await service.start();
    await until(async () => {
      const { steps = [] } = await client.getRun(run);
      return steps.some((step) => step.key === `go#${turn + 1}` && step.status === "pending");
    });
    await within(`the answer to notify ${turn}`, client.notify(`go-k-${turn}`));
  }
  const ends = { iterated, "with callbacks": subscription.done, "with the token alone": third };
  for (const [name, end] of Object.entries(ends)) await within(`the end of the subscription, ${name}`, end);
  const fresh = await service.freshRead(run.runId);
  for (const list of all) assert.deepEqual(list.filter((each) => each.id).map(row), fresh);
  assert.ok(states.has("waiting"));
});

test("a call waits out a restart, and a trigger that was sent twice is one run", async (t) => {
  const service = await Service.start();
  t.after(() => service.close());
  const client = createClient({ url: service.url, apiKey: "js-client-test-key-0123456789", tries: 50 });
  const run = await client.trigger("echo", 1);
  await within("the first result", client.result(run));
  await service.kill();
  const reading = client.getRun(run);
  const starting = client.trigger("echo", 2, { idempotencyKey: "through" });
  await service.start();
  assert.equal((await within("the read that waited out the restart", reading)).status, "completed");
  const started = await within("the trigger that waited out the restart", starting);
  assert.equal(await within("its result", client.result(started)), 2);
  const again = await client.trigger("echo", 2, { idempotencyKey: "through" });
  assert.equal(again.runId, started.runId);
});

test("the stream of many runs goes on after a kill, with each event once", async (t) => {
  const service = await Service.start();
  t.after(() => service.close());
  const leaving = new AbortController();
  t.after(() => leaving.abort());
  const client = service.client();
  const { streamCursor } = await client.listRuns();
  const ids = ["m1", "m2"];
  const runs = await Promise.all(ids.map((id) => client.trigger("rounds", { id, rounds: 2 })));
  const seen = new Map<string, [string, unknown][]>(runs.map((run) => [run.runId, []]));
  const cursors: string[] = [];
  let over = 0;
  const following = (async () => {
    for await (const event of client.stream({ cursor: streamCursor, signal: leaving.signal })) {
      assert.ok(event.event !== "resync");
      const { runId, workflowId: _, at: __, ...data } = event.data as Record<"runId" | "workflowId" | "at", string>;
      cursors.push(event.id ?? "");
      seen.get(runId)?.push([event.event, data]);
      if (event.event === "complete" && ++over === runs.length) return;
    }
  })();
  for (const turn of [0, 1]) {
    await until(() => cursors.length > turn * 10);
    await service.kill();
    await service.start();
    for (const [i, run] of runs.entries()) {
      await until(async () => {
        const { steps = [] } = await client.getRun(run);
        return steps.some((step) => step.key === `go#${turn + 1}` && step.status === "pending");
      });
      await within(`the answer to notify ${ids[i]} ${turn}`, client.notify(`go-${ids[i]}-${turn}`));
    }
  }
  await within("the end of the stream of many runs", following);
  assert.equal(new Set(cursors).size, cursors.length, "an id came twice");
  for (const run of runs) {
    const fresh = (await service.freshRead(run.runId)).map(([, event, data]) => [event, data]);
    assert.deepEqual(seen.get(run.runId), fresh);
  }
});
