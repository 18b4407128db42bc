// Keys that do something wherever the focus is, save where it is in a field.
import { html } from "../html.js";
import { useEffect, useRef } from "../vendor/hooks.js";
import { show, shown } from "./dialog.js";

const layers = [];
let pending = "";
let timer = 0;

/** While the part is drawn, `keys` are heard: `{ j: act, "g r": act, Escape: act }`. */
export function useKeys(keys) {
  const ref = useRef(keys);
  ref.current = keys;
  useEffect(() => {
    const layer = { get: (name) => ref.current[name], names: () => Object.keys(ref.current) };
    layers.push(layer);
    return () => layers.splice(layers.indexOf(layer), 1);
  }, []);
}

const inField = ({ target }) =>
  target.isContentEditable || /^(input|textarea|select)$/i.test(target.tagName);
const acts = (name) =>
  layers
    .toReversed()
    .map((layer) => layer.get(name))
    .find(Boolean);
const begins = (name) =>
  layers.some((layer) => layer.names().some((one) => one.startsWith(`${name} `)));

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || shown()) return;
  if (inField(event)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const name = pending ? `${pending} ${event.key}` : event.key;
  clearTimeout(timer);
  pending = "";
  const act = acts(name);
  if (act) {
    event.preventDefault();
    act();
  } else if (begins(name)) {
    pending = name;
    timer = setTimeout(() => (pending = ""), 1200);
  }
});

const HELP = [
  [
    "Everywhere",
    [
      ["g r", "runs"],
      ["g w", "workflows"],
      ["g e", "events"],
      ["g s", "schedules"],
      ["g y", "system"],
      ["g k", "keys"],
      ["t", "local time or UTC"],
      ["d", "colours: as the system, light, dark"],
      ["?", "this help"],
    ],
  ],
  [
    "Runs",
    [
      ["/", "search"],
      ["j ↓", "next run"],
      ["k ↑", "run before"],
      ["Home End", "newest, oldest that is loaded"],
      ["↵", "open"],
      ["Esc", "end the search"],
    ],
  ],
  [
    "A run",
    [
      ["j k", "next step, step before"],
      ["z", "even out long waits"],
      ["l", "event log"],
      ["c", "cancel"],
      ["p", "pause or resume"],
      ["r", "retry"],
      ["f", "fork"],
      ["n", "notify a waiting event"],
      ["x", "purge"],
      ["y", "copy as curl"],
      ["s", "share"],
      ["Esc", "close the step, back to the runs"],
    ],
  ],
];

export function showHelp() {
  show(
    "Keys",
    () =>
      html`<div class="dialog-body keys">
        ${HELP.map(
          ([where, keys]) =>
            html`<section>
              <h3>${where}</h3>
              <dl>
                ${keys.map(
                  ([key, what]) =>
                    html`<div>
                      <dt>${key.split(" ").map((one) => html`<kbd>${one}</kbd> `)}</dt>
                      <dd>${what}</dd>
                    </div>`,
                )}
              </dl>
            </section>`,
        )}
      </div>`,
  );
}
