// One run's history as a waterfall. PURE.
//
// A run as `GET /runs/{id}` gives it says when each step began and ended. Its records, where they may
// be read (`GET /runs/{id}/export`), say each attempt as well; the stream says what happens next.

import { millis } from "./format.js";

/** Take the lines of an export apart: its head, and its records in order. */
export function readExport(text) {
  const [head, ...records] = text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  return { head, records };
}

/**
 * Return the run after one event of its stream, as a new object; the run itself where nothing changed.
 *
 * The server's own copy comes a moment later and has the exact times: `at` stands in for them.
 */
export function afterEvent(run, event, data, at) {
  const now = new Date(at).toISOString();
  const next = { ...run, updatedAt: now };
  if (event === "resync") return data;
  if (event === "progress") return { ...next, progress: data };
  if (event === "emit") return next;
  if (event === "status") {
    next.status = data.status;
    if (data.retry) {
      delete next.error;
      next.steps = run.steps.filter((step) => step.status !== "failed");
    }
    if (data.stepName === undefined) {
      next.state = data.state ?? (data.status === "pending" ? "queued" : "active");
      return next;
    }
    next.state = { sleep: "sleeping", event: "waiting", child: "waiting" }[data.kind] ?? "active";
    next.steps = withStep(next.steps, data.key, (known) => ({
      name: data.stepName,
      key: data.key,
      kind: data.kind,
      startedAt: now,
      ...known,
      status: "pending",
      ...(data.kind === "step" ? { attempts: data.attempt ?? 1 } : {}),
      ...(data.dueAt ? { dueAt: data.dueAt } : {}),
      ...(data.eventId ? { eventId: data.eventId } : {}),
      ...(data.childRunId ? { childRunId: data.childRunId } : {}),
    }));
    return next;
  }
  if (event === "step") {
    next.steps = withStep(next.steps, data.key, (known) => {
      const { dueAt: _, ...rest } = known ?? {};
      const step = { startedAt: now, ...rest, name: data.name, key: data.key, kind: data.kind };
      step.status = data.status;
      step.completedAt = now;
      if (data.status === "completed") step.result = data.result;
      else step.error = data.error;
      return step;
    });
    next.state = next.status === "running" ? "active" : next.state;
    return next;
  }
  if (event === "complete" || event === "error") {
    next.status = next.state = data.status;
    if (event === "complete") next.result = data.result;
    else next.error = data.error;
    return next;
  }
  return run;
}

function withStep(steps = [], key, make) {
  const at = steps.findIndex((step) => step.key === key);
  if (at < 0) return [...steps, make(undefined)];
  return steps.with
    ? steps.with(at, make(steps[at]))
    : steps.map((s, n) => (n === at ? make(s) : s));
}

/** Return the attempts of each step by key, as the records tell them. */
export function attemptsOf(records) {
  const attempts = new Map();
  const list = (key) => {
    if (!attempts.has(key)) attempts.set(key, []);
    return attempts.get(key);
  };
  const close = (record, outcome, more = {}) => {
    const last = list(record.key).at(-1);
    if (last && last.end === undefined) Object.assign(last, { end: record.ts, outcome, ...more });
  };
  for (const record of records) {
    if (record.t === "step.started") {
      // One that was cut by the end of the process has no end of its own.
      close(record, "interrupted");
      list(record.key).push({ n: record.attempt ?? 1, start: record.ts });
    } else if (record.t === "step.retrying") {
      close(record, "failed", { error: record.error, due: record.due });
    } else if (record.t === "step.completed") close(record, "completed");
    else if (record.t === "step.failed") close(record, "failed", { error: record.error });
    else if (record.t === "call.cancelled") close(record, "cancelled");
    else if (record.t === "run.retried") {
      for (const key of [...(record.again ?? []), ...(record.forget ?? [])])
        close({ key, ts: record.ts }, "failed");
    }
  }
  return attempts;
}

/**
 * Return the bars of a run: one a step, in the order of asking, each with `start`, `end` (undefined
 * while it goes on), `parts` (its attempts and the waits between them) and what it waits for.
 */
export function bars(run, attempts = new Map()) {
  return (run.steps ?? []).map((step) => {
    const end = step.completedAt ? millis(step.completedAt) : undefined;
    const told = attempts.get(step.key) ?? [];
    const start = told.length ? told[0].start : millis(step.startedAt);
    const bar = {
      ...step,
      start: Number.isFinite(start) ? start : millis(run.createdAt),
      end,
      parts: [],
    };
    if (step.kind === "step" && told.length) {
      told.forEach((attempt, n) => {
        const over = attempt.end ?? (n === told.length - 1 ? end : told[n + 1].start);
        bar.parts.push({
          kind: "attempt",
          ...attempt,
          end: over,
          outcome: attempt.outcome ?? (over ? step.status : "running"),
        });
        const until = told[n + 1]?.start ?? (attempt.due && end === undefined ? null : undefined);
        if (until !== undefined && over !== undefined) {
          bar.parts.push({ kind: "wait", start: over, end: until ?? undefined, due: attempt.due });
        }
      });
    } else {
      const outcome =
        { pending: step.kind === "step" ? "running" : "waiting" }[step.status] ?? step.status;
      bar.parts.push({
        kind: step.kind === "step" ? "attempt" : step.kind,
        n: step.attempts,
        start: bar.start,
        end,
        outcome,
      });
    }
    const retry = told.at(-1)?.due;
    if (step.status === "pending") bar.due = step.dueAt ? millis(step.dueAt) : retry;
    return bar;
  });
}

/**
 * Return a scale over a run's time: `at(ms)` is a place from 0 to 1.
 *
 * "even" gives each stretch between two happenings a width that grows with the root of the root of
 * its length: a sleep of three days leaves room for the steps of milliseconds beside it.
 */
export function scaleOf(run, all, now, mode = "time") {
  const start = Math.min(millis(run.createdAt), ...all.map((bar) => bar.start));
  const last = Math.max(...all.map((bar) => bar.end ?? now), millis(run.updatedAt));
  const end = Math.max(start + 1, ENDED.has(run.status) ? last : Math.max(now, last));
  if (mode !== "even") {
    return { start, end, at: (ms) => clamp((ms - start) / (end - start)) };
  }
  const marks = new Set([start, end]);
  for (const bar of all) {
    for (const part of bar.parts) {
      marks.add(part.start);
      if (part.end !== undefined) marks.add(part.end);
    }
  }
  const times = [...marks].filter((ms) => ms >= start && ms <= end).sort((a, b) => a - b);
  const places = [0];
  for (let n = 1; n < times.length; n += 1) {
    places.push(places[n - 1] + Math.sqrt(Math.sqrt(times[n] - times[n - 1])));
  }
  const whole = places.at(-1) || 1;
  const at = (ms) => {
    if (ms <= start) return 0;
    if (ms >= end) return 1;
    let low = 0;
    let high = times.length - 1;
    while (high - low > 1) {
      const mid = (low + high) >> 1;
      if (times[mid] <= ms) low = mid;
      else high = mid;
    }
    const inside = (ms - times[low]) / (times[high] - times[low]);
    return (places[low] + inside * (places[high] - places[low])) / whole;
  };
  return { start, end, at };
}

const ENDED = new Set(["completed", "failed", "cancelled"]);
const clamp = (value) => Math.min(1, Math.max(0, value));

/** Return round places for marks on a linear scale: about `most` times from its start. */
export function ticks(span, most = 6) {
  const steps = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5,
    18e5, 36e5, 72e5, 216e5, 432e5, 864e5,
  ];
  let step = steps.find((size) => span / size <= most);
  if (step === undefined) step = 864e5 * Math.ceil(span / 864e5 / most);
  const found = [];
  for (let at = 0; at <= span; at += step) found.push(at);
  return found;
}

const TOLD = {
  "run.started": (r) =>
    r.held
      ? "Run created; it waits for a place"
      : r.due
        ? "Run created; it begins later"
        : "Run started",
  "run.released": () => "Let in",
  "run.restarted": (r) => `Started anew, restart ${r.restarts}`,
  "run.cancelling": (r) => said("Cancel asked for", r),
  "run.paused": (r) => said("Paused", r),
  "run.resumed": (r) => said(r.aside ? "Released" : "Resumed", r),
  "run.completed": () => "Run completed",
  "run.failed": (r) => `Run failed: ${r.error?.type}: ${r.error?.message}`,
  "run.cancelled": (r) => said("Run cancelled", r),
  "run.retried": (r) => said("Retried from where it failed", r),
  "step.started": (r) => `${r.name} began${(r.attempt ?? 1) > 1 ? `, attempt ${r.attempt}` : ""}`,
  "step.retrying": (r) =>
    `${nameOf(r.key)} failed at attempt ${r.attempt}: ${r.error?.type}: ${r.error?.message}`,
  "step.completed": (r) => `${nameOf(r.key)} completed`,
  "step.failed": (r) => `${nameOf(r.key)} failed: ${r.error?.type}: ${r.error?.message}`,
  "sleep.started": (r) => `${r.name} sleeps`,
  "sleep.ended": (r) => `${nameOf(r.key)} is over`,
  "wait.started": (r) => `${r.name} waits for event ${r.event}`,
  "wait.resolved": (r) => `${nameOf(r.key)} has its event`,
  "wait.timed-out": (r) => `${nameOf(r.key)} timed out`,
  "child.started": (r) => `${r.name} started ${r.workflow} as ${r.child}`,
  "child.ended": (r) => `${nameOf(r.key)}: the child ${r.error ? "failed" : "completed"}`,
  "notify.sent": (r) => `${r.name} notified ${r.count} ${r.count === 1 ? "run" : "runs"}`,
  "call.cancelled": (r) => `${nameOf(r.key)} was cancelled`,
  "call.adopted": (r) => `${r.name} took over a recorded result`,
  "event.received": (r) => `Event ${r.event} came`,
  "event.kept": (r) => `Event ${r.event} is kept`,
  emit: (r) => `Emitted ${r.name}`,
  progress: (r) =>
    `Progress ${r.done}${r.total == null ? "" : ` of ${r.total}`}${r.message ? `: ${r.message}` : ""}`,
  value: () => "A value was recorded",
  version: (r) => `Version ${r.n} of ${r.name}`,
};

const said = (text, record) =>
  `${text}${record.by ? ` by ${record.by}` : ""}${record.reason ? `: ${record.reason}` : ""}`;

/** The name in a step key: without branch, occurrence or the author's own part. */
export function nameOf(key = "") {
  const own = key.indexOf("[");
  const head = own < 0 ? key : key.slice(0, own);
  return head.slice(head.lastIndexOf("/") + 1).replace(/#\d+$/, "") || key;
}

/** Return records as lines of the event log: `{ id, at, type, text, record }`. */
export function logOf(records) {
  // An event's payload is a record of its own, which comes before those of the run.
  const inOrder = records.toSorted((a, b) => a.lsn - b.lsn);
  return inOrder.map((record) => ({
    id: record.rs,
    at: record.ts,
    type: record.t,
    text: (TOLD[record.t] ?? (() => record.t))(record),
    tone: toneOf(record.t),
    record,
  }));
}

function toneOf(type) {
  if (/failed|timed-out|cancelled/.test(type)) return "bad";
  if (type === "step.retrying" || type === "run.cancelling") return "warn";
  if (/completed|resolved|ended$/.test(type)) return "good";
  return "";
}

/** Return an event of a stream as a line of the event log; `at` is NaN for what came as history. */
export function logLine(event, data, id, at) {
  const text = {
    status: () =>
      data.stepName
        ? `${data.stepName} began${data.attempt > 1 ? `, attempt ${data.attempt}` : ""}`
        : `Run is ${data.state ?? data.status}`,
    step: () =>
      `${data.name} ${data.status}${data.error ? `: ${data.error.type}: ${data.error.message}` : ""}`,
    complete: () => "Run completed",
    error: () =>
      `Run ${data.status}${data.error ? `: ${data.error.type}: ${data.error.message}` : ""}`,
    emit: () => `Emitted ${data.name}`,
    progress: () => TOLD.progress(data),
  }[event];
  const tone =
    event === "error" || data.status === "failed"
      ? "bad"
      : event === "complete" || event === "step"
        ? "good"
        : "";
  return { id, at, type: event, text: text ? text() : event, tone, record: data };
}
