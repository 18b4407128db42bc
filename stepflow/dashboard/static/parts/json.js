// A JSON value as text in colours, with a button that copies it.
import { html } from "../html.js";
import { useMemo, useState } from "../vendor/hooks.js";
import { pretty } from "../lib/format.js";
import { Icon } from "./icons.js";
import { copy } from "./say.js";

const COLOURED_MOST = 60_000;
const LINES_FOLDED = 30;
const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Show a value; `label` names it. */
export function Json({ value, label, text = undefined }) {
  const whole = useMemo(() => text ?? pretty(value), [value, text]);
  const [open, setOpen] = useState(false);
  const lines = useMemo(() => whole.split("\n"), [whole]);
  const folded = !open && lines.length > LINES_FOLDED + 5;
  const shown = folded ? lines.slice(0, LINES_FOLDED).join("\n") : whole;
  return html`<figure class="json" aria-label=${label}>
    <figcaption>
      <span>${label}</span>
      <button
        type="button"
        class="ghost small"
        onClick=${() => copy(whole, `${label} copied`)}
        aria-label=${`Copy ${label}`}
      >
        <${Icon} name="copy" /> Copy
      </button>
    </figcaption>
    <pre tabindex="0" aria-label=${label}>${text === undefined ? coloured(shown) : shown}</pre>
    ${
      lines.length > LINES_FOLDED + 5 &&
      html`<button type="button" class="link" onClick=${() => setOpen(!open)}>
        ${folded ? `Show all ${lines.length} lines` : "Show less"}
      </button>`
    }
  </figure>`;
}

function coloured(text) {
  if (text.length > COLOURED_MOST) return text;
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(TOKEN)) {
    if (match.index > from) parts.push(text.slice(from, match.index));
    const [all, string, colon, word] = match;
    if (string === undefined)
      parts.push(html`<span class=${word ? "j-word" : "j-number"}>${all}</span>`);
    else if (colon === undefined) parts.push(html`<span class="j-text">${string}</span>`);
    else parts.push(html`<span class="j-name">${string}</span>`, colon);
    from = match.index + all.length;
  }
  parts.push(text.slice(from));
  return parts;
}
