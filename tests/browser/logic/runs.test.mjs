import assert from "node:assert/strict";
import { test } from "node:test";
import { RunRows, foldEvent, matcher, rowOf } from "../../../stepflow/dashboard/static/lib/runs.js";
import { revealing, windowOf } from "../../../stepflow/dashboard/static/lib/windowing.js";

const row = (n, more = {}) =>
  rowOf({
    id: `run_${n}`,
    workflowId: "w",
    status: "running",
    createdAt: new Date(n).toISOString(),
    updatedAt: new Date(n).toISOString(),
    ...more,
  });
const ids = (rows) => Array.from({ length: rows.length }, (_, at) => rows.at(at).id);

test("pages and new runs stand newest first, each once", () => {
  const rows = new RunRows();
  rows.take([row(9), row(8), row(7)]);
  rows.take([row(7), row(6), row(5)]);
  rows.take([row(11), row(10), row(9)]);
  assert.deepEqual(
    ids(rows),
    [11, 10, 9, 8, 7, 6, 5].map((n) => `run_${n}`),
  );
  rows.take([row(4), row(3)]);
  rows.drop((one) => one.id !== "run_8");
  rows.take([row(8)]);
  assert.deepEqual(
    ids(rows),
    [11, 10, 9, 8, 7, 6, 5, 4, 3].map((n) => `run_${n}`),
  );
  assert.equal(rows.indexOf("run_11"), 0);
  assert.equal(rows.indexOf("run_3"), 8);
  assert.equal(rows.indexOf("run_99"), -1);
});

test("an older copy of a run does not undo what the stream told", () => {
  const rows = new RunRows();
  rows.take([row(5)]);
  rows.patch([{ id: "run_5", workflowId: "w", status: "completed", state: "completed", at: 900 }]);
  rows.take([row(5)]);
  assert.equal(rows.get("run_5").status, "completed");
});

test("a run that began in the stream is a row at once, and whole when the list has it", () => {
  const rows = new RunRows();
  rows.take([row(5)]);
  const strange = rows.patch([
    { id: "run_70", workflowId: "w", status: "running", at: 70, born: true },
    { id: "run_2", workflowId: "w", state: "active", at: 71 },
  ]);
  assert.deepEqual(strange, ["run_2"]);
  assert.deepEqual(ids(rows), ["run_70", "run_5"]);
  rows.take([row(70, { tags: ["a"] })]);
  assert.deepEqual(
    [rows.length, rows.get("run_70").tags, rows.get("run_70").whole],
    [2, ["a"], true],
  );
});

test("the oldest rows go when there are too many", () => {
  const rows = new RunRows(100);
  for (let n = 0; n < 1000; n += 1)
    rows.patch([{ id: `run_${n}`, workflowId: "w", at: n, born: true }]);
  assert.equal(rows.length, 100);
  assert.equal(rows.at(99).id, "run_900");
  assert.equal(rows.get("run_5"), undefined);
});

test("words are looked for in all that a row shows", () => {
  const rows = new RunRows();
  rows.take([row(1, { error: { type: "CardError", message: "Refused" }, tags: ["blue"] }), row(2)]);
  const found = (text) => rows.select(matcher(text)).map((one) => one.id);
  assert.deepEqual(found("refused BLUE"), ["run_1"]);
  assert.deepEqual(found("refused green"), []);
  assert.equal(found("").length, 2);
});

test("many events of a run between two drawings are one patch", () => {
  const patches = new Map();
  const tell = (event, data, at) =>
    foldEvent(patches, event, { runId: "run_1", workflowId: "w", ...data }, at);
  tell("status", { status: "running" }, 1);
  tell("status", { status: "running", stepName: "nap", key: "nap#1", kind: "sleep" }, 2);
  assert.deepEqual(patches.get("run_1"), {
    id: "run_1",
    workflowId: "w",
    at: 2,
    status: "running",
    state: "sleeping",
    born: true,
  });
  tell("error", { status: "failed", error: { type: "E", message: "m" } }, 3);
  assert.deepEqual(patches.get("run_1"), {
    id: "run_1",
    workflowId: "w",
    at: 3,
    status: "failed",
    state: "failed",
    note: "E: m",
    born: true,
  });
});

test("of a hundred thousand rows only those in sight are drawn", () => {
  const seen = windowOf({ top: 1_800_000, viewport: 720, row: 36, total: 100_000 });
  assert.deepEqual(seen, { first: 49_992, last: 50_028, height: 3_600_000 });
  assert.deepEqual(windowOf({ top: 0, viewport: 720, row: 36, total: 3 }), {
    first: 0,
    last: 3,
    height: 108,
  });
  // A list that has become shorter than where it was scrolled to.
  assert.equal(windowOf({ top: 99_999, viewport: 720, row: 36, total: 30 }).last, 30);
  assert.equal(revealing({ index: 50, top: 0, viewport: 720, row: 36 }), 51 * 36 - 720);
  assert.equal(revealing({ index: 2, top: 720, viewport: 720, row: 36 }), 72);
  assert.equal(revealing({ index: 5, top: 0, viewport: 720, row: 36 }), 0);
});
