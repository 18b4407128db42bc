// The rows of the runs page: newest first, each run once, at most so many. PURE.
//
// Pages of `GET /runs` come in from the old end, the stream adds at the new one and changes what is
// known. Rows are small: no input, no result. They are kept oldest first, so that a new run is a push;
// `at(0)` is the newest all the same.

import { errorLine, inline, millis } from "./format.js";

export const STATUSES = ["pending", "running", "completed", "failed", "cancelled"];
export const ENDED = new Set(["completed", "failed", "cancelled"]);
const MOST = 120_000;

/** Return a run as a row. */
export function rowOf(run) {
  return {
    id: run.id,
    workflowId: run.workflowId,
    status: run.status,
    state: run.state ?? run.status,
    created: millis(run.createdAt),
    updated: millis(run.updatedAt),
    note: run.error ? errorLine(run.error).slice(0, 200) : "",
    input: inline(run.input, 100),
    tags: run.tags ?? [],
    whole: true,
  };
}

export class RunRows {
  #rows = [];
  #byId = new Map();
  #most;
  /** Rises with every change: what was drawn for a lower one is stale. */
  version = 0;
  /** How many rows have come in before all others: a list that is scrolled moves along with them. */
  heads = 0;
  /** Whether old rows had to go. */
  trimmed = false;

  constructor(most = MOST) {
    this.#most = most;
  }

  get length() {
    return this.#rows.length;
  }

  /** The `index`-th newest. */
  at(index) {
    return this.#rows[this.#rows.length - 1 - index];
  }

  get(id) {
    return this.#byId.get(id);
  }

  /** Where a run stands, the newest being 0; -1 where it is not. */
  indexOf(id) {
    const row = this.#byId.get(id);
    return row ? this.#rows.length - 1 - this.#rows.lastIndexOf(row) : -1;
  }

  clear() {
    this.#rows = [];
    this.#byId.clear();
    this.trimmed = false;
    this.version += 1;
  }

  /** Take rows, as a page of the list has them; what is known already is brought up to date. */
  take(rows) {
    const fresh = [];
    for (const row of rows) {
      const known = this.#byId.get(row.id);
      if (known === undefined) {
        this.#byId.set(row.id, row);
        fresh.push(row);
      } else if (!(row.updated < known.updated) || !known.whole) Object.assign(known, row);
    }
    if (fresh.length) this.#insert(fresh.reverse());
    this.#trim();
    this.version += 1;
    return fresh.length;
  }

  // Most come wholly before or wholly after what is here.
  #insert(rows) {
    const all = this.#rows;
    if (!all.length || rows[0].created >= all.at(-1).created) {
      all.push(...rows);
      this.heads += rows.length;
    } else if (rows.at(-1).created <= all[0].created) this.#rows = rows.concat(all);
    else {
      this.#rows = all.concat(rows);
      // A stable sort of what is nearly sorted takes little more than one pass.
      this.#rows.sort((a, b) => a.created - b.created);
    }
  }

  // The oldest go, some at a time. Whoever scrolls there asks for them again.
  #trim() {
    const over = this.#rows.length - this.#most;
    if (over <= 0) return;
    for (const row of this.#rows.splice(0, over)) this.#byId.delete(row.id);
    this.trimmed = true;
  }

  /**
   * Take what the stream told of runs: `{ id, workflowId, status?, state?, note?, at, born? }` each.
   *
   * Return the ids that are not known and were not born here: whoever wants them has to ask.
   */
  patch(patches) {
    const strange = [];
    const born = [];
    for (const patch of patches) {
      const row = this.#byId.get(patch.id);
      if (row === undefined) {
        if (!patch.born) {
          strange.push(patch.id);
          continue;
        }
        const fresh = provisional(patch);
        this.#byId.set(fresh.id, fresh);
        born.push(fresh);
        continue;
      }
      if (patch.status) row.status = patch.status;
      if (patch.state) row.state = patch.state;
      row.note = patch.note ?? row.note;
      row.updated = Math.max(row.updated, patch.at);
    }
    // The stream is in order, and its clock is another one than that of the list.
    const newest = this.#rows.at(-1)?.created ?? 0;
    for (const row of born) row.created = Math.max(row.created, newest);
    this.#rows.push(...born);
    this.heads += born.length;
    this.#trim();
    this.version += 1;
    return strange;
  }

  /** Forget runs, as when they were purged or fit the filter no more. */
  drop(keep) {
    const before = this.#rows.length;
    this.#rows = this.#rows.filter((row) => keep(row) || !this.#byId.delete(row.id));
    if (this.#rows.length !== before) this.version += 1;
  }

  /** Return the rows that a test takes, newest first. */
  select(test) {
    const found = [];
    for (let at = this.#rows.length - 1; at >= 0; at -= 1) {
      if (test(this.#rows[at])) found.push(this.#rows[at]);
    }
    return found;
  }
}

function provisional(patch) {
  const { id, workflowId, status = "running", state = "active", note = "", at } = patch;
  const row = { id, workflowId, status, state, created: at, updated: at, note };
  return { ...row, input: "", tags: [], whole: false };
}

/** Return a test of rows by words, all of which must be somewhere in the row. */
export function matcher(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return (row) => {
    const all = `${row.id} ${row.workflowId} ${row.state} ${row.tags.join(" ")} ${row.note}`;
    const lower = all.toLowerCase();
    return words.every((word) => lower.includes(word));
  };
}

/**
 * Fold one event of the stream over all runs into the patch of its run.
 *
 * `patches` is a Map by run id: events between two drawings make one patch a run.
 */
export function foldEvent(patches, event, data, at) {
  const { runId: id, workflowId } = data;
  let patch = patches.get(id);
  if (patch === undefined) {
    patch = { id, workflowId, at };
    patches.set(id, patch);
  }
  patch.at = at;
  if (event === "status") {
    patch.status = data.status;
    if (data.stepName === undefined) {
      patch.state = data.state ?? (data.status === "pending" ? "queued" : "active");
      // The first event of a run is a status without anything else.
      if (!data.state && !data.retry && !data.restarts) patch.born = true;
      if (data.retry) patch.note = "";
    } else
      patch.state =
        { sleep: "sleeping", event: "waiting", child: "waiting" }[data.kind] ?? "active";
  } else if (event === "step") {
    patch.state = "active";
  } else if (event === "complete" || event === "error") {
    patch.status = patch.state = data.status;
    patch.note = errorLine(data.error).slice(0, 200);
  }
  return patch;
}
