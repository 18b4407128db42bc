// The dashboard: who may look at it, where the reader is, and the page that is there.
import { html } from "./html.js";
import { zoneName } from "./lib/format.js";
import { findOut, signOut, who } from "./net/api.js";
import { line, poke } from "./net/live.js";
import { EventsPage } from "./pages/events.js";
import { KeysPage } from "./pages/keys.js";
import { LoginPage } from "./pages/login.js";
import { RunPage } from "./pages/run.js";
import { RunsPage } from "./pages/runs.js";
import { SchedulesPage } from "./pages/schedules.js";
import { SystemPage } from "./pages/system.js";
import { WorkflowsPage } from "./pages/workflows.js";
import { Failed, Loading } from "./parts/bits.js";
import { Dialogs } from "./parts/dialog.js";
import { Icon } from "./parts/icons.js";
import { showHelp, useKeys } from "./parts/keys.js";
import { theme, zone } from "./parts/prefs.js";
import { go, route } from "./parts/route.js";
import { Messages } from "./parts/say.js";
import { useStore } from "./parts/store.js";
import { useEffect, useRef, useState } from "./vendor/hooks.js";
import { render } from "./vendor/preact.js";

const PAGES = {
  runs: ["Runs", "g r"],
  workflows: ["Workflows", "g w"],
  events: ["Events", "g e"],
  schedules: ["Schedules", "g s"],
  system: ["System", "g y"],
  keys: ["Keys", "g k"],
};

function App() {
  const { page, id, query } = useStore(route);
  const me = useStore(who);
  const [wrong, setWrong] = useState(null);
  const shared = page === "share" && query.get("token");

  const start = () => {
    setWrong(null);
    findOut().catch(setWrong);
  };
  useEffect(() => {
    if (!shared) start();
  }, [Boolean(shared)]);
  // A server that is starting lets nobody in yet.
  useEffect(() => {
    if (!wrong) return undefined;
    const timer = setTimeout(start, 2000);
    return () => clearTimeout(timer);
  }, [wrong]);
  useTitle(page, id);
  useKeys({
    ...Object.fromEntries(Object.entries(PAGES).map(([name, [, key]]) => [key, () => go(name)])),
    t: () => zone.next(),
    d: () => theme.next(),
    "?": showHelp,
  });

  let body;
  if (shared) body = html`<${RunPage} key=${id} id=${id} token=${query.get("token")} />`;
  else if (wrong) body = html`<${Failed} error=${wrong} retry=${start} />`;
  else if (me === null) body = html`<${Loading} />`;
  else if (me.kind === "none") body = html`<${LoginPage} />`;
  else body = pageOf(page, id);
  const inside = !shared && me !== null && me.kind !== "none";
  return html`<a class="skip" href="#main" onClick=${skip}>Skip to the page</a>
    <${Top} page=${page} inside=${inside} me=${me} shared=${shared} />
    <${Banner} inside=${inside || shared} />
    <main id="main" tabindex="-1">${body}</main>
    <${Messages} />
    <${Dialogs} />`;
}

function pageOf(page, id) {
  if (page === "runs" && id) return html`<${RunPage} key=${id} id=${id} />`;
  if (page === "workflows") return html`<${WorkflowsPage} id=${id} />`;
  if (page === "events") return html`<${EventsPage} />`;
  if (page === "schedules") return html`<${SchedulesPage} />`;
  if (page === "system") return html`<${SystemPage} />`;
  if (page === "keys") return html`<${KeysPage} />`;
  return html`<${RunsPage} />`;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

// Another page: its name is the document's, and the focus goes to it, as after a link.
function useTitle(page, id) {
  const first = useRef(true);
  useEffect(() => {
    const name = { share: "Shared run" }[page] ?? PAGES[page]?.[0] ?? "Sign in";
    document.title = `${id ? `${id} · ` : ""}${name} · Stepflow`;
    if (!first.current) document.getElementById("main")?.focus({ preventScroll: true });
    first.current = false;
  }, [page, id]);
}

function Top({ page, inside, me, shared }) {
  const where = useStore(zone);
  const look = useStore(theme);
  return html`<header class="top">
    <a class="brand" href="#/runs" aria-label="Stepflow, runs"
      ><i aria-hidden="true"></i>Stepflow</a
    >
    ${
      inside
        ? html`<nav aria-label="Pages">
            ${Object.entries(PAGES)
              .filter(([name]) => name !== "keys" || me.scopes.includes("admin"))
              .map(
                ([name, [label, key]]) =>
                  html`<a
                    key=${name}
                    href=${`#/${name}`}
                    aria-current=${page === name ? "page" : undefined}
                    aria-keyshortcuts=${key}
                    title=${`${label} (${key})`}
                    >${label}</a
                  >`,
              )}
          </nav>`
        : html`<span class="grow"></span>`
    }
    <div class="tools">
      ${(inside || shared) && html`<${Line} />`}
      <button
        type="button"
        class="ghost"
        aria-keyshortcuts="t"
        title="Local time or UTC (t)"
        aria-label=${`Times in ${where === "utc" ? "UTC" : "local time"}; switch`}
        onClick=${() => zone.next()}
      >
        ${where === "utc" ? "UTC" : zoneName("local") === "UTC" ? "Local" : zoneName("local")}
      </button>
      <button
        type="button"
        class="ghost square"
        aria-keyshortcuts="d"
        title=${`Colours: ${look} (d)`}
        aria-label=${`Colours: ${look}; switch`}
        onClick=${() => theme.next()}
      >
        <${Icon} name=${{ auto: "auto", light: "sun", dark: "moon" }[look]} />
      </button>
      <button
        type="button"
        class="ghost square"
        aria-keyshortcuts="?"
        title="Keys (?)"
        aria-label="Keys"
        onClick=${showHelp}
      >
        ?
      </button>
      ${inside && me.kind !== "open" && html`<button type="button" class="ghost square" title=${`Sign out${me.name ? ` ${me.name}` : ""}`} aria-label="Sign out" onClick=${signOut}><${Icon} name="out" /></button>`}
    </div>
  </header>`;
}

const LINES = {
  live: "Live",
  opening: "Connecting",
  idle: "Connecting",
  lost: "Reconnecting",
  refused: "Not live",
  off: "Polling",
  over: "Ended",
};

function Line() {
  const state = useStore(line);
  return html`<span class="line l-${state}"
    ><i aria-hidden="true"></i>${LINES[state] ?? state}</span
  >`;
}

// A line that comes back within a moment is not worth a word.
function Banner({ inside }) {
  const state = useStore(line);
  const [late, setLate] = useState(false);
  useEffect(() => {
    setLate(false);
    if (state !== "lost") return undefined;
    const timer = setTimeout(() => setLate(true), 1200);
    return () => clearTimeout(timer);
  }, [state]);
  return html`<div class="banner-place" role="status" aria-live="polite">
    ${inside && late && html`<p class="banner">The server is not reached. What you see is as it was; the page goes on by itself, and nothing will be missed. <button type="button" class="link" onClick=${poke}>Try now</button></p>`}
  </div>`;
}

const place = document.getElementById("app");
render(html`<${App} />`, place);
