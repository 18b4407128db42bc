// One run as it is after each event: what `GET /runs/{runId}` says, kept up by the stream. PURE.
//
// The base is a whole run, read once. Events of history that the base has already taken in change
// nothing: what is settled stays so. Only a whole run takes something back (a retry, a fresh start,
// a resync), and `fold` says when one has to be read.

import type { Event } from "./follow.js";
import type { Run, RunEvent, Step } from "./types.js";

export interface Folded {
  readonly run: Run;
  /** Whether events cannot tell what the run is now: read it. */
  readonly stale: boolean;
}

/** Return the run after the event. The run that was given is not changed. */
export function fold(run: Run, event: Event): Folded {
  const told = event as RunEvent;
  switch (told.event) {
    case "resync":
      return { run: told.data, stale: false };
    case "complete":
      return { run: { ...run, ...told.data, state: "completed" }, stale: true };
    case "error":
      return { run: { ...run, ...told.data, state: told.data.status }, stale: true };
    case "step":
      return { run: settled(run, told.data), stale: false };
    case "status":
      return status(run, told.data);
    default:
      return { run, stale: false };
  }
}

type Status = Extract<RunEvent, { event: "status" }>["data"];

function status(run: Run, data: Status): Folded {
  // A retry takes steps back, and a fresh start all of them: which, only the run itself says.
  if (data.retry || data.restarts !== undefined) return { run, stale: true };
  if (finished(run)) return { run, stale: false };
  if (data.key !== undefined) return { run: begun(run, data), stale: false };
  const bare = { ...run, status: data.status };
  if (data.state === "paused" || data.state === "cancelling") {
    return { run: { ...bare, state: data.state }, stale: false };
  }
  return { run: { ...bare, state: derived(bare) }, stale: false };
}

function begun(run: Run, data: Status): Run {
  const { key = "", stepName = key, kind = "step", attempt, dueAt, eventId, childRunId } = data;
  const steps = run.steps ?? [];
  const known = steps.find((step) => step.key === key);
  if (known && known.status !== "pending") return run;
  const attempts = Math.max(attempt ?? 0, known?.attempts ?? 0);
  const step: Step = {
    ...known,
    name: stepName,
    status: "pending",
    key,
    kind,
    ...(attempts > 0 && { attempts }),
    ...(dueAt !== undefined && { dueAt }),
    ...(eventId !== undefined && { eventId }),
    ...(childRunId !== undefined && { childRunId }),
  };
  const now = { ...run, steps: known ? replaced(steps, step) : [...steps, step] };
  return { ...now, status: data.status, state: derived(now) };
}

function settled(run: Run, data: Extract<RunEvent, { event: "step" }>["data"]): Run {
  const steps = run.steps ?? [];
  const known = steps.find((step) => step.key === data.key);
  if (known && known.status !== "pending") return run;
  const { dueAt: _, ...rest } = known ?? ({} as Partial<Step>);
  const step: Step = { ...rest, ...data };
  const now = { ...run, steps: known ? replaced(steps, step) : [...steps, step] };
  return finished(run) ? now : { ...now, state: derived(now) };
}

function replaced(steps: readonly Step[], step: Step): Step[] {
  return steps.map((old) => (old.key === step.key ? step : old));
}

/** Whether the run has ended. */
export function finished(run: Pick<Run, "status">): boolean {
  return run.status !== "pending" && run.status !== "running";
}

/** The finer state, as far as the steps tell: that a step waits for its next attempt, they do not. */
function derived(run: Run): NonNullable<Run["state"]> {
  if (run.state === "paused" || run.state === "cancelling") return run.state;
  if (run.status === "pending") return "queued";
  const kinds = new Set((run.steps ?? []).filter((s) => s.status === "pending").map((s) => s.kind));
  if (kinds.size === 0 || kinds.has("step")) return "active";
  return kinds.has("event") || kinds.has("child") ? "waiting" : "sleeping";
}
