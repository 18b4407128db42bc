// Small parts that every page is made of.
import { html } from "../html.js";
import { ago, duration, stamp, zoneName } from "../lib/format.js";
import { Icon } from "./icons.js";
import { zone } from "./prefs.js";
import { copy } from "./say.js";
import { useStore } from "./store.js";

/** A run's state in a word, with a mark and a colour of its own. */
export function Badge({ status, state = status }) {
  const word = state === "active" ? "running" : state;
  return html`<span class="badge s-${status} t-${state}"><i aria-hidden="true"></i>${word}</span>`;
}

/** A moment in the chosen zone; the other ways to tell it are in its title. */
export function Time({ ms, parts = "full", now = undefined }) {
  const where = useStore(zone);
  if (!Number.isFinite(ms)) return html`<span class="dim">–</span>`;
  const title = `${stamp(ms, where, "ms")} ${zoneName(where, ms)}`;
  const text = now === undefined ? stamp(ms, where, parts) : ago(now - ms);
  return html`<time datetime=${new Date(ms).toISOString()} title=${title}>${text}</time>`;
}

export const Span = ({ ms }) => html`<span class="span">${duration(ms)}</span>`;

/** An id in whole, with a button that copies it. */
export function Id({ id, what = "id" }) {
  return html`<span class="id"
    ><code>${id}</code
    ><button
      type="button"
      class="ghost square"
      aria-label=${`Copy ${what}`}
      title=${`Copy ${what}`}
      onClick=${() => copy(id, `${what} copied`)}
    >
      <${Icon} name="copy" /></button
  ></span>`;
}

/** What stands where there is nothing yet: why, and the command that makes something. */
export function Empty({ title, children, command = undefined }) {
  return html`<div class="empty">
    <h2>${title}</h2>
    <p>${children}</p>
    ${
      command &&
      html`<p class="command">
        <code>${command}</code>
        <button type="button" class="ghost small" onClick=${() => copy(command, "Command copied")}>
          <${Icon} name="copy" /> Copy
        </button>
      </p>`
    }
  </div>`;
}

/** A button that says why it cannot be used; it can be reached all the same, to be read. */
export function Act({ label, why = "", onAct, danger = false, primary = false, shortcut = "" }) {
  const title = why || (shortcut ? `${label} (${shortcut})` : label);
  return html`<button
    type="button"
    class="act ${danger ? "danger-quiet" : ""} ${primary ? "primary" : ""}"
    aria-disabled=${why ? "true" : undefined}
    aria-description=${why || undefined}
    aria-keyshortcuts=${shortcut || undefined}
    title=${title}
    onClick=${() => !why && onAct()}
  >
    ${label}
  </button>`;
}

/** What went wrong with a page's own data. */
export function Failed({ error, retry }) {
  return html`<div class="empty" role="alert">
    <h2>
      ${error.status === 404 ? "Not found" : error.status === 403 ? "Not allowed" : "That did not work"}
    </h2>
    <p>${error.message}</p>
    ${retry && html`<p><button type="button" onClick=${retry}>Try again</button></p>`}
  </div>`;
}

export const Loading = () => html`<p class="loading" role="status">Loading …</p>`;
