// What is asked before something is done to a run.
import { base } from "../base.js";
import { html } from "../html.js";
import { diffOf } from "../lib/diff.js";
import { pretty } from "../lib/format.js";
import { hashOf } from "../lib/routes.js";
import { api } from "../net/api.js";
import { useMemo, useState } from "../vendor/hooks.js";
import { Doing, close, show } from "./dialog.js";
import { Icon } from "./icons.js";
import { go } from "./route.js";
import { copy, say } from "./say.js";
import { Time } from "./bits.js";

function Reason({ value, onInput }) {
  return html`<label class="field"
    ><span>Reason <small>kept in the audit</small></span>
    <input
      type="text"
      maxlength="1000"
      value=${value}
      onInput=${(event) => onInput(event.target.value)}
  /></label>`;
}

/** A question with a reason, and one button that does it. */
function Ask({ text, label, danger, act, children }) {
  const [reason, setReason] = useState("");
  return html`<${Doing} label=${label} danger=${danger} act=${() => act(reason)}>
    <p>${text}</p>
    ${children}
    <${Reason} value=${reason} onInput=${setReason} />
  <//>`;
}

const body = (reason, more = {}) => ({ ...(reason ? { reason } : {}), ...more });

export function cancelDialog(run, one) {
  show("Cancel this run?", () => html`<${Cancel} run=${run} one=${one} />`);
}

function Cancel({ run, one }) {
  const [force, setForce] = useState(false);
  const act = async (reason) => {
    await api.act(run.id, "cancel", body(reason, force ? { force } : {}));
    say("The run is being cancelled.", "good");
    one.read();
  };
  return html`<${Ask}
    label="Cancel the run"
    danger
    act=${act}
    text="Its body gets a CancelledError and may run its cleanup for 30 seconds. What its steps have done is not undone, save where they say how."
  >
    <label class="check"
      ><input
        type="checkbox"
        checked=${force}
        onChange=${(event) => setForce(event.target.checked)}
      />
      At once, without waiting for its cleanup</label
    >
  <//>`;
}

export function pauseDialog(run, one, what) {
  const pause = what === "pause";
  const act = async (reason) => {
    await api.act(run.id, what, body(reason));
    say(pause ? "The run is paused." : "The run goes on.", "good");
    one.read();
  };
  show(
    pause ? "Pause this run?" : "Let this run go on?",
    () =>
      html`<${Ask}
        label=${pause ? "Pause" : "Go on"}
        act=${act}
        text=${pause ? "Steps that are running end; nothing new begins until it is resumed." : "It goes on from where it stands."}
      />`,
  );
}

export function retryDialog(run, one) {
  const act = async (reason) => {
    await api.act(run.id, "retry", body(reason));
    say("The run goes on from where it failed.", "good");
    one.read();
  };
  const failed = run.error?.step;
  show(
    "Retry this run?",
    () =>
      html`<${Ask}
        label="Retry"
        act=${act}
        text=${failed ? `It goes on from step “${failed}”. What was completed is not run again.` : "It goes on from where it ended. What was completed is not run again."}
      />`,
  );
}

export function purgeDialog(run) {
  const act = async (reason) => {
    await api.purge(run.id, reason);
    say("The run is purged.", "good");
    go("runs");
  };
  show(
    "Purge this run for good?",
    () =>
      html`<${Ask}
        label="Purge for good"
        danger
        act=${act}
        text="Its input, results, events and idempotency key are forgotten. There is no way back."
      />`,
  );
}

export function notifyDialog(run, events) {
  show("Notify", () => html`<${Notify} run=${run} events=${events} />`);
}

/** Send an event: to one run, or, where none is given, to all that wait for it. */
function Notify({ run, events }) {
  const [event, setEvent] = useState(events[0]);
  const [text, setText] = useState("{}");
  const { value, wrong } = read(text);
  const act = async () => {
    await api.notify(event, value, run?.id);
    say(`“${event}” was delivered.`, "good");
  };
  return html`<${Doing} label="Notify" act=${act} disabled=${!!wrong}>
    <p>
      ${run ? "The event goes to this run alone." : "The event goes to every run that waits for it."}
      It is delivered when it is on disk.
    </p>
    ${
      events.length > 1
        ? html`<label class="field"
            ><span>Event</span
            ><select value=${event} onChange=${(change) => setEvent(change.target.value)}>
              ${events.map((id) => html`<option value=${id}>${id}</option>`)}
            </select></label
          >`
        : html`<p class="field"><span>Event</span> <code class="wrap">${event}</code></p>`
    }
    <${JsonField} label="Payload" text=${text} wrong=${wrong} onInput=${setText} />
  <//>`;
}

export function JsonField({ label, text, wrong, onInput, rows = 8, id = "json-field" }) {
  return html`<label class="field"
      ><span>${label} <small>JSON</small></span
      ><textarea
        class="mono"
        rows=${rows}
        spellcheck="false"
        autocomplete="off"
        aria-invalid=${wrong ? "true" : undefined}
        aria-describedby=${wrong ? `${id}-wrong` : undefined}
        value=${text}
        onInput=${(event) => onInput(event.target.value)}
      ></textarea>
    </label>
    <p class="field-wrong" id=${`${id}-wrong`}>${wrong}</p>`;
}

/** Return the value of a text of JSON, or what is wrong with it; nothing at all is `undefined`. */
export function read(text) {
  if (text.trim() === "") return { value: undefined, wrong: "" };
  try {
    return { value: JSON.parse(text), wrong: "" };
  } catch (error) {
    return { value: undefined, wrong: error.message };
  }
}

export function forkDialog(run) {
  show("Fork from a step", () => html`<${Fork} run=${run} />`, { wide: true });
}

function Fork({ run }) {
  const failed = run.steps.find((step) => step.status === "failed");
  const [from, setFrom] = useState((failed ?? run.steps[0]).key);
  const [input, setInput] = useState(pretty(run.input));
  const [results, setResults] = useState("");
  const [reason, setReason] = useState("");
  const given = read(input);
  const pinned = read(results);
  const bad =
    pinned.wrong ||
    (pinned.value !== undefined &&
    (typeof pinned.value !== "object" || pinned.value === null || Array.isArray(pinned.value))
      ? "An object of results by step key is needed."
      : "");
  const difference = useMemo(
    () => (given.wrong ? [] : diffOf(run.input, given.value ?? null)),
    [input],
  );
  const act = async () => {
    const asked = { fromStep: from, ...body(reason) };
    if (difference.length) asked.input = given.value ?? null;
    if (pinned.value !== undefined) asked.results = pinned.value;
    const made = await api.act(run.id, "fork", asked);
    say("The fork has begun.", "good");
    go("runs", made.runId);
  };
  const kept = run.steps.findIndex((step) => step.key === from);
  return html`<${Doing} label="Fork" act=${act} disabled=${!!given.wrong || !!bad}>
    <p>
      A new run that keeps what was recorded before the chosen step was first asked for. This one
      stays as it is.
    </p>
    <label class="field"
      ><span>From step</span>
      <select value=${from} onChange=${(event) => setFrom(event.target.value)}>
        ${run.steps.map((step) => html`<option key=${step.key} value=${step.key}>${step.key}${step.status === "failed" ? " (failed)" : ""}</option>`)}
      </select></label
    >
    <p class="dim">
      ${
        kept === 0
          ? "No result is kept."
          : `Kept: ${run.steps
              .slice(0, Math.min(kept, 8))
              .map((step) => step.key)
              .join(", ")}${kept > 8 ? ", …" : ""}`
      }
    </p>
    <${JsonField}
      id="fork-input"
      label="Input"
      text=${input}
      wrong=${given.wrong}
      onInput=${setInput}
      rows=${10}
    />
    ${
      difference.length > 0 &&
      html`<figure class="diff" aria-label="What differs from this run's input">
        <figcaption>What differs</figcaption>
        <pre tabindex="0">
${difference.map(({ sign, text }) => html`<span class=${{ "+": "d-add", "-": "d-cut", " ": "" }[sign]}>${sign} ${text}${"\n"}</span>`)}</pre>
      </figure>`
    }
    <details>
      <summary>Pin results of further steps</summary>
      <${JsonField}
        id="fork-results"
        label="Results by step key"
        text=${results}
        wrong=${bad}
        onInput=${setResults}
        rows=${4}
      />
    </details>
    <${Reason} value=${reason} onInput=${setReason} />
  <//>`;
}

export function shareDialog(run) {
  show("Share this run", () => html`<${Share} run=${run} />`);
}

function Share({ run }) {
  const [ttl, setTtl] = useState("24h");
  const [made, setMade] = useState(null);
  const [wrong, setWrong] = useState("");
  const make = async (event) => {
    event.preventDefault();
    setWrong("");
    try {
      const { publicAccessToken, expiresAt } = await api.act(run.id, "token", { ttl });
      const link = new URL(location.href);
      link.hash = hashOf("share", run.id, { token: publicAccessToken });
      setMade({ link: link.href, expiresAt });
      copy(link.href, "The link is copied.");
    } catch (error) {
      setWrong(error.message);
    }
  };
  return html`<form class="doing" onSubmit=${make}>
    <div class="dialog-body">
      <p>
        Whoever has the link can read this run, its input and its results, and nothing else. The
        token stands behind the #, which browsers send to no server.
      </p>
      <label class="field"
        ><span>Good for</span>
        <select value=${ttl} onChange=${(event) => setTtl(event.target.value)}>
          ${["15m", "1h", "24h", "7d", "30d"].map((one) => html`<option>${one}</option>`)}
        </select></label
      >
      ${
        made &&
        html`<label class="field"
            ><span>Link</span
            ><input
              id="share-link"
              class="mono"
              readonly
              value=${made.link}
              onFocus=${(event) => event.target.select()}
          /></label>
          <p class="dim">
            Until <${Time} ms=${Date.parse(made.expiresAt)} />.
            <button
              type="button"
              class="ghost small"
              onClick=${() => copy(made.link, "Link copied")}
            >
              <${Icon} name="copy" /> Copy
            </button>
          </p>`
      }
    </div>
    <p class="wrong" role="alert">${wrong}</p>
    <footer>
      <button type="button" onClick=${close}>Close</button>
      <button type="submit" class="primary">Make a link</button>
    </footer>
  </form>`;
}
