// `transport: "eventsource"`, over an EventSource that does what it is told, in virtual time.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { type ClientOptions, createClient, type RunEvent, UnauthorizedError } from "@stepflow/client";

const RUN = "run_0123456789abcdef";

class Source extends EventTarget {
  readyState = 0;
  readonly url: URL;

  constructor(url: string) {
    super();
    this.url = new URL(url);
    opened.push(this);
  }

  close(): void {
    this.readyState = 2;
  }

  open(): this {
    this.readyState = 1;
    this.dispatchEvent(new Event("open"));
    return this;
  }

  say(type: string, lastEventId: string, data: unknown): this {
    this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data), lastEventId }));
    return this;
  }

  /** Fail: by a connection that is lost, which EventSource would open again, or by an answer. */
  fail(how: "lost" | "refused"): void {
    this.readyState = how === "lost" ? 0 : 2;
    this.dispatchEvent(new Event("error"));
  }

  get asked(): Record<string, string> {
    return Object.fromEntries(this.url.searchParams);
  }
}

let opened: Source[] = [];

/** Follow the run; return its events, and what lets time pass until so many sources were opened. */
function following(t: TestContext, options: Partial<ClientOptions>) {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  t.mock.method(Math, "random", () => 0);
  opened = [];
  const held = globalThis.EventSource;
  globalThis.EventSource = Source as unknown as typeof EventSource;
  t.after(() => {
    globalThis.EventSource = held;
  });
  const client = createClient({ url: "http://service.test/base", transport: "eventsource", ...options });
  const events: RunEvent[] = [];
  const states: string[] = [];
  const done = (async () => {
    const how = { onConnection: (state: string) => void states.push(state) };
    for await (const event of client.subscribeToRun(RUN, how)) events.push(event);
  })();
  done.catch(() => undefined);
  const source = async (count: number): Promise<Source> => {
    for (let passed = 0; opened.length < count && passed < 100_000; passed += 50) {
      await settled();
      t.mock.timers.tick(50);
    }
    const last = opened[count - 1];
    assert.ok(last && opened.length === count, `${opened.length} sources, not ${count}`);
    return last;
  };
  return { events, states, done, source };
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

const step = (n: number) => ({ name: "a", status: "completed", key: `a#${n}`, kind: "step" });
const DONE = { status: "completed", result: 1 };

test("it is opened again with its token and after the last event: lost, silent or at its end", async (t) => {
  const { events, states, done, source } = following(t, { token: "pat_one", fetch: () => assert.fail("no fetch") });
  const first = await source(1);
  assert.equal(first.url.pathname, `/base/runs/${RUN}/stream`);
  assert.deepEqual(first.asked, { token: "pat_one" });
  first.open().say("status", "1", { status: "running" }).say("step", "3", step(1));
  await settled();
  first.fail("lost");
  // Closed by us: the browser's own second try would not know of our token, nor we of its events.
  assert.equal(first.readyState, 2);
  await settled();
  assert.equal(states.at(-1), "waiting");

  const second = await source(2);
  assert.deepEqual(second.asked, { lastEventId: "3", token: "pat_one" });
  second.open().say("step", "5", step(2));
  // A comment is not seen: 45 seconds without an event are silence, and the connection is another.
  await settled();
  assert.equal(states.at(-1), "open");
  t.mock.timers.tick(44_999);
  await settled();
  assert.equal(second.readyState, 1);
  t.mock.timers.tick(1);
  await settled();
  assert.equal(second.readyState, 2);

  const third = await source(3);
  assert.deepEqual(third.asked, { lastEventId: "5", token: "pat_one" });
  third.open().say("complete", "9", DONE);
  await done;
  assert.equal(third.readyState, 2);
  assert.deepEqual(
    events.map((event) => [event.event, event.id]),
    [
      ["status", "1"],
      ["step", "3"],
      ["step", "5"],
      ["complete", "9"],
    ],
  );
  assert.equal(states.at(-1), "closed");
});

test("a token that is refused or over is replaced, in the next address", async (t) => {
  const asked: string[] = [];
  const reasons: string[] = [];
  const { events, done, source } = following(t, {
    getToken: async ({ reason }) => {
      reasons.push(reason);
      return `pat_${reasons.length}`;
    },
    fetch: async (url) => {
      asked.push(String(url));
      return Response.json({ error: "Unauthorized", code: "UNAUTHORIZED" }, { status: 401 });
    },
  });
  const first = await source(1);
  assert.deepEqual(first.asked, { token: "pat_1" });
  first.open().say("step", "3", step(1));
  await settled();
  first.fail("lost");
  const second = await source(2);
  assert.deepEqual(second.asked, { lastEventId: "3", token: "pat_1" });
  second.fail("refused");
  const third = await source(3);
  // What a page cannot see of an EventSource, the same request has told.
  assert.deepEqual(asked, [second.url.href]);
  assert.deepEqual(third.asked, { lastEventId: "3", token: "pat_2" });
  // It has been good, and may be over before the run says another word, and again.
  third.open().say("expired", "3", {});
  const fourth = await source(4);
  assert.deepEqual(fourth.asked, { lastEventId: "3", token: "pat_3" });
  fourth.open().say("expired", "3", {});
  const fifth = await source(5);
  assert.deepEqual(fifth.asked, { lastEventId: "3", token: "pat_4" });
  fifth.open().say("complete", "9", DONE);
  await done;
  assert.deepEqual(reasons, ["first", "refused", "expired", "expired"]);
  assert.deepEqual(
    events.map((event) => event.id),
    ["3", "9"],
  );
});

test("a token that nothing can replace is an error, told as what it is", async (t) => {
  const { done, source } = following(t, {
    token: "pat_wrong",
    fetch: async () => Response.json({ error: "Unauthorized", code: "UNAUTHORIZED" }, { status: 401 }),
  });
  (await source(1)).fail("refused");
  await assert.rejects(done, UnauthorizedError);
  assert.equal(opened.length, 1);
});

test("a run whose last event was seen is 204, and not asked for again", async (t) => {
  const { events, done, source } = following(t, {
    token: "pat_one",
    fetch: async () => new Response(null, { status: 204 }),
  });
  (await source(1)).fail("refused");
  await done;
  assert.deepEqual(events, []);
  assert.equal(opened.length, 1);
});
