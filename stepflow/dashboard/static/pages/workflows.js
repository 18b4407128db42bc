// What can be triggered, and how it has been going.
import { base } from "../base.js";
import { html } from "../html.js";
import { curlOf } from "../lib/curl.js";
import { count, duration, inline, millis, plural, pretty, rate, shortId } from "../lib/format.js";
import { hashOf } from "../lib/routes.js";
import { ENDED } from "../lib/runs.js";
import { draftOf, fieldOf, valueOf } from "../lib/schema.js";
import { api, lacks, serverNow } from "../net/api.js";
import { JsonField, read } from "../parts/acts.js";
import { Act, Badge, Empty, Failed, Loading, Time } from "../parts/bits.js";
import { Chart } from "../parts/chart.js";
import { Field } from "../parts/form.js";
import { Json } from "../parts/json.js";
import { go } from "../parts/route.js";
import { copy, say } from "../parts/say.js";
import { useData } from "../parts/use.js";
import { useEffect, useMemo, useState } from "../vendor/hooks.js";

export function WorkflowsPage({ id }) {
  const { data, error, again } = useData(api.workflows);
  if (error && !data)
    return html`<section class="page"><${Failed} error=${error} retry=${again} /></section>`;
  if (!data) return html`<section class="page"><${Loading} /></section>`;
  const all = [...data.workflows].sort((a, b) => (a.id < b.id ? -1 : 1));
  if (!all.length) {
    return html`<section class="page">
      <${Empty}
        title="No workflows"
        command="stepflow new hello && cd hello && stepflow serve app.py"
        >This server has none registered. A first one:<//
      >
    </section>`;
  }
  const chosen = all.find((one) => one.id === id) ?? (id ? undefined : all[0]);
  return html`<section class="page sides" aria-label="Workflows">
    <nav class="side" aria-label="Workflows">
      <h1>Workflows</h1>
      <ul>
        ${all.map(
          (one) =>
            html`<li key=${one.id}>
              <a
                href=${hashOf("workflows", one.id)}
                aria-current=${one === chosen ? "page" : undefined}
                ><b class="cut">${one.id}</b><small class="cut">${one.description ?? ""}</small></a
              >
            </li>`,
        )}
      </ul>
    </nav>
    ${chosen ? html`<${Workflow} key=${chosen.id} workflow=${chosen} />` : html`<${Empty} title="No such workflow">“${id}” is not registered on this server.<//>`}
  </section>`;
}

function Workflow({ workflow }) {
  const recent = useData(() => api.runs({ workflowId: workflow.id, limit: 200 }), {
    every: 10_000,
    on: [workflow.id],
    wakes: (news) => news.patches.some((patch) => patch.workflowId === workflow.id),
  });
  const runs = recent.data?.runs ?? [];
  const view = useData(() => api.workflow(workflow.id), { every: 5000, on: [workflow.id] });
  const { pace } = view.data ?? {};
  return html`<div class="main">
    <header class="run-head">
      <div class="run-title"><h2 class="big">${workflow.id}</h2></div>
      ${workflow.description && html`<p class="why">${workflow.description}</p>`}
      <dl class="facts">
        <div>
          <dt>Schedule</dt>
          <dd>
            ${workflow.schedule ? html`<a href="#/schedules"><code>${workflow.schedule}</code></a>` : html`<span class="dim">none</span>`}
          </dd>
        </div>
        <div>
          <dt>Events</dt>
          <dd>
            ${workflow.events.length ? workflow.events.map((one) => html`<code class="gap">${one}</code>`) : html`<span class="dim">none declared</span>`}
          </dd>
        </div>
        <div>
          <dt>Runs</dt>
          <dd><a href=${hashOf("runs", "", { workflow: workflow.id })}>all of this workflow</a></dd>
        </div>
        ${
          pace &&
          html`<div>
            <dt>Now</dt>
            <dd>
              ${plural(pace.live, "run")} under way${pace.queued > 0 && html`, ${count(pace.queued)} queued`}
            </dd>
          </div>`
        }
      </dl>
    </header>
    <${Recent} runs=${runs} pace=${pace} />
    <div class="run-body halves">
      <${TriggerForm} workflow=${workflow} runs=${runs} />
      <div class="card">
        <div class="card-head"><h2>Latest runs</h2></div>
        ${
          runs.length
            ? html`<ul class="children">
                ${runs.slice(0, 12).map(
                  (run) =>
                    html`<li key=${run.id}>
                      <${Badge} status=${run.status} state=${run.state} />
                      <a href=${hashOf("runs", run.id)} title=${run.id}
                        ><code>${shortId(run.id)}</code></a
                      >
                      <span class="dim mono cut">${inline(run.input, 60)}</span
                      ><span class="grow"></span
                      ><span class="dim"
                        ><${Time} ms=${millis(run.createdAt)} now=${serverNow()}
                      /></span>
                    </li>`,
                )}
              </ul>`
            : html`<p class="dim pad">It has not been triggered yet.</p>`
        }
        <details class="pad">
          <summary>Schemas</summary>
          <${Json} label="Input schema" value=${workflow.inputSchema} /><${Json}
            label="Output schema"
            value=${workflow.outputSchema}
          />
        </details>
      </div>
    </div>
  </div>`;
}

const BUCKETS = 40;

/** How often it is started and how long it takes, as the server has measured; the latest runs drawn. */
function Recent({ runs, pace }) {
  const told = useMemo(() => figures(runs), [runs]);
  if (!told) return null;
  return html`<div class="charts">
    <${Chart}
      label="Runs started"
      times=${told.times} span=${told.span}
      lines=${[{ label: "started", values: told.started, colour: "accent", bars: true, fill: true }]}
      unit=${(value) => (Number.isInteger(value) ? count(value) : "")}
      said=${pace ? `${rate(pace.startedPerS * 60)} a minute over the last ${duration(pace.windowS * 1000)}` : "…"}
    />
    <${Chart}
      label="Time to the end"
      times=${told.ends} span=${told.span}
      lines=${[
        { label: "completed", values: told.good, colour: "good", points: true },
        { label: "failed", values: told.bad, colour: "bad", points: true },
      ]}
      unit=${duration}
      said=${pace ? tookSaid(pace) : "…"}
    />
  </div>`;
}

function figures(runs) {
  if (runs.length < 3) return null;
  const made = runs.map((run) => millis(run.createdAt)).reverse();
  const from = made[0];
  const span = Math.max(1000, serverNow() - from);
  const started = Array(BUCKETS).fill(0);
  for (const ms of made)
    started[Math.min(BUCKETS - 1, Math.floor(((ms - from) / span) * BUCKETS))] += 1;
  const times = started.map((_, n) => from + ((n + 0.5) * span) / BUCKETS);
  const over = runs.filter((run) => ENDED.has(run.status) && run.status !== "cancelled").reverse();
  const took = over.map((run) => millis(run.updatedAt) - millis(run.createdAt));
  return {
    times,
    span: [from, from + span],
    started,
    ends: over.map((run) => millis(run.createdAt)),
    good: over.map((run, n) => (run.status === "completed" ? took[n] : null)),
    bad: over.map((run, n) => (run.status === "failed" ? took[n] : null)),
  };
}

function tookSaid({ sampled, latencyP50S, latencyP99S }) {
  if (!sampled) return "none has ended in the last 5 minutes";
  const [half, most] = [latencyP50S, latencyP99S].map((each) => duration(each * 1000));
  return `half ${half}, 99 % ${most}, of ${plural(sampled, "run")}`;
}

function TriggerForm({ workflow, runs }) {
  const field = useMemo(() => fieldOf(workflow.inputSchema), [workflow.id]);
  const formless = field.kind === "json";
  const [draft, setDraft] = useState(() => draftOf(field));
  const [raw, setRaw] = useState(formless);
  const [text, setText] = useState(() => (formless ? "null" : ""));
  const [delay, setDelay] = useState("");
  const [shown, setShown] = useState(new Map());
  const [wrong, setWrong] = useState("");
  const [busy, setBusy] = useState(false);
  const why = lacks("trigger");
  useEffect(() => setShown(new Map()), [raw]);

  const now = () => {
    if (!raw) return valueOf(field, draft);
    const { value, wrong: bad } = read(text);
    return {
      value: value === undefined ? null : value,
      errors: bad ? new Map([["", bad]]) : new Map(),
    };
  };
  const swap = () => {
    if (raw) {
      const { value, wrong: bad } = read(text);
      if (!bad && value !== undefined) setDraft(draftOf(field, value));
    } else setText(pretty(valueOf(field, draft).value));
    setRaw(!raw);
  };
  const fill = (input) => {
    setDraft(draftOf(field, input));
    setText(pretty(input));
  };
  const submit = async (event) => {
    event.preventDefault();
    if (busy || why) return;
    const { value, errors } = now();
    setShown(errors);
    setWrong("");
    if (errors.size) {
      setWrong(`${plural(errors.size, "field")} to mend.`);
      requestAnimationFrame(() => document.querySelector("#trigger [aria-invalid=true]")?.focus());
      return;
    }
    setBusy(true);
    try {
      const { runId } = await api.trigger(workflow.id, value, delay ? { delay } : {});
      say("The run is started, and durable.", "good");
      go("runs", runId);
    } catch (error) {
      setWrong(error.message);
    }
    setBusy(false);
  };
  const curl = () => {
    const url = new URL(
      `trigger/${encodeURIComponent(workflow.id)}${delay ? `?delay=${encodeURIComponent(delay)}` : ""}`,
      base,
    ).href;
    copy(curlOf({ method: "POST", url, body: now().value }), "The curl command is copied");
  };
  return html`<form class="card trigger" id="trigger" onSubmit=${submit} novalidate>
    <div class="card-head">
      <h2>Trigger</h2>
      <span class="grow"></span>
      ${runs.length > 0 && html`<button type="button" class="ghost small" onClick=${() => fill(runs[0].input)}>Input of the latest run</button>`}
      ${!formless && html`<button type="button" class="ghost small" aria-pressed=${String(raw)} onClick=${swap}>Raw JSON</button>`}
    </div>
    <div class="dialog-body">
      ${raw ? html`<${JsonField} id="trigger-json" label="Input" text=${text} wrong=${shown.get("") ?? ""} onInput=${setText} rows=${10} />` : html`<${Field} field=${field} draft=${draft} path=${[]} errors=${shown} onDraft=${setDraft} />`}
      <label class="field"
        ><span>Delay <small>left empty: now; 30s, 15m, 2h, 7d</small></span
        ><input
          type="text"
          class="short"
          value=${delay}
          onInput=${(event) => setDelay(event.target.value.trim())}
      /></label>
    </div>
    <p class="wrong" role="alert">${wrong}</p>
    <footer>
      <button type="button" onClick=${curl}>Copy as curl</button>
      <button
        type="submit"
        class="primary"
        aria-disabled=${why || busy ? "true" : undefined}
        title=${why || undefined}
        aria-description=${why || undefined}
      >
        ${busy ? "Working …" : "Trigger"}
      </button>
    </footer>
  </form>`;
}
