// What the reader has chosen: colours and time zone. Kept in this browser; nothing secret is.
import { Store } from "./store.js";

const KEPT = "stepflow.";

function kept(name, choices) {
  let value = choices[0];
  try {
    const found = localStorage.getItem(KEPT + name);
    if (choices.includes(found)) value = found;
  } catch {
    // A browser that keeps nothing shows the first choice each time.
  }
  const store = new Store(value);
  store.subscribe((next) => {
    try {
      localStorage.setItem(KEPT + name, next);
    } catch {
      // As above.
    }
  });
  store.next = () => store.set(choices[(choices.indexOf(store.value) + 1) % choices.length]);
  return store;
}

export const zone = kept("zone", ["local", "utc"]);
export const theme = kept("theme", ["auto", "light", "dark"]);
export const scale = kept("scale", ["time", "even"]);

function paint(value) {
  if (value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
}
paint(theme.value);
theme.subscribe(paint);

// Another tab has chosen.
addEventListener("storage", ({ key, newValue }) => {
  const store = { [`${KEPT}zone`]: zone, [`${KEPT}theme`]: theme, [`${KEPT}scale`]: scale }[key];
  if (store && newValue) store.set(newValue);
});
