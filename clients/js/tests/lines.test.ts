// The element's small parser beside the library, on streams that arrive in any pieces.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createParser } from "eventsource-parser";

import type { createParser as Small } from "../src/lines.js";

const { createParser: small } = (await import(new URL("../../dist/lines.js", import.meta.url).href)) as {
  createParser: typeof Small;
};

const PIECES = [
  "data: x",
  "data:x",
  "data:  two",
  "data",
  "data:",
  "event: step",
  "event:",
  "id: 7",
  "id:",
  "id: a\0b",
  "retry: 1000",
  "retry: soon",
  ": a comment",
  "other: y",
  "no colon",
  "data: a: b",
  "",
  "",
  "",
];
const ENDS = ["\n", "\n", "\r\n", "\r"];

/** Numbers that look random and are the same each time. */
function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
}

function parsed(create: typeof Small, chunks: readonly string[]): unknown[] {
  const seen: unknown[] = [];
  const parser = create({
    onEvent: ({ event, data, id }) => seen.push({ event, data, id }),
    onRetry: (ms) => seen.push(ms),
  });
  for (const chunk of chunks) parser.feed(chunk);
  return seen;
}

test("the element's parser gives the same events as the library, however a stream is cut", () => {
  let events = 0;
  for (let seed = 1; seed <= 3000; seed += 1) {
    const roll = dice(seed);
    let text = "";
    for (let n = roll(40); n > 0; n -= 1) text += `${PIECES[roll(PIECES.length)]}${ENDS[roll(ENDS.length)]}`;
    // A line's end that is cut in two is told apart by what follows it.
    text += "data: last\n\n";
    const chunks: string[] = [];
    for (let at = 0; at < text.length; ) {
      const size = 1 + roll(12);
      chunks.push(text.slice(at, at + size));
      at += size;
    }
    const want = parsed(createParser, chunks);
    assert.deepEqual(parsed(small, chunks), want, JSON.stringify(chunks));
    events += want.length;
  }
  assert.ok(events > 10_000);
});
