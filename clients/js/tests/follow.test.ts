// Streams and calls against a server that does what it is told, in virtual time.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import {
  type ClientOptions,
  ConflictError,
  createClient,
  InternalError,
  OutcomeUnknownError,
  type RunEvent,
  UnauthorizedError,
  UnavailableError,
} from "@stepflow/client";

const RUN = "run_0123456789abcdef";
const SSE = { "Content-Type": "text/event-stream; charset=utf-8" };
const DONE = 'id: 9\nevent: complete\ndata: {"status":"completed","result":1}\n\n';
const STEP = 'id: 3\nevent: step\ndata: {"name":"a","status":"completed","key":"a#1","kind":"step"}\n\n';

interface Asked {
  readonly url: string;
  readonly headers: Headers;
  readonly at: number;
}

/** A client of a server that gives these answers in turn; and what it was asked, and when. */
function scripted(
  t: TestContext,
  answers: (Response | Error | (() => Promise<Response>))[],
  options: Partial<ClientOptions> = {},
): { client: ReturnType<typeof createClient>; asked: Asked[] } {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  t.mock.method(Math, "random", () => 0);
  const asked: Asked[] = [];
  const fetch = async (url: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
    asked.push({ url: String(url), headers: new Headers(init.headers), at: Date.now() });
    const answer = answers.shift();
    assert.ok(answer, "asked once more than expected");
    if (answer instanceof Error) throw answer;
    if (answer instanceof Response) return answer;
    const aborted = new Promise<never>((_, reject) =>
      init.signal?.addEventListener("abort", () => reject(init.signal?.reason), { once: true }),
    );
    aborted.catch(() => undefined);
    return Promise.race([answer(), aborted]);
  };
  return { client: createClient({ url: "http://service.test/", fetch, ...options }), asked };
}

function events(...texts: string[]): Response {
  return new Response(texts.join(""), { headers: SSE });
}

/** A stream that says this and then nothing, for ever. */
function silent(text: string): Response {
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode(text)),
  });
  return new Response(body, { headers: SSE });
}

function refused(status: number, code: string, headers: Record<string, string> = {}): Response {
  return Response.json({ error: code, code }, { status, headers });
}

/** Let time jump whenever all wait for it. */
async function elapse<T>(t: TestContext, work: Promise<T>, ms = 1_000_000): Promise<T> {
  let over = false;
  const end = (): void => {
    over = true;
  };
  work.then(end, end);
  for (let passed = 0; !over && passed < ms; passed += 50) {
    for (let turn = 0; turn < 5 && !over; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    t.mock.timers.tick(50);
  }
  assert.ok(over, "it waits still");
  return work;
}

async function all(stream: AsyncIterable<RunEvent>): Promise<string[]> {
  const seen: string[] = [];
  for await (const event of stream) seen.push(event.event);
  return seen;
}

test("a stream that is silent for 45 s is opened again after the last id", async (t) => {
  const { client, asked } = scripted(t, [silent(STEP), events(DONE)]);
  const states: string[] = [];
  const onConnection = (state: string): void => void states.push(state);
  assert.deepEqual(await elapse(t, all(client.subscribeToRun(RUN, { onConnection }))), ["step", "complete"]);
  assert.equal(asked[1]?.headers.get("last-event-id"), "3");
  // 45 s of silence, then half of the second that is the least wait.
  const waited = (asked[1]?.at ?? 0) - (asked[0]?.at ?? 0);
  assert.ok(waited >= 45_500 && waited < 46_000, String(waited));
  assert.deepEqual(states, ["connecting", "open", "waiting", "connecting", "open", "closed"]);
});

test("comments keep a quiet stream open", async (t) => {
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      await new Promise((resolve) => setTimeout(resolve, 15_000));
      beats += 1;
      controller.enqueue(new TextEncoder().encode(beats < 10 ? ": still here\n\n" : DONE));
    },
  });
  let beats = 0;
  const { client, asked } = scripted(t, [new Response(body, { headers: SSE })]);
  assert.deepEqual(await elapse(t, all(client.subscribeToRun(RUN))), ["complete"]);
  assert.equal(asked.length, 1);
});

test("waits double from the server's retry to 30 s, and an event sets them back", async (t) => {
  const lost = Array.from({ length: 12 }, () => new TypeError("fetch failed"));
  const { client, asked } = scripted(t, [
    events("retry: 100\n\n", STEP),
    ...lost,
    events('id: 4\nevent: emit\ndata: {"name":"x","data":1}\n\n'),
    events(DONE),
  ]);
  await elapse(t, all(client.subscribeToRun(RUN)));
  const waits = asked.slice(1).map((each, i) => each.at - (asked[i]?.at ?? 0));
  // With no luck at all, each is half of what it may be; the clock of this test ticks in 50 ms.
  const expected = [50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000, 15000, 15000, 50];
  assert.equal(waits.length, expected.length);
  for (const [i, wait] of waits.entries()) {
    assert.ok(Math.abs(wait - (expected[i] ?? 0)) <= 100, `${i}: ${wait}`);
  }
  assert.equal(asked.at(-1)?.headers.get("last-event-id"), "4");
});

test("the upper half of a wait is chance", async (t) => {
  const { client, asked } = scripted(t, [events("retry: 1000\n\n"), events(DONE)]);
  t.mock.method(Math, "random", () => 0.999);
  await elapse(t, all(client.subscribeToRun(RUN)));
  const wait = (asked[1]?.at ?? 0) - (asked[0]?.at ?? 0);
  assert.ok(wait > 950 && wait <= 1050, String(wait));
});

test("a first connection is given up after four tries, an open one never, or after triesMax", async (t) => {
  const down = (): Error => new TypeError("fetch failed");
  const { client } = scripted(t, [down(), down(), down(), down(), events(STEP), down(), down()]);
  await assert.rejects(elapse(t, all(client.subscribeToRun(RUN))), UnavailableError);
  await assert.rejects(elapse(t, all(client.subscribeToRun(RUN, { triesMax: 3 }))), UnavailableError);
});

test("expired: another token is asked for, and the stream goes on at once", async (t) => {
  const why: string[] = [];
  const getToken: ClientOptions["getToken"] = ({ reason }) => `pat_${why.push(reason)}`;
  const { client, asked } = scripted(t, [events(STEP, "event: expired\ndata: {}\n\n"), events(DONE)], { getToken });
  assert.deepEqual(await elapse(t, all(client.subscribeToRun(RUN))), ["step", "complete"]);
  assert.deepEqual(why, ["first", "expired"]);
  const urls = asked.map((each) => each.url);
  assert.deepEqual(
    urls,
    [1, 2].map((n) => `http://service.test/runs/${RUN}/stream?token=pat_${n}`),
  );
  assert.equal(asked[1]?.headers.get("last-event-id"), "3");
  assert.equal(asked[1]?.at, asked[0]?.at);
});

test("expired without getToken is UnauthorizedError that says where to go on", async (t) => {
  const { client } = scripted(t, [events(STEP, "event: expired\ndata: {}\n\n")], { token: "pat_1" });
  await assert.rejects(elapse(t, all(client.subscribeToRun(RUN))), (error) => {
    assert.ok(error instanceof UnauthorizedError);
    assert.match(error.message, /after event 3/);
    return true;
  });
});

test("a fresh token that is refused, too, is final", async (t) => {
  let given = 0;
  const getToken = (): string => {
    given += 1;
    return `jwt-${given}`;
  };
  const no = (): Response => refused(401, "UNAUTHORIZED");
  const { client, asked } = scripted(t, [no(), no(), no(), no()], { getToken });
  await assert.rejects(elapse(t, client.getRun(RUN)), UnauthorizedError);
  await assert.rejects(elapse(t, all(client.subscribeToRun(RUN))), UnauthorizedError);
  assert.equal(asked.length, 4);
  assert.equal(asked[1]?.headers.get("authorization"), "Bearer jwt-2");
});

test("many calls that are refused at once ask for one token", async (t) => {
  let given = 0;
  const getToken = async (): Promise<string> => {
    given += 1;
    return `jwt-${given}`;
  };
  const yes = (): Response => Response.json({ id: RUN, status: "completed" });
  const no = (): Response => refused(401, "UNAUTHORIZED");
  const { client } = scripted(t, [no(), no(), no(), yes(), yes(), yes()], { getToken });
  await elapse(t, Promise.all([1, 2, 3].map(() => client.getRun(RUN))));
  assert.equal(given, 2);
});

test("a resync of a run that has ended ends the stream; unknown events are skipped", async (t) => {
  const run = `event: resync\ndata: {"id":"${RUN}","status":"failed","steps":[]}\n\n`;
  const { client } = scripted(t, [events("event: later\ndata: {}\n\n", run)]);
  assert.deepEqual(await elapse(t, all(client.subscribeToRun(RUN))), ["resync"]);
});

test("what is no stream is InternalError, and a redirect is not followed", async (t) => {
  const page = new Response("<html>", { headers: { "Content-Type": "text/html" } });
  const moved = new Response(null, { status: 302, headers: { Location: "http://elsewhere.test/" } });
  const { client } = scripted(t, [page, moved]);
  await assert.rejects(elapse(t, all(client.subscribeToRun(RUN))), InternalError);
  await assert.rejects(elapse(t, client.getRun(RUN)), /redirected/);
});

test("503 is tried again after Retry-After; what may have been done is not", async (t) => {
  const busy = (): Response => refused(503, "UNAVAILABLE", { "Retry-After": "7" });
  const { client, asked } = scripted(t, [
    busy(),
    Response.json({ success: true }),
    refused(503, "OUTCOME_UNKNOWN"),
    new TypeError("fetch failed"),
    refused(503, "OUTCOME_UNKNOWN"),
    Response.json({ runId: RUN, publicAccessToken: "pat_1" }),
    refused(409, "CONFLICT"),
  ]);
  await elapse(t, client.notify("x"));
  assert.ok((asked[1]?.at ?? 0) - (asked[0]?.at ?? 0) >= 7000);
  await assert.rejects(elapse(t, client.notify("x")), OutcomeUnknownError);
  await assert.rejects(elapse(t, client.cancel(RUN)), OutcomeUnknownError);
  await elapse(t, client.trigger("w"));
  const keys = asked.slice(4, 6).map((each) => each.headers.get("idempotency-key"));
  assert.ok(keys[0]);
  assert.equal(keys[0], keys[1]);
  await assert.rejects(elapse(t, client.retry(RUN)), ConflictError);
});

test("a call that is not answered in time is given up, and says what that means", async (t) => {
  const never = (): Promise<Response> => new Promise(() => undefined);
  const { client } = scripted(t, [never, never], { timeoutMs: 1000, tries: 1 });
  await assert.rejects(elapse(t, client.notify("x")), OutcomeUnknownError);
  await assert.rejects(elapse(t, client.getRun(RUN)), /no answer in 1000 ms/);
});

test("an abort is thrown as its own reason, and ends a wait", async (t) => {
  const { client } = scripted(t, [new TypeError("down"), new TypeError("down")]);
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error("enough")), 60);
  await assert.rejects(elapse(t, client.getRun(RUN, { signal: controller.signal })), /enough/);
  await assert.rejects(elapse(t, client.getRun(RUN, { signal: controller.signal })), /enough/);
});

test("an id cannot leave its place in the path", async (t) => {
  const { client, asked } = scripted(t, [refused(404, "RUN_NOT_FOUND")]);
  for (const id of ["", ".", ".."]) await assert.rejects(client.getRun(id), TypeError);
  await assert.rejects(client.getRun("a/../b?c#d"));
  assert.equal(asked[0]?.url, "http://service.test/runs/a%2F..%2Fb%3Fc%23d");
});

test("one credential at most", () => {
  assert.throws(() => createClient({ url: "/", apiKey: "a", token: "b" }), /apiKey, token/);
  assert.throws(() => createClient({}), /url/);
  const browser = createClient({ url: "/", transport: "eventsource" });
  assert.throws(() => browser.subscribeToRun(RUN), /no EventSource/);
});
