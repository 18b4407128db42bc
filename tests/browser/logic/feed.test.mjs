// One stream that is held open, without a browser: what it does when nothing is heard.
import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Feed } from "../../../stepflow/dashboard/static/net/feed.js";

const passes = async () => {
  for (let n = 0; n < 20; n += 1) await Promise.resolve();
};

// A server that is asked: `answer(n)` is what the n-th request gets, or never.
function asked(answer) {
  const seen = [];
  mock.method(globalThis, "fetch", (url, { headers, signal }) => {
    seen.push(headers["Last-Event-ID"] ?? "");
    return new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
      const text = answer(seen.length);
      if (text) resolve(opened(text, signal));
    });
  });
  return seen;
}

// As of `fetch`: an abort breaks the body off.
const opened = (text, signal) =>
  new Response(
    new ReadableStream({
      start(out) {
        out.enqueue(new TextEncoder().encode(text));
        signal.addEventListener("abort", () => out.error(signal.reason));
      },
    }),
  );

function feed() {
  const told = { events: [], states: [] };
  const made = new Feed({
    url: () => "http://127.0.0.1/stream",
    onEvent: (event, _data, id) => told.events.push([event, id]),
    onState: (state) => told.states.push(state),
  });
  return { made, told };
}

test("a request that is never answered is given up, and made again", async () => {
  mock.timers.enable({ apis: ["setInterval", "setTimeout", "Date"] });
  const seen = asked((n) => n > 1 && "id: s-1\nevent: status\ndata: {}\n\n");
  const { made, told } = feed();
  made.start();
  await passes();
  assert.deepEqual(told.states, ["opening"]);
  mock.timers.tick(10_000);
  await passes();
  assert.equal(seen.length, 1);
  mock.timers.tick(2_500);
  await passes();
  assert.equal(told.states.at(-1), "lost");
  mock.timers.tick(300);
  await passes();
  assert.equal(seen.length, 2);
  assert.equal(told.states.at(-1), "live");
  made.stop();
  mock.reset();
  mock.timers.reset();
});

test("a line on which nothing comes for 45 seconds is opened again by its cursor", async () => {
  mock.timers.enable({ apis: ["setInterval", "setTimeout", "Date"] });
  const seen = asked(() => "id: s-7\nevent: status\ndata: {}\n\n");
  const { made, told } = feed();
  made.start();
  // A stream goes through the real loop.
  while (!told.events.length) await new Promise((resolve) => setImmediate(resolve));
  mock.timers.tick(45_000);
  await passes();
  assert.equal(seen.length, 1);
  mock.timers.tick(2_500);
  while (told.states.at(-1) !== "lost") await new Promise((resolve) => setImmediate(resolve));
  mock.timers.tick(300);
  await passes();
  assert.deepEqual(seen, ["", "s-7"]);
  made.stop();
  mock.reset();
  mock.timers.reset();
});
