import assert from "node:assert/strict";
import { test } from "node:test";
import * as fold from "../../../stepflow/dashboard/static/lib/fold.js";

const RUN = {
  id: "run_1",
  workflowId: "w",
  status: "running",
  input: null,
  createdAt: "2026-01-01T00:00:00.000Z",
  updatedAt: "2026-01-01T00:00:00.000Z",
  state: "active",
  steps: [],
};
const ZERO = Date.parse(RUN.createdAt);
const tell = (run, ...events) =>
  events.reduce((now, [event, data], n) => fold.afterEvent(now, event, data, ZERO + n + 1), run);

test("a run follows its events to the end", () => {
  const run = tell(
    RUN,
    [
      "status",
      { status: "running", stepName: "charge", key: "charge#1", kind: "step", attempt: 1 },
    ],
    [
      "status",
      { status: "running", stepName: "charge", key: "charge#1", kind: "step", attempt: 2 },
    ],
    ["step", { name: "charge", key: "charge#1", kind: "step", status: "completed", result: 7 }],
    [
      "status",
      {
        status: "running",
        stepName: "pay",
        key: "pay#1",
        kind: "event",
        eventId: "paid",
        dueAt: "2026-01-01T01:00:00Z",
      },
    ],
  );
  assert.equal(run.state, "waiting");
  const [charge, pay] = run.steps;
  assert.deepEqual([charge.status, charge.attempts, charge.result], ["completed", 2, 7]);
  assert.equal(Date.parse(charge.startedAt), ZERO + 1);
  assert.deepEqual(
    [pay.status, pay.eventId, pay.dueAt],
    ["pending", "paid", "2026-01-01T01:00:00Z"],
  );
  const ended = tell(
    run,
    [
      "step",
      {
        name: "pay",
        key: "pay#1",
        kind: "event",
        status: "failed",
        error: { type: "T", message: "m" },
      },
    ],
    ["error", { status: "failed", error: { type: "T", message: "m" } }],
  );
  assert.deepEqual(
    [ended.status, ended.state, ended.error.type, ended.steps[1].dueAt],
    ["failed", "failed", "T", undefined],
  );
  const again = tell(ended, ["status", { status: "running", retry: true }]);
  assert.deepEqual([again.status, again.error, again.steps.length], ["running", undefined, 1]);
  assert.deepEqual(tell(again, ["complete", { status: "completed", result: 1 }]).result, 1);
  assert.deepEqual(RUN.steps, []);
});

test("records tell the attempts, the waits between them, and what a crash has cut", () => {
  const records = [
    { t: "step.started", key: "a#1", name: "a", ts: ZERO + 10 },
    {
      t: "step.retrying",
      key: "a#1",
      attempt: 1,
      error: { type: "E", message: "m" },
      due: ZERO + 50,
      ts: ZERO + 20,
    },
    { t: "step.started", key: "a#1", name: "a", attempt: 2, ts: ZERO + 50 },
    { t: "step.started", key: "a#1", name: "a", attempt: 3, ts: ZERO + 90 },
    { t: "step.completed", key: "a#1", result: 1, ts: ZERO + 99 },
  ];
  const attempts = fold.attemptsOf(records);
  assert.deepEqual(
    attempts.get("a#1").map((one) => [one.n, one.outcome, one.end - one.start]),
    [
      [1, "failed", 10],
      [2, "interrupted", 40],
      [3, "completed", 9],
    ],
  );
  const step = {
    name: "a",
    key: "a#1",
    kind: "step",
    status: "completed",
    startedAt: RUN.createdAt,
    completedAt: new Date(ZERO + 99).toISOString(),
  };
  const [bar] = fold.bars({ ...RUN, steps: [step] }, attempts);
  assert.deepEqual(
    bar.parts.map((part) => [part.kind, part.start - ZERO, part.end - ZERO]),
    [
      ["attempt", 10, 20],
      ["wait", 20, 50],
      ["attempt", 50, 90],
      ["wait", 90, 90],
      ["attempt", 90, 99],
    ],
  );
});

test("a step that waits for its next attempt says when", () => {
  const attempts = fold.attemptsOf([
    { t: "step.started", key: "a#1", name: "a", ts: ZERO },
    { t: "step.retrying", key: "a#1", attempt: 1, error: {}, due: ZERO + 500, ts: ZERO + 20 },
  ]);
  const [bar] = fold.bars(
    { ...RUN, steps: [{ name: "a", key: "a#1", kind: "step", status: "pending" }] },
    attempts,
  );
  assert.equal(bar.due, ZERO + 500);
  assert.deepEqual(bar.parts.at(-1), {
    kind: "wait",
    start: ZERO + 20,
    end: undefined,
    due: ZERO + 500,
  });
});

test("an even scale leaves room for short steps beside a long sleep", () => {
  const day = 86_400_000;
  const bars = [
    { start: ZERO, end: ZERO + 40, parts: [{ start: ZERO, end: ZERO + 40 }] },
    { start: ZERO + 40, end: ZERO + 3 * day, parts: [{ start: ZERO + 40, end: ZERO + 3 * day }] },
  ];
  const run = { ...RUN, status: "completed", updatedAt: new Date(ZERO + 3 * day).toISOString() };
  const time = fold.scaleOf(run, bars, ZERO);
  const even = fold.scaleOf(run, bars, ZERO, "even");
  assert.ok(time.at(ZERO + 40) < 1e-6);
  assert.ok(even.at(ZERO + 40) > 0.01);
  for (const scale of [time, even]) {
    assert.deepEqual([scale.at(scale.start - 5), scale.at(scale.end + 5)], [0, 1]);
    const places = [0, 20, 40, 1000, day, 3 * day].map((ms) => scale.at(ZERO + ms));
    assert.deepEqual(
      places,
      [...places].sort((a, b) => a - b),
    );
  }
});

test("marks of the scale are few and round", () => {
  assert.deepEqual(fold.ticks(1000, 5), [0, 200, 400, 600, 800, 1000]);
  assert.ok(fold.ticks(400 * 86_400_000).length <= 7);
});

test("the event log says each record in words, an unknown one by its type", () => {
  const log = fold.logOf([
    { t: "run.cancelling", rs: 4, ts: 1, by: "key:ops", reason: "wrong order" },
    {
      t: "step.retrying",
      rs: 5,
      ts: 2,
      key: "branch/charge#2",
      attempt: 1,
      error: { type: "E", message: "m" },
    },
    { t: "of.the.future", rs: 6, ts: 3 },
  ]);
  assert.deepEqual(
    log.map((line) => line.text),
    [
      "Cancel asked for by key:ops: wrong order",
      "charge failed at attempt 1: E: m",
      "of.the.future",
    ],
  );
  assert.equal(fold.nameOf("reserve[tea]"), "reserve");
});

test("an export is taken apart line by line", () => {
  const { head, records } = fold.readExport(
    '{"stepflow":"run"}\n{"t":"run.started"}\n{"t":"run.completed"}\n',
  );
  assert.deepEqual(
    [head.stepflow, records.map((r) => r.t)],
    ["run", ["run.started", "run.completed"]],
  );
});
