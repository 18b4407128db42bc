import assert from "node:assert/strict";
import { test } from "node:test";
import { EventParser } from "../../../stepflow/dashboard/static/lib/sse.js";

const STREAM = [
  "retry: 1000\n\n",
  ": a comment\n\n",
  'id: s-1\nevent: status\ndata: {"status":"running"}\n\n',
  "id: s-2\r\nevent: step\r\ndata: one\r\ndata: two\r\n\r\n",
  "data:no space\n\n",
  "event: progress\rdata: {}\r\r",
  "id: s-3\n\n",
  "data: unfinished",
].join("");
const EVENTS = [
  { event: "status", data: '{"status":"running"}', id: "s-1" },
  { event: "step", data: "one\ntwo", id: "s-2" },
  { event: "message", data: "no space", id: "s-2" },
  { event: "progress", data: "{}", id: "s-2" },
];

test("events come out of a stream whole, however it was cut", () => {
  for (let size = 1; size <= STREAM.length; size += 1) {
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < STREAM.length; at += size)
      events.push(...parser.push(STREAM.slice(at, at + size)));
    assert.deepEqual(events, EVENTS, `pieces of ${size}`);
    assert.equal(parser.lastId, "s-3");
  }
});
