import assert from "node:assert/strict";
import { test } from "node:test";
import * as format from "../../../stepflow/dashboard/static/lib/format.js";

test("a span of time has two units at most", () => {
  const said = [0, 0.4, 412, 3210, 42_000, 125_000, 11_040_000, 183_600_000].map(format.duration);
  assert.deepEqual(said, ["0 ms", "<1 ms", "412 ms", "3.2 s", "42 s", "2m 05s", "3h 04m", "2d 3h"]);
  assert.equal(format.duration(NaN), "–");
  assert.equal(format.duration(-1500), "−1.5 s");
});

test("a countdown ticks in whole seconds and ends in due", () => {
  assert.deepEqual([0, 1, 1001, 125_000].map(format.countdown), [
    "due",
    "in 1 s",
    "in 2 s",
    "in 2m 05s",
  ]);
});

test("how long ago is one unit", () => {
  assert.deepEqual([0, 42_000, 301_000, 7_200_000, 9e7].map(format.ago), [
    "now",
    "42s ago",
    "5m ago",
    "2h ago",
    "1d ago",
  ]);
});

test("bytes are in binary units and counts in groups", () => {
  assert.deepEqual([512, 1536, 64 * 2 ** 20, NaN].map(format.bytes), [
    "512 B",
    "1.5 KiB",
    "64 MiB",
    "–",
  ]);
  assert.equal(format.count(1234567), "1\u202f234\u202f567");
  assert.deepEqual([0, 0.041, 3.24, 480].map(format.rate), ["0", "0.04", "3.2", "480"]);
});

test("a moment is told in the zone that was chosen", () => {
  const at = Date.UTC(2026, 0, 15, 10, 30, 0, 12);
  assert.equal(format.stamp(at, "utc", "ms"), "2026-01-15 10:30:00.012");
  const local = new Date(at);
  assert.equal(format.stamp(at, "local", "time"), local.toTimeString().slice(0, 8));
  assert.equal(format.stamp(NaN, "utc"), "–");
  assert.equal(format.zoneName("utc", at), "UTC");
});

test("a long id keeps its ends", () => {
  assert.equal(format.shortId("run_4fXo2bKq9TzW1mYc7RdE5h"), "run_4fXo2b…dE5h");
});
