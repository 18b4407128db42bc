// A run's steps over time: attempts, the waits between them, sleeps, events and children.
import { html } from "../html.js";
import { countdown, duration } from "../lib/format.js";
import { scaleOf, ticks } from "../lib/fold.js";
import { ENDED } from "../lib/runs.js";
import { Icon } from "./icons.js";
import { LongList } from "./list.js";

const ROW = 30;
const narrow = matchMedia("(max-width: 720px)");
const KINDS = { step: "step", sleep: "sleep", event: "event", child: "child", notify: "notify" };
const WORDS = {
  step: "Step",
  sleep: "Sleep",
  event: "Wait for an event",
  child: "Child run",
  notify: "Notify",
};

export function Waterfall({ run, bars, now, mode, chosen, onChoose, handle }) {
  const ended = ENDED.has(run.status);
  const scale = scaleOf(run, bars, now, mode);
  const marks =
    mode === "even"
      ? []
      : ticks(scale.end - scale.start).map((ms) => ({ ms, at: ms / (scale.end - scale.start) }));
  const selected = bars.findIndex((bar) => bar.key === chosen);
  const draw = (index) =>
    html`<${Bar}
      bar=${bars[index]}
      scale=${scale}
      now=${now}
      ended=${ended}
      on=${bars[index].key === chosen}
      onChoose=${onChoose}
      marks=${marks}
    />`;
  return html`<div class="waterfall">
    <div class="w-axis" aria-hidden="true">
      <span class="w-name">${bars.length} ${bars.length === 1 ? "step" : "steps"}</span>
      <span class="w-track">
        ${marks.map(({ ms, at }) => html`<span class="w-mark" style=${{ left: `${at * 100}%` }}>${duration(ms)}</span>`)}
        ${mode === "even" && html`<span class="w-mark">long waits evened out, ${duration(scale.end - scale.start)} in all</span>`}
      </span>
      <span class="w-took"></span>
    </div>
    <${LongList}
      label="Steps"
      columns=${3}
      fit
      total=${bars.length}
      row=${ROW}
      selected=${selected}
      keyOf=${(index) => bars[index].key}
      draw=${draw}
      handle=${handle}
    />
  </div>`;
}

function Bar({ bar, scale, now, ended, on, onChoose, marks }) {
  const end = bar.end ?? (ended ? scale.end : now);
  const open = bar.end === undefined && !ended;
  const left = scale.at(bar.start);
  const right = scale.at(end);
  const wait = open && bar.due ? countdown(bar.due - now) : "";
  const part = partOf(bar.key, bar.name);
  const words = `${bar.name}${part}, ${WORDS[bar.kind] ?? bar.kind}, ${bar.cancelled ? "cancelled" : bar.status}, ${duration(end - bar.start)}${bar.attempts > 1 ? `, ${bar.attempts} attempts` : ""}${wait ? `, ${wait}` : ""}`;
  // What is left is told in the bar where it has room, else behind it, else before it.
  const inside = right - left > (narrow.matches ? 0.55 : 0.2);
  const behind = !inside && right < 0.72;
  return html`<div
    class="w-row ${on ? "on" : ""}"
    onClick=${(event) => !event.target.closest("button, a") && onChoose(on ? "" : bar.key)}
  >
    <span role="cell" class="w-name">
      <button
        type="button"
        class="w-pick"
        data-key=${bar.key}
        aria-pressed=${String(on)}
        aria-label=${words}
        title=${bar.key}
        onClick=${() => onChoose(on ? "" : bar.key)}
      >
        <span class="kind k-${bar.kind} s-${bar.status}"
          ><${Icon} name=${KINDS[bar.kind] ?? "step"}
        /></span>
        <span class="cut">${bar.name}<small>${part}</small></span>
      </button>
    </span>
    <span role="cell" class="w-track" aria-hidden="true">
      ${marks.slice(1).map(({ at }) => html`<i class="w-grid" style=${{ left: `${at * 100}%` }}></i>`)}
      ${bar.parts.map((part) => {
        const from = scale.at(part.start);
        const to = scale.at(part.end ?? (ended ? scale.end : now));
        return html`<i
          class="w-part p-${part.kind} o-${part.outcome ?? ""} ${part.end === undefined && open ? "open" : ""}"
          title=${titleOf(part, now)}
          style=${{ left: `${from * 100}%`, width: `max(3px, ${(to - from) * 100}%)` }}
        ></i>`;
      })}
      ${wait && html`<span
        class="w-wait ${inside ? "inside" : ""} ${bar.kind === "step" ? "dashed" : ""}"
        style=${behind ? { left: `${right * 100}%` } : { right: `${(1 - (inside ? right : left)) * 100}%` }}
        >${wait}</span
      >`}
    </span>
    <span role="cell" class="w-took"
      >${bar.attempts > 1 && html`<span class="tries" title=${`${bar.attempts} attempts`}>×${bar.attempts}</span>`}${duration(end - bar.start)}</span
    >
  </div>`;
}

function titleOf(part, now) {
  const took = duration((part.end ?? now) - part.start);
  if (part.kind === "attempt")
    return `${part.n ? `Attempt ${part.n}: ` : ""}${part.outcome ?? ""}, ${took}`;
  if (part.kind === "wait") return `Wait before the next attempt, ${took}`;
  return `${WORDS[part.kind] ?? part.kind}, ${took}`;
}

/** What tells a step from others of its name: its own key, or which one it is from the second on. */
function partOf(key, name) {
  for (const mark of ["[", "#"]) {
    const first = key.startsWith(name + mark);
    const at = first ? 0 : key.indexOf(`/${name}${mark}`) + 1;
    if (first || at) return key.slice(at + name.length).replace(/^#1$/, "");
  }
  return key === name ? "" : key;
}
