// The client against a real server.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import {
  ConflictError,
  createClient,
  EventNotFoundError,
  ForbiddenError,
  InvalidInputError,
  type Run,
  RunCancelledError,
  type RunEvent,
  RunFailedError,
  RunNotFoundError,
  type Step,
  type StepflowClient,
  UnauthorizedError,
  WorkflowNotFoundError,
} from "@stepflow/client";

import { KEY, row, Service, until } from "./kit.js";

const NO_RUN = "run_0000000000000000000000";

describe("a real server", () => {
  let service: Service;
  let client: StepflowClient;

  before(async () => {
    service = await Service.start();
    client = service.client();
  });
  after(() => service.close());

  test("a run is triggered, told of an event, and gives its result", async () => {
    const run = await client.trigger("order", { id: "a1" });
    assert.match(run.runId, /^run_[A-Za-z0-9]{8,64}$/);
    assert.match(run.publicAccessToken, /^pat_/);
    await client.notify("paid-a1", { amount: 42 });
    assert.deepEqual(await client.result(run), {
      id: "a1",
      paid: { amount: 42 },
      child: { of: "a1" },
    });
    const ended = await client.getRun(run);
    assert.equal(ended.status, "completed");
    assert.deepEqual(ended.input, { id: "a1" });
  });

  test("iteration yields the whole history, each event typed, and ends with the run", async () => {
    const run = await client.trigger("order", { id: "a2" });
    await client.notify("paid-a2", null);
    const events: RunEvent[] = [];
    for await (const event of client.subscribeToRun(run.runId)) events.push(event);
    assert.deepEqual(events.filter((event) => event.id).map(row), await service.freshRead(run.runId));
    assert.equal(events.at(-1)?.event, "complete");
    const progress = events.find((event) => event.event === "progress");
    if (progress?.event === "progress") assert.equal(progress.data.total, 3);
  });

  test("callbacks get updates that end as the run itself reads", async () => {
    const run = await client.trigger("order", { id: "a3" });
    const runs: Run[] = [];
    const steps: Step[] = [];
    let result: unknown;
    const subscription = client.subscribeToRun(run.runId, {
      onUpdate: (now) => runs.push(now),
      onStepComplete: (step) => steps.push(step),
      onComplete: (value) => (result = value),
      onError: (error) => assert.fail(String(error)),
    });
    await until(() => runs.some((now) => now.state === "waiting"));
    await client.notify("paid-a3", 1);
    await subscription.done;
    assert.deepEqual(runs.at(-1), await client.getRun(run.runId));
    assert.deepEqual(result, { id: "a3", paid: 1, child: { of: "a3" } });
    const names = steps.map((step) => step.name).sort();
    assert.deepEqual(names, ["breath", "echo", "left", "payment", "reserve", "right"]);
  });

  test("at each stop, the run folded from events is the run that is read", async () => {
    const run = await client.trigger("rounds", { id: "f", rounds: 3 });
    let now: Run | undefined;
    const subscription = client.subscribeToRun(run.runId, { onUpdate: (run) => (now = run) });
    for (const turn of [0, 1, 2]) {
      const waits = (each: Run | undefined): boolean =>
        each?.steps?.some((step) => step.key === `go#${turn + 1}` && step.status === "pending") ?? false;
      await until(() => waits(now));
      const read = await client.getRun(run.runId);
      assert.deepEqual(timeless(now), timeless(read));
      await client.notify(`go-f-${turn}`, turn);
    }
    await subscription.done;
    assert.deepEqual(now, await client.getRun(run.runId));
  });

  test("a failed run is RunFailedError, with what the workflow raised", async () => {
    const run = await client.trigger("fails");
    const error = await client.result(run).catch((error: unknown) => error);
    assert.ok(error instanceof RunFailedError);
    assert.equal(error.code, "RUN_FAILED");
    assert.equal(error.error.message, "the card was refused");
    const told = await new Promise((resolve) => client.subscribeToRun(run.runId, { onError: resolve }));
    assert.ok(told instanceof RunFailedError);
    assert.equal(told.runId, run.runId);
  });

  test("a cancelled run is RunCancelledError", async () => {
    const run = await client.trigger("rounds", { id: "c", rounds: 1 });
    const cancelled = await client.cancel(run, { reason: "changed my mind" });
    assert.equal(cancelled.id, run.runId);
    await assert.rejects(client.result(run), RunCancelledError);
    await assert.rejects(client.cancel(run), ConflictError);
  });

  test("a failed run goes on with retry, and forks keep what was before", async () => {
    await client.result(await client.trigger("mender", false));
    const run = await client.trigger("mendable");
    await assert.rejects(client.result(run), RunFailedError);
    await client.result(await client.trigger("mender", true));
    assert.equal((await client.retry(run)).status, "running");
    assert.equal(await client.result(run), "mended");
    const fork = await client.fork(run, { fromStep: "mend", results: { mend: "pinned" } });
    assert.equal(await client.result(fork), "pinned");
  });

  test("a subscription with onUpdate sees what a retry takes back", async () => {
    await client.result(await client.trigger("mender", false));
    const run = await client.trigger("mendable");
    await client.waitForRun(run);
    await client.result(await client.trigger("mender", true));
    await client.retry(run);
    let last: Run | undefined;
    await client.subscribeToRun(run.runId, { onUpdate: (run) => (last = run) }).done;
    assert.deepEqual(last, await client.getRun(run));
    assert.equal(last?.status, "completed");
  });

  test("a run is paused, says why it waits, and is resumed", async () => {
    const run = await client.trigger("rounds", { id: "p", rounds: 1 });
    await client.pause(run);
    assert.equal((await client.getRun(run)).state, "paused");
    const why = await client.why(run);
    assert.match(why.summary, /pause/i);
    await client.resume(run);
    await until(async () => (await client.getRun(run)).state === "waiting");
    await client.cancel(run, { force: true });
  });

  test("runs are listed by filters, page by page", async () => {
    const runs = await client.triggerBatch("echo", [1, 2, 3]);
    const ids = runs.map((run) => ("runId" in run ? run.runId : ""));
    await Promise.all(ids.map((id) => client.waitForRun(id)));
    const page = await client.listRuns({ workflowId: "echo", status: ["completed", "failed"], limit: 2 });
    assert.equal(page.runs.length, 2);
    assert.ok(page.streamCursor);
    const all = [];
    for await (const run of client.iterateRuns({ workflowId: "echo" })) all.push(run.id);
    for (const id of ids) assert.equal(all.filter((each) => each === id).length, 1);
    const none = await client.listRuns({ createdAfter: new Date(Date.now() + 60_000) });
    assert.deepEqual(none.runs, []);
  });

  test("the same idempotency key gives the same run", async () => {
    const first = await client.trigger("echo", 1, { idempotencyKey: "once" });
    const second = await client.trigger("echo", 1, { idempotencyKey: "once" });
    assert.equal(second.runId, first.runId);
    await assert.rejects(client.trigger("echo", 2, { idempotencyKey: "once" }), ConflictError);
  });

  test("a delayed run is pending", async () => {
    const run = await client.trigger("echo", 1, { delay: "1h" });
    assert.equal((await client.getRun(run)).status, "pending");
    await client.cancel(run);
  });

  test("refusals are classes with code and status", async () => {
    const cases: [() => Promise<unknown>, new (...args: never[]) => Error, string, number][] = [
      [() => client.trigger("nothing"), WorkflowNotFoundError, "WORKFLOW_NOT_FOUND", 404],
      [() => client.getRun(NO_RUN), RunNotFoundError, "RUN_NOT_FOUND", 404],
      [() => client.getRun("no run"), RunNotFoundError, "RUN_NOT_FOUND", 404],
      [() => client.notify("nobody"), EventNotFoundError, "EVENT_NOT_FOUND", 404],
      [() => client.trigger("typed", { a: "x" }), InvalidInputError, "INVALID_INPUT", 400],
      [() => createClient({ url: service.url }).trigger("echo"), UnauthorizedError, "UNAUTHORIZED", 401],
    ];
    for (const [call, type, code, status] of cases) {
      const error = await call().then(
        () => assert.fail(`${code} was no refusal`),
        (error: unknown) => error,
      );
      assert.ok(error instanceof type, `${code}: ${String(error)}`);
      const { code: said, status: with_ } = error as unknown as { code: string; status: number };
      assert.deepEqual([said, with_], [code, status]);
    }
  });

  test("a run's token reads that run and its stream, and nothing else", async () => {
    const run = await client.trigger("echo", "secret");
    const other = await client.trigger("echo", "other");
    await client.result(run);
    const browser = createClient({ url: service.url, token: run.publicAccessToken });
    assert.equal((await browser.getRun(run.runId)).result, "secret");
    const events = [];
    for await (const event of browser.subscribeToRun(run.runId)) events.push(event.event);
    assert.equal(events.at(-1), "complete");
    await assert.rejects(browser.getRun(other.runId), RunNotFoundError);
    await assert.rejects(browser.trigger("echo"), ForbiddenError);
    const bare = createClient({ url: service.url });
    assert.equal((await bare.getRun(run.runId, run_token(run))).status, "completed");
    assert.equal(await bare.result(run), "secret");
    const grant = await client.createToken(run, { ttl: "15m" });
    const again = createClient({ url: service.url, token: grant.publicAccessToken });
    assert.equal((await again.getRun(run.runId)).status, "completed");
  });

  test("a finished run that was seen to its end is not told again: 204", async () => {
    const run = await client.trigger("echo", 1);
    let last = "";
    for await (const event of client.subscribeToRun(run)) last = event.lastEventId;
    const events = [];
    for await (const event of client.subscribeToRun(run, { lastEventId: last })) events.push(event);
    assert.deepEqual(events, []);
    const told = await new Promise((resolve) => client.subscribeToRun(run, { lastEventId: last, onComplete: resolve }));
    assert.equal(told, 1);
  });

  test("leaving the loop and aborting close the connection on the server", async () => {
    const run = await client.trigger("rounds", { id: "open", rounds: 1 });
    const streams = async (): Promise<number> => {
      const text = await (await fetch(`${service.url}/metrics`, { headers: { "X-API-Key": KEY } })).text();
      return Number(/^stepflow_stream_subscribers(?:\{.*\})? (\d+)/m.exec(text)?.[1] ?? Number.NaN);
    };
    const before = await streams();
    for await (const _ of client.subscribeToRun(run)) break;
    await until(async () => (await streams()) === before);

    const controller = new AbortController();
    const events = client.subscribeToRun(run, { signal: controller.signal })[Symbol.asyncIterator]();
    await events.next();
    await until(async () => (await streams()) === before + 1);
    controller.abort(new Error("enough"));
    await assert.rejects(async () => {
      for (;;) await events.next();
    }, /enough/);
    await until(async () => (await streams()) === before);

    const seen: string[] = [];
    const stop = client.subscribeToRun(run, { onEvent: ({ event }) => seen.push(event) });
    await until(() => seen.length > 0);
    stop();
    await stop.done;
    await until(async () => (await streams()) === before);
    const count = seen.length;
    await client.cancel(run, { force: true });
    assert.equal(seen.length, count);
  });

  test("a subscription is called back although a callback throws", async () => {
    const run = await client.trigger("echo", 1);
    const thrown: unknown[] = [];
    // As in a browser, where it ends in `window.onerror`.
    const runtime = globalThis as { reportError?: (error: unknown) => void };
    runtime.reportError = (error) => thrown.push(error);
    let result: unknown;
    await client.subscribeToRun(run, {
      onEvent: () => {
        throw new Error("the page's own");
      },
      onComplete: (value) => (result = value),
    }).done;
    delete runtime.reportError;
    assert.match(String(thrown[0]), /the page's own/);
    assert.equal(result, 1);
  });

  test("triggerAndStream starts a run and yields its events", async () => {
    const events = [];
    for await (const event of client.triggerAndStream("echo", { a: 1 })) events.push(event);
    const last = events.at(-1);
    assert.deepEqual(last?.data, { status: "completed", result: { a: 1 } });
  });

  test("workflows, events and health are listed, and a finished run is purged", async () => {
    assert.ok((await client.listWorkflows()).some((each) => each.description === "Sum it up."));
    const run = await client.trigger("order", { id: "listed" });
    await until(async () => (await client.listEvents()).some((e) => e.eventId === "paid-listed"));
    assert.equal((await client.health()).status, "ok");
    await client.cancel(run, { force: true });
    await client.purge(run);
    await assert.rejects(client.getRun(run), RunNotFoundError);
  });
});

function run_token(run: { publicAccessToken: string }): { accessToken: string } {
  return { accessToken: run.publicAccessToken };
}

/** Without what events do not tell: times, and which children there are. */
function timeless(run: Run | undefined): unknown {
  assert.ok(run);
  const { updatedAt: _u, steps = [], ...rest } = run;
  return { ...rest, steps: steps.map(({ startedAt: _s, completedAt: _c, ...step }) => step) };
}
