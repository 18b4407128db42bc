// How the server is: disk, loop, runs, streams, memory.
import { html } from "../html.js";
import { bytes, count, duration, rate } from "../lib/format.js";
import { History, readMetrics } from "../lib/metrics.js";
import { api } from "../net/api.js";
import { Failed, Loading } from "../parts/bits.js";
import { Chart } from "../parts/chart.js";
import { useEffect, useState } from "../vendor/hooks.js";

const EVERY_MS = 2000;
// Kept while the reader is on other pages, so that a look back has something to show.
const history = new History(300);

export function SystemPage() {
  const [state, setState] = useState({ error: null, ready: null });
  useEffect(() => {
    let over = false;
    const look = async () => {
      if (document.hidden) return;
      try {
        const [text, ready, system] = await Promise.all([
          api.metrics(),
          api.ready().catch(() => null),
          api.system().catch(() => null),
        ]);
        const figures = readMetrics(text);
        if (system) {
          figures.set("resident_bytes", system.memory.rssBytes);
          figures.set("streams", system.streams.ofRuns + system.streams.ofAll);
        }
        history.add(Date.now(), figures);
        if (!over) setState({ error: null, ready });
      } catch (error) {
        if (!over) setState((now) => ({ ...now, error }));
      }
    };
    look();
    const timer = setInterval(look, EVERY_MS);
    return () => {
      over = true;
      clearInterval(timer);
    };
  }, []);
  if (!history.length)
    return html`<section class="page">
      ${state.error ? html`<${Failed} error=${state.error} />` : html`<${Loading} />`}
    </section>`;
  const now = history.last;
  const get = (name) => now.get(`stepflow_${name}`) ?? NaN;
  const times = history.times();
  const seconds = (value) =>
    value > 0 && value < 0.001 ? `${Math.max(1, Math.round(value * 1e6))} µs` : duration(value * 1000);
  const half = history.quantiles("stepflow_journal_commit_seconds", 0.5);
  const most = history.quantiles("stepflow_journal_commit_seconds", 0.99);
  const lag = history.values("stepflow_loop_lag_seconds");
  const memory = history.values("resident_bytes").some((one) => one !== null);
  const troubles = troublesOf(state.ready, get);
  // It scrolls, and on a narrow screen there is nothing else in it to focus.
  return html`<section class="page" aria-label="System" tabindex="0">
    <div class="toolbar">
      <h1>System</h1>
      <p class="dim">This process, as it is and as it has been since the page was opened.</p>
    </div>
    <div class="health ${troubles.length ? "t-warn" : "t-good"}" role="status">
      ${
        troubles.length
          ? html`<ul>
              ${troubles.map((one) => html`<li>${one}</li>`)}
            </ul>`
          : "All is well: it serves, the disk answers, nothing is set aside."
      }
    </div>
    <div class="charts three">
      <${Chart}
        label="Commit latency"
        times=${times}
        lines=${[
          { label: "half within", values: half, colour: "accent", fill: true },
          { label: "99 % within", values: most, colour: "warn" },
        ]}
        unit=${seconds}
        said=${last(half) === null ? "no commits lately" : `half ${seconds(last(half))}, 99 % ${seconds(last(most))}`}
      />
      <${Chart}
        label="Loop lag"
        times=${times}
        lines=${[{ label: "lag", values: lag, colour: "accent", fill: true }]}
        unit=${seconds}
        said=${last(lag) === null ? "not measured" : `${seconds(last(lag))}, at most ${seconds(get("loop_lag_seconds_max"))}`}
      />
      <${Chart}
        label="Runs started"
        times=${times}
        lines=${[{ label: "a second", values: history.rates("stepflow_runs_started_total"), colour: "good", fill: true }]}
        unit=${rate}
        said=${`${rate(last(history.rates("stepflow_runs_started_total")) ?? NaN)} a second`}
      />
      <${Chart}
        label="Written to the journal"
        times=${times}
        lines=${[{ label: "a second", values: history.rates("stepflow_journal_bytes_written"), colour: "accent", fill: true }]}
        unit=${bytes}
        said=${`${bytes(last(history.rates("stepflow_journal_bytes_written")) ?? NaN)} a second`}
      />
      <${Chart}
        label="Open streams"
        times=${times}
        lines=${[{ label: "streams", values: history.values("streams"), colour: "accent", fill: true }]}
        unit=${whole}
        said=${count(now.get("streams") ?? NaN)}
      />
      <${Chart}
        label=${memory ? "Memory" : "Held by runs"}
        times=${times}
        lines=${[{ label: "bytes", values: memory ? history.values("resident_bytes") : sum(history.values("stepflow_runs_live_bytes"), history.values("stepflow_runs_finished_bytes")), colour: "accent", fill: true }]}
        unit=${bytes}
        said=${bytes(memory ? now.get("resident_bytes") : get("runs_live_bytes") + get("runs_finished_bytes"))}
      />
    </div>
    <div class="tiles">
      <${Tile}
        title="Runs"
        rows=${[
          ["Known", count(get("runs_known"))],
          ["Live", count(get("runs_live"))],
          ["Active", count(get("runs_active"))],
          ["Queued", count(get("runs_queued"))],
          ["Set aside", count(get("runs_quarantined"))],
          ["Live hold", bytes(get("runs_live_bytes"))],
          ["Finished hold", bytes(get("runs_finished_bytes"))],
          ["Kept for", get("retention_hours") ? `${count(get("retention_hours"))} h` : "not known"],
        ]}
      />
      <${Tile}
        title="Journal"
        rows=${[
          ["Durable LSN", count(get("journal_durable_lsn"))],
          ["Not yet durable", count(get("journal_last_lsn") - get("journal_durable_lsn"))],
          ["Queued", bytes(get("journal_queued_bytes"))],
          ["Segments", `${count(get("journal_segments"))}, ${bytes(get("journal_segment_bytes"))}`],
          ["Room", bytes(get("journal_room_bytes"))],
          ["Slowest sync", seconds(get("journal_sync_seconds_max"))],
        ]}
      />
      <${Tile}
        title="Snapshots"
        rows=${[
          ["On disk", count(get("journal_snapshots"))],
          ["Age", seconds(get("journal_snapshot_age_seconds"))],
          ["Size", bytes(get("journal_snapshot_bytes"))],
          ["Up to LSN", count(get("journal_snapshot_lsn"))],
          ["Journal since", bytes(get("journal_bytes_since_snapshot"))],
          ["Last start took", seconds(get("recovery_seconds"))],
        ]}
      />
      <${Tile}
        title="Work"
        rows=${[
          ["Steps running", count(get("steps_running"))],
          ["Retries", count(get("step_retries_total"))],
          ["Steps failed", count(get("steps_failed_total"))],
          ["Timers", count(get("timers"))],
          ["Waits for events", count(get("event_waiters"))],
          ["Events delivered", count(get("events_delivered_total"))],
          ["Abandoned threads", count(get("step_zombies"))],
          ["Loop held", count(get("loop_blocked_total"))],
        ]}
      />
    </div>
  </section>`;
}

const whole = (value) => (Number.isInteger(value) ? count(value) : "");
const last = (values) => values.findLast((value) => value !== null) ?? null;
const sum = (a, b) => a.map((value, n) => (value === null ? null : value + (b[n] ?? 0)));

function troublesOf(ready, get) {
  const found = [];
  const degraded = ready?.degraded ?? {};
  if (ready === null)
    found.push("It takes no requests: it is starting, draining, or its disk does not answer.");
  if (get("journal_read_only") === 1)
    found.push("The disk is full: it is read-only until there is room.");
  if (degraded.diskHangsS > 1)
    found.push(`A write has hung for ${duration(degraded.diskHangsS * 1000)}.`);
  if (degraded.missingWorkflows?.length)
    found.push(
      `Runs wait for workflows that are not registered: ${degraded.missingWorkflows.slice(0, 5).join(", ")}.`,
    );
  if (degraded.quarantinedRuns)
    found.push(
      `${count(degraded.quarantinedRuns)} ${degraded.quarantinedRuns === 1 ? "run is" : "runs are"} set aside and need you.`,
    );
  if (degraded.snapshotFailures)
    found.push(`${count(degraded.snapshotFailures)} snapshots failed.`);
  return found;
}

function Tile({ title, rows }) {
  return html`<div class="card tile">
    <div class="card-head"><h2>${title}</h2></div>
    <dl>
      ${rows.map(
        ([name, value]) =>
          html`<div key=${name}>
            <dt>${name}</dt>
            <dd>${value}</dd>
          </div>`,
      )}
    </dl>
  </div>`;
}
