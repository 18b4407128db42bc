// One run: its waterfall, what it waits for, what went in and came out, and what can be done.
import { base } from "../base.js";
import { html } from "../html.js";
import { curlOf } from "../lib/curl.js";
import { bars as barsOf } from "../lib/fold.js";
import { countdown, duration, errorLine, millis, shortId } from "../lib/format.js";
import { hashOf } from "../lib/routes.js";
import { ENDED } from "../lib/runs.js";
import { lacks, serverNow } from "../net/api.js";
import { useRun } from "../net/runs.js";
import {
  cancelDialog,
  forkDialog,
  notifyDialog,
  pauseDialog,
  purgeDialog,
  retryDialog,
  shareDialog,
} from "../parts/acts.js";
import { Act, Badge, Empty, Failed, Id, Loading, Time } from "../parts/bits.js";
import { Icon } from "../parts/icons.js";
import { Json } from "../parts/json.js";
import { useKeys } from "../parts/keys.js";
import { LongList } from "../parts/list.js";
import { useNow } from "../parts/now.js";
import { scale as scaleMode, zone } from "../parts/prefs.js";
import { go } from "../parts/route.js";
import { copy } from "../parts/say.js";
import { useStore } from "../parts/store.js";
import { Waterfall } from "../parts/waterfall.js";
import { useEffect, useMemo, useRef, useState } from "../vendor/hooks.js";

export function RunPage({ id, token = "" }) {
  const one = useRun(id, token);
  const run = one?.run;
  const live = run && !ENDED.has(run.status);
  useNow(live ? (run.steps?.some((step) => step.status === "pending") ? 250 : 1000) : 0);
  const now = serverNow();
  const mode = useStore(scaleMode);
  const [chosen, setChosen] = useState("");
  const [tab, setTab] = useState("values");
  const handle = useRef({}).current;
  const bars = useMemo(() => (run ? barsOf(run, one.attempts) : []), [run, one?.attempts]);
  useEffect(() => setChosen(""), [id]);

  const acts = run && !token ? actsOf(run, one) : {};
  const choose = (by) => {
    if (!bars.length) return;
    const at = bars.findIndex((bar) => bar.key === chosen);
    const to = Math.min(
      bars.length - 1,
      Math.max(0, at < 0 ? (by > 0 ? 0 : bars.length - 1) : at + by),
    );
    setChosen(bars[to].key);
    handle.reveal(to);
    requestAnimationFrame(() => handle.focus(bars[to].key));
  };
  useKeys({
    j: () => choose(1),
    k: () => choose(-1),
    ArrowDown: () => choose(1),
    ArrowUp: () => choose(-1),
    z: () => scaleMode.next(),
    l: () => setTab(tab === "log" ? "values" : "log"),
    ...Object.fromEntries(Object.values(acts).map((act) => [act.key, () => !act.why && act.act()])),
    Escape: () => (chosen ? setChosen("") : token ? undefined : go("runs")),
  });

  if (!one || (!run && !one.error)) return html`<section class="page"><${Loading} /></section>`;
  if (one.error && (!run || one.error.status === 404 || one.error.status === 401)) {
    return html`<section class="page">
      <${Failed} error=${one.error} retry=${() => one.read()} />
    </section>`;
  }
  if (one.gone) {
    return html`<section class="page">
      <${Empty} title="This run was purged"
        >Nothing of it is kept but who did it. <a href="#/runs">All runs</a><//
      >
    </section>`;
  }
  const step = bars.find((bar) => bar.key === chosen);
  const created = millis(run.createdAt);
  const ended = ENDED.has(run.status);
  return html`<section class="page run" aria-label=${`Run ${run.id}`}>
    <header class="run-head">
      <nav class="crumbs" aria-label="Where this is">
        ${token ? html`<span>Shared run</span>` : html`<a href="#/runs">Runs</a><span aria-hidden="true">/</span><a href=${hashOf("workflows", run.workflowId)}>${run.workflowId}</a>`}
      </nav>
      <div class="run-title">
        <h1>${run.workflowId}</h1>
        <span aria-live="polite"><${Badge} status=${run.status} state=${run.state} /></span>
        <${Id} id=${run.id} what="run id" />
        ${(run.tags ?? []).map((tag) => html`<span class="tag">${tag}</span>`)}
      </div>
      <${Why} run=${run} one=${one} now=${now} />
      <dl class="facts">
        <div>
          <dt>Started</dt>
          <dd><${Time} ms=${created} parts="ms" /></dd>
        </div>
        <div>
          <dt>${ended ? "Took" : "Running for"}</dt>
          <dd>${duration((ended ? millis(run.updatedAt) : now) - created)}</dd>
        </div>
        ${
          ended &&
          html`<div>
            <dt>Ended</dt>
            <dd><${Time} ms=${millis(run.updatedAt)} parts="ms" /></dd>
          </div>`
        }
        ${
          run.deadlineAt &&
          !ended &&
          html`<div>
            <dt>Deadline</dt>
            <dd>${countdown(millis(run.deadlineAt) - now)}</dd>
          </div>`
        }
        ${
          run.parentRunId &&
          html`<div>
            <dt>Child of</dt>
            <dd><${RunLink} id=${run.parentRunId} token=${token} /></dd>
          </div>`
        }
        ${
          run.lineage &&
          html`<div>
            <dt>Forked from</dt>
            <dd>
              <${RunLink} id=${run.lineage.runId} token=${token} /> at
              <code>${run.lineage.fromStep}</code>
            </dd>
          </div>`
        }
        ${
          run.scheduleId &&
          html`<div>
            <dt>Schedule</dt>
            <dd>${run.scheduleId}, <${Time} ms=${millis(run.scheduledAt)} /></dd>
          </div>`
        }
        ${
          run.restarts &&
          html`<div>
            <dt>Restarts</dt>
            <dd>${run.restarts}</dd>
          </div>`
        }
      </dl>
      ${
        !token &&
        html`<div class="acts" role="toolbar" aria-label="What can be done with this run">
          ${Object.values(acts).map(({ key, label, why, act, danger }) => html`<${Act} key=${key} label=${label} why=${why} onAct=${act} danger=${danger} shortcut=${key} />`)}
        </div>`
      }
    </header>
    ${run.progress && !ended && html`<${Progress} ...${run.progress} />`}
    <div class="run-body ${step ? "with-step" : ""}">
      <div class="card">
        <div class="card-head">
          <h2>Steps</h2>
          <button
            type="button"
            class="ghost small"
            aria-pressed=${String(mode === "even")}
            aria-keyshortcuts="z"
            onClick=${() => scaleMode.next()}
          >
            Even out long waits
          </button>
        </div>
        ${
          bars.length
            ? html`<${Waterfall}
                run=${run}
                bars=${bars}
                now=${now}
                mode=${mode}
                chosen=${chosen}
                onChoose=${setChosen}
                handle=${handle}
              />`
            : html`<p class="dim pad">
                ${ended ? "It asked for no step." : "It has not asked for a step yet."}
              </p>`
        }
      </div>
      ${step && html`<${Step} bar=${step} run=${run} one=${one} now=${now} token=${token} onClose=${() => setChosen("")} />`}
    </div>
    <${Tabs}
      tab=${tab}
      onTab=${setTab}
      tabs=${{ values: "Input and result", log: `Event log`, children: `Children${run.children ? ` (${run.children.length})` : ""}` }}
    >
      ${tab === "values" && html`<${Values} run=${run} one=${one} />`}
      ${tab === "log" && html`<${Log} one=${one} />`}
      ${tab === "children" && html`<${Children} run=${run} token=${token} />`}
    <//>
  </section>`;
}

const RunLink = ({ id, token }) =>
  token
    ? html`<code>${shortId(id)}</code>`
    : html`<a href=${hashOf("runs", id)}><code title=${id}>${shortId(id)}</code></a>`;

function Why({ run, one, now }) {
  if (one.expired)
    return html`<p class="why t-warn" role="status">
      The link has expired: what is shown moves no more.
    </p>`;
  if (run.status === "completed") return html`<p class="why">It completed.</p>`;
  if (run.error)
    return html`<p class="why t-bad">
      ${errorLine(run.error)}${run.error.step ? html` <span class="dim">in step <code>${run.error.step}</code></span>` : ""}
    </p>`;
  const due = one.why?.waitingFor?.map((wait) => millis(wait.dueAt)).filter(Number.isFinite);
  const left = due?.length ? Math.min(...due) - now : NaN;
  const text = one.why?.summary ?? "";
  if (!text)
    return html`<p class="why">
      ${run.status === "pending" ? "It has not begun." : "It is under way."}
    </p>`;
  return html`<p class="why" title=${text}>
    ${text}${Number.isFinite(left) && html` <span class="due">${countdown(left)}</span>`}
  </p>`;
}

function Progress({ done, total, message }) {
  return html`<div class="progress">
    <progress
      value=${total ? done : undefined}
      max=${total ?? undefined}
      aria-label="Progress"
    ></progress>
    <span>${done}${total ? ` of ${total}` : ""}</span>
    ${message && html`<span class="dim">${message}</span>`}
  </div>`;
}

function Tabs({ tab, tabs, onTab, children }) {
  const names = Object.keys(tabs);
  const move = (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const next = names[(names.indexOf(tab) + by + names.length) % names.length];
    onTab(next);
    event.currentTarget.querySelector(`[data-tab=${next}]`).focus();
  };
  return html`<div class="card">
    <div class="tabs" role="tablist" aria-label="More of this run" onKeyDown=${move}>
      ${names.map(
        (name) =>
          html`<button
            key=${name}
            type="button"
            role="tab"
            id=${`tab-${name}`}
            data-tab=${name}
            aria-selected=${String(tab === name)}
            aria-controls="tab-panel"
            tabindex=${tab === name ? 0 : -1}
            onClick=${() => onTab(name)}
          >
            ${tabs[name]}
          </button>`,
      )}
    </div>
    <div role="tabpanel" id="tab-panel" aria-labelledby=${`tab-${tab}`} class="tab-panel">
      ${children}
    </div>
  </div>`;
}

function Values({ run, one }) {
  return html`<div class="values">
    <${Json} label="Input" value=${run.input} />
    ${
      run.error
        ? html`<${ErrorBox}
            error=${run.error}
            trace=${traceOf(one.log, (record) => record.t === "run.failed" || record.t === "run.cancelled")}
          />`
        : run.status === "completed"
          ? html`<${Json} label="Result" value=${run.result} />`
          : html`<p class="dim pad">There is no result yet.</p>`
    }
  </div>`;
}

function traceOf(log, test) {
  for (let at = log.length - 1; at >= 0; at -= 1) {
    const { record } = log[at];
    if (record?.error?.traceback && test(record)) return record.error.traceback;
  }
  return "";
}

function ErrorBox({ error, trace = "" }) {
  return html`<div class="error-box">
    <p><b>${error.type}</b>: ${error.message}</p>
    ${error.attempts > 1 && html`<p class="dim">After ${error.attempts} attempts.</p>`}
    ${error.data !== undefined && html`<${Json} label="Error data" value=${error.data} />`}
    ${trace && html`<${Json} label="Traceback" text=${trace} />`}
  </div>`;
}

function Step({ bar, run, one, now, token, onClose }) {
  const end = bar.end ?? now;
  const trace = traceOf(one.log, (record) => record.key === bar.key);
  const failed = bar.parts.filter((part) => part.kind === "attempt" && part.error);
  return html`<aside class="card step" aria-label=${`Step ${bar.name}`}>
    <div class="card-head">
      <h2 class="cut" title=${bar.key}>${bar.name}</h2>
      <button type="button" class="ghost square" aria-label="Close step" onClick=${onClose}>
        <${Icon} name="close" />
      </button>
    </div>
    <dl class="facts stacked">
      <div>
        <dt>Status</dt>
        <dd>
          <${Badge}
            status=${bar.cancelled ? "cancelled" : bar.status === "pending" ? "running" : bar.status}
            state=${bar.cancelled ? "cancelled" : bar.status}
          />
        </dd>
      </div>
      <div>
        <dt>Key</dt>
        <dd><${Id} id=${bar.key} what="step key" /></dd>
      </div>
      <div>
        <dt>Began</dt>
        <dd><${Time} ms=${bar.start} parts="ms" /></dd>
      </div>
      <div>
        <dt>Took</dt>
        <dd>${duration(end - bar.start)}${bar.attempts > 1 ? `, ${bar.attempts} attempts` : ""}</dd>
      </div>
      ${
        bar.end === undefined &&
        bar.due &&
        html`<div>
          <dt>
            ${bar.kind === "step" ? "Next attempt" : bar.kind === "event" ? "Times out" : "Ends"}
          </dt>
          <dd>
            ${countdown(bar.due - now)} <span class="dim"><${Time} ms=${bar.due} /></span>
          </dd>
        </div>`
      }
      ${
        bar.eventId &&
        html`<div>
          <dt>Event</dt>
          <dd><${Id} id=${bar.eventId} what="event id" /></dd>
        </div>`
      }
      ${
        bar.childRunId &&
        html`<div>
          <dt>Child run</dt>
          <dd><${RunLink} id=${bar.childRunId} token=${token} /></dd>
        </div>`
      }
    </dl>
    ${bar.kind === "event" && bar.status === "pending" && !token && html`<p class="pad"><button type="button" class="primary" disabled=${!!lacks("notify")} onClick=${() => notifyDialog(run, [bar.eventId])}>Notify …</button></p>`}
    ${
      failed.length > 0 &&
      html`<ol class="attempts" aria-label="Failed attempts">
        ${failed.map((part) => html`<li key=${part.n}><b>Attempt ${part.n}</b> <span class="dim">${duration(part.end - part.start)}</span><br /><span class="t-bad">${errorLine(part.error)}</span></li>`)}
      </ol>`
    }
    ${bar.error ? html`<${ErrorBox} error=${bar.error} trace=${trace} />` : trace && html`<${Json} label="Last traceback" text=${trace} />`}
    ${bar.status === "completed" && bar.kind !== "sleep" && html`<${Json} label="Result" value=${bar.result} />`}
  </aside>`;
}

function Log({ one }) {
  const where = useStore(zone);
  const [open, setOpen] = useState(null);
  const { log } = one;
  if (!log.length)
    return html`<p class="dim pad">Nothing has happened yet, or your key may not read it.</p>`;
  const keyOf = (index) => `${index}-${log[index].id}`;
  return html`<div class="log">
    ${one.masked > 0 && html`<p class="dim pad">${one.masked} secret ${one.masked === 1 ? "value is" : "values are"} masked.</p>`}
    <${LongList}
      label="Event log"
      columns=${3}
      fit
      row=${28}
      total=${log.length}
      keyOf=${keyOf}
      draw=${(index) => {
        const { id, at, text, tone, type } = log[index];
        return html`<div class="log-row ${tone ? `t-${tone}` : ""} ${open === index ? "on" : ""}">
          <span role="cell" class="l-id">${id}</span>
          <span role="cell" class="l-at"><${Time} ms=${at} parts="ms" key=${where} /></span>
          <span role="cell" class="l-text"
            ><button
              type="button"
              class="link plain cut"
              aria-expanded=${String(open === index)}
              title=${type}
              onClick=${() => setOpen(open === index ? null : index)}
            >
              ${text}
            </button></span
          >
        </div>`;
      }}
    />
    ${open !== null && log[open] && html`<${Json} label=${log[open].type} value=${log[open].record} />`}
  </div>`;
}

function Children({ run, token }) {
  const children = run.children ?? [];
  if (!children.length) return html`<p class="dim pad">It started no other run.</p>`;
  const steps = new Map((run.steps ?? []).map((step) => [step.key, step]));
  return html`<ul class="children">
    ${children.map(
      (child) =>
        html`<li key=${child.runId}>
          <${RunLink} id=${child.runId} token=${token} /> <span>${child.workflowId}</span>
          <span class="dim">${child.key}</span>
          ${child.awaited === false ? html`<span class="dim">runs free</span>` : html`<${Badge} status=${childStatus(steps.get(child.key))} />`}
        </li>`,
    )}
  </ul>`;
}

const childStatus = (step) =>
  step === undefined || step.status === "pending" ? "running" : step.status;

const STATES = {
  paused: "it is paused",
  completed: "it has completed",
  failed: "it has failed",
  cancelled: "it was cancelled",
};

/** Everything that can be done to a run, with the reason where it cannot. */
function actsOf(run, one) {
  const ended = ENDED.has(run.status);
  const aside = ["paused", "quarantined"].includes(run.state);
  const waits = (run.steps ?? [])
    .filter((step) => step.kind === "event" && step.status === "pending")
    .map((step) => step.eventId);
  const because = (scope, ...reasons) => lacks(scope) || reasons.find(Boolean) || "";
  const over = ended && `This cannot be done: ${STATES[run.status]}.`;
  const act = (key, label, why, does, danger = false) => ({ key, label, why, act: does, danger });
  return {
    cancel: act(
      "c",
      "Cancel",
      because("control", over, run.state === "cancelling" && "It is being cancelled."),
      () => cancelDialog(run, one),
      true,
    ),
    pause: aside
      ? act("p", run.state === "paused" ? "Resume" : "Release", because("control", over), () =>
          pauseDialog(run, one, "resume"),
        )
      : act(
          "p",
          "Pause",
          because("control", over, run.state === "cancelling" && "It is being cancelled."),
          () => pauseDialog(run, one, "pause"),
        ),
    retry: act(
      "r",
      "Retry",
      because(
        "control",
        !["failed", "cancelled"].includes(run.status) &&
          "Only a run that failed or was cancelled is tried again.",
      ),
      () => retryDialog(run, one),
    ),
    fork: act(
      "f",
      "Fork",
      because("control", !run.steps?.length && "There is no step yet to fork from."),
      () => forkDialog(run),
    ),
    notify: act("n", "Notify", because("notify", !waits.length && "It waits for no event."), () =>
      notifyDialog(run, waits),
    ),
    share: act("s", "Share", because("control"), () => shareDialog(run)),
    curl: act("y", "Copy as curl", "", () =>
      copy(
        curlOf({
          method: "POST",
          url: new URL(`trigger/${encodeURIComponent(run.workflowId)}`, base).href,
          body: run.input,
        }),
        "A curl command that starts a run like this one is copied",
      ),
    ),
    purge: act(
      "x",
      "Purge",
      because("control", !ended && "A live run cannot be purged: cancel it first."),
      () => purgeDialog(run),
      true,
    ),
  };
}
