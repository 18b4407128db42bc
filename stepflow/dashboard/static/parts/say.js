// Short messages: seen for a while at the edge, and read out.
import { html } from "../html.js";
import { Store, useStore } from "./store.js";

const SHOWN_MS = 6000;
const messages = new Store([]);
let last = 0;

/** Tell the reader something; `tone` is "", "good" or "bad". */
export function say(text, tone = "") {
  const id = (last += 1);
  messages.set([...messages.value.slice(-3), { id, text, tone }]);
  setTimeout(() => messages.set(messages.value.filter((one) => one.id !== id)), SHOWN_MS);
}

export function Messages() {
  const all = useStore(messages);
  return html`<div class="messages" role="status" aria-live="polite" aria-atomic="false">
    ${all.map((one) => html`<p key=${one.id} class="message ${one.tone}">${one.text}</p>`)}
  </div>`;
}

/** Copy a text; say that it was done. */
export async function copy(text, what = "Copied") {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Over plain HTTP from another host there is no clipboard but this one.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "offscreen";
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) {
      say("The browser did not let it be copied.", "bad");
      return;
    }
  }
  say(what, "good");
}
