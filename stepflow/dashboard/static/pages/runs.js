// All runs, live: counts, filters, search, and rows that do not end.
import { html } from "../html.js";
import { count, duration, millis, plural, shortId } from "../lib/format.js";
import { hashOf } from "../lib/routes.js";
import { ENDED, RunRows, STATUSES, matcher, rowOf } from "../lib/runs.js";
import { api, serverNow } from "../net/api.js";
import { line, listen } from "../net/live.js";
import { Badge, Empty, Failed, Time } from "../parts/bits.js";
import { Icon } from "../parts/icons.js";
import { useKeys } from "../parts/keys.js";
import { LongList } from "../parts/list.js";
import { useNow } from "../parts/now.js";
import { go, route, setQuery } from "../parts/route.js";
import { say } from "../parts/say.js";
import { useStore } from "../parts/store.js";
import { useEffect, useMemo, useRef, useState } from "../vendor/hooks.js";

const PAGE = 200;
const LOADED_MOST = 100_000;
const ROW = 34;
const HYDRATED_MOST = 20;
const COUNTED_MS = 1000;
// What no event tells, such as a purge, is seen by then.
const COUNTED_ANYWAY_MS = 15_000;
const RANGES = { "15m": 9e5, "1h": 36e5, "24h": 864e5, "7d": 6048e5 };
const RUN_ID = /^run_[A-Za-z0-9]{8,64}$/;

/** The list's rows and what is asked of the server for them; it tells `changed` at most once a frame. */
class RunList {
  rows = new RunRows();
  error = null;
  loaded = false;
  /** How many runs have each status, as the server says; null where it does not. */
  counts = null;
  #cursor = null;
  #loading = null;
  #refresh = 0;
  #frame = 0;
  #asked = 0;
  #count = 0;
  #counted = 0;

  constructor(filter, changed) {
    this.filter = filter;
    this.changed = changed;
  }

  get more() {
    return this.#cursor !== null && this.rows.length < LOADED_MOST;
  }

  start() {
    this.stopListening = listen((news) => (news.reload ? this.reload() : this.take(news.patches)));
    this.stopWatching = line.subscribe((state) => this.#poll(state));
    this.#poll(line.value);
    this.recounter = setInterval(() => !document.hidden && this.#recount(), COUNTED_ANYWAY_MS);
    this.reload();
  }

  stop() {
    this.stopListening?.();
    this.stopWatching?.();
    clearTimeout(this.#refresh);
    clearTimeout(this.#count);
    clearInterval(this.poller);
    clearInterval(this.recounter);
    cancelAnimationFrame(this.#frame);
    this.#loading?.abort();
  }

  // Where this server has no stream over all runs, look now and then.
  #poll(state) {
    clearInterval(this.poller);
    if (state === "off") this.poller = setInterval(() => !document.hidden && this.refresh(), 3000);
  }

  #tell() {
    // Nothing is laid out for a tab that nobody sees.
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.changed();
    });
  }

  #query(more = {}) {
    const { status, workflow, tag, since } = this.filter;
    const after = RANGES[since] && new Date(serverNow() - RANGES[since]).toISOString();
    return {
      status: status.join(","),
      workflowId: workflow,
      tag,
      createdAfter: after,
      limit: PAGE,
      ...more,
    };
  }

  // Pages come out of their turn; only the one that was asked for last says how many there are.
  async #page(query, signal) {
    const mine = (this.#counted += 1);
    const page = await api.runs(query, signal);
    if (mine === this.#counted) this.counts = page.counts ?? null;
    return page;
  }

  async #recount() {
    clearTimeout(this.#count);
    this.#count = 0;
    const { workflow, tag, since } = this.filter;
    if (tag || since) return;
    await this.#page({ workflowId: workflow, limit: 1 }).catch(() => null);
    this.#tell();
  }

  async reload() {
    this.#loading?.abort();
    const loading = (this.#loading = new AbortController());
    try {
      const page = await this.#page(this.#query(), loading.signal);
      this.rows.clear();
      this.rows.take(page.runs.map(rowOf));
      this.#cursor = page.nextCursor;
      this.error = null;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.error = error;
    }
    this.#loading = null;
    this.loaded = true;
    this.#tell();
  }

  /** Load the next page; `false` where there is none. */
  async next() {
    if (!this.more || this.#loading) return false;
    const loading = (this.#loading = new AbortController());
    try {
      const page = await api.runs(this.#query({ cursor: this.#cursor }), loading.signal);
      this.rows.take(page.runs.map(rowOf));
      this.#cursor = page.nextCursor;
    } catch (error) {
      if (error.name === "AbortError") return false;
      say(error.message, "bad");
      return false;
    } finally {
      if (this.#loading === loading) this.#loading = null;
    }
    this.#tell();
    return this.more;
  }

  /** Look at the newest again: what the stream told of new runs is not all there is to know. */
  async refresh() {
    clearTimeout(this.#refresh);
    this.#refresh = 0;
    const page = await this.#page(this.#query()).catch(() => null);
    if (page === null) return;
    this.rows.take(page.runs.map(rowOf));
    const there = new Set(page.runs.map((run) => run.id));
    const oldest = page.nextCursor === null ? 0 : millis(page.runs.at(-1)?.createdAt);
    const late = serverNow() - 3000;
    this.rows.drop(
      (row) => row.whole || there.has(row.id) || row.created < oldest || row.created > late,
    );
    this.#tell();
  }

  take(patches) {
    const { status, workflow, tag, since } = this.filter;
    const fit = workflow ? patches.filter((patch) => patch.workflowId === workflow) : patches;
    if (!fit.length) return;
    const born = fit.some((patch) => patch.born && !this.rows.get(patch.id));
    // Tags are not in the stream: with one asked for, only the list says which runs have it.
    const known = tag ? fit.map((patch) => ({ ...patch, born: false })) : fit;
    const strange = this.rows.patch(known);
    if (status.length) {
      this.rows.drop((row) => status.includes(row.status));
      if (!tag && !since) this.#hydrate(strange, fit);
    }
    if (born) this.#refresh ||= setTimeout(() => this.refresh(), COUNTED_MS);
    else if (fit.some((patch) => patch.status))
      this.#count ||= setTimeout(() => this.#recount(), COUNTED_MS);
    this.#tell();
  }

  // An old run that has come to have a status that is asked for.
  async #hydrate(ids, patches) {
    const wanted = new Set(
      patches.filter((patch) => this.filter.status.includes(patch.status)).map((patch) => patch.id),
    );
    for (const id of ids.filter((one) => wanted.has(one))) {
      if (this.#asked >= HYDRATED_MOST) return;
      this.#asked += 1;
      const run = await api.run(id).catch(() => null);
      this.#asked -= 1;
      if (run && this.filter.status.includes(run.status)) this.rows.take([rowOf(run)]);
      this.#tell();
    }
  }
}

/** Return the filter that an address says. */
function filterOf(query) {
  const words = (query.get("q") ?? "").split(/\s+/).filter(Boolean);
  return {
    status: (query.get("status") ?? "").split(",").filter((one) => STATUSES.includes(one)),
    workflow: query.get("workflow") ?? "",
    since: query.get("since") in RANGES ? query.get("since") : "",
    tag: words.find((word) => word.startsWith("tag:"))?.slice(4) ?? "",
    text: words.filter((word) => !word.startsWith("tag:")).join(" "),
    q: query.get("q") ?? "",
  };
}

export function RunsPage() {
  const { query } = useStore(route);
  const filter = useMemo(() => filterOf(query), [query.toString()]);
  const [, redraw] = useState(0);
  const served = JSON.stringify([filter.status, filter.workflow, filter.since, filter.tag]);
  const list = useMemo(() => new RunList(filter, () => redraw((n) => n + 1)), [served]);
  const workflows = useWorkflowIds();
  const tally = useRef({}).current;
  const counts = list.loaded ? (list.counts ?? countsOf(list.rows, tally)) : null;
  const now = useNow(1000);
  const [chosen, setChosen] = useState("");
  const [atTop, setAtTop] = useState(true);
  const [seenHeads, setSeenHeads] = useState(0);
  const handle = useRef({}).current;
  const search = useRef(null);

  useEffect(() => {
    list.start();
    return () => list.stop();
  }, [list]);

  const { rows } = list;
  const found = useSearch(rows, filter.text);
  const total = found ? found.length : rows.length;
  const at = (index) => (found ? found[index] : rows.at(index));
  const indexOf = (id) => (found ? found.findIndex((row) => row.id === id) : rows.indexOf(id));
  const selected = chosen ? indexOf(chosen) : -1;
  const news = atTop ? 0 : rows.heads - seenHeads;
  useEffect(() => {
    if (atTop) setSeenHeads(rows.heads);
  }, [atTop, rows.heads]);

  const change = (more) => {
    const next = {
      status: filter.status.join(","),
      workflow: filter.workflow,
      since: filter.since,
      q: filter.q,
      ...more,
    };
    setQuery(next);
  };
  const choose = (index) => {
    if (!total) return;
    const to = Math.min(total - 1, Math.max(0, index));
    const row = at(to);
    setChosen(row.id);
    handle.reveal(to);
    requestAnimationFrame(() => handle.focus(row.id));
  };
  useKeys({
    j: () => choose(selected + 1),
    k: () => choose(selected < 0 ? 0 : selected - 1),
    ArrowDown: () => choose(selected + 1),
    ArrowUp: () => choose(selected < 0 ? 0 : selected - 1),
    PageDown: () => choose(Math.max(0, selected) + handle.page()),
    PageUp: () => choose(Math.max(0, selected) - handle.page()),
    Home: () => choose(0),
    End: () => choose(total - 1),
    "/": () => search.current?.focus(),
    Escape: () => (filter.q ? change({ q: "" }) : undefined),
  });

  const opened = (event) => {
    event.preventDefault();
    const text = search.current.value.trim();
    if (RUN_ID.test(text)) go("runs", text);
    else if (total) choose(0);
  };

  const anyFilter = filter.status.length || filter.workflow || filter.since || filter.q;
  return html`<section class="page fill" aria-label="Runs">
    <div class="toolbar">
      <h1>Runs</h1>
      <div class="chips" role="group" aria-label="Filter by status">
        ${STATUSES.map(
          (status) =>
            html`<button
              key=${status}
              type="button"
              class="chip s-${status} ${filter.status.includes(status) ? "on" : ""}"
              aria-pressed=${String(filter.status.includes(status))}
              onClick=${() => change({ status: toggled(filter.status, status).join(",") })}
            >
              <i aria-hidden="true"></i
              >${status}${counts && html` <b title=${list.counts ? undefined : "Of the runs that are loaded"}>${list.counts ? count(counts[status]) : number(counts, status, list, filter)}</b>`}
            </button>`,
        )}
      </div>
      <form class="filters" role="search" onSubmit=${opened}>
        <label class="search">
          <${Icon} name="search" />
          <span class="offscreen">Search runs by id, workflow, state, error or tag:name</span>
          <input
            ref=${search}
            type="search"
            value=${filter.q}
            placeholder="Search, tag:name, run_…"
            aria-keyshortcuts="/"
            onInput=${(event) => change({ q: event.target.value })}
            onKeyDown=${(event) => event.key === "ArrowDown" && (event.preventDefault(), choose(0))}
          />
          <kbd aria-hidden="true">/</kbd>
        </label>
        <label
          ><span class="offscreen">Workflow</span>
          <select
            value=${filter.workflow}
            onChange=${(event) => change({ workflow: event.target.value })}
          >
            <option value="">All workflows</option>
            ${withChosen(workflows, filter.workflow).map((id) => html`<option key=${id} value=${id}>${id}</option>`)}
          </select></label
        >
        <label
          ><span class="offscreen">Started within</span>
          <select
            value=${filter.since}
            onChange=${(event) => change({ since: event.target.value })}
          >
            <option value="">Any time</option>
            <option value="15m">Last 15 minutes</option>
            <option value="1h">Last hour</option>
            <option value="24h">Last 24 hours</option>
            <option value="7d">Last 7 days</option>
          </select></label
        >
        ${anyFilter && html`<button type="button" class="ghost" onClick=${() => setQuery({})}>Clear</button>`}
      </form>
    </div>
    ${news > 0 && html`<button type="button" class="news" onClick=${() => handle.toTop()}><${Icon} name="up" /> ${plural(news, "new run")}</button>`}
    ${
      list.error && !rows.length
        ? html`<${Failed} error=${list.error} retry=${() => list.reload()} />`
        : list.loaded && !total
          ? nothing(anyFilter, workflows, list, filter)
          : html`<${LongList}
              label="Runs"
              columns=${6}
              total=${total}
              row=${ROW}
              heads=${found ? 0 : rows.heads}
              selected=${selected}
              keyOf=${(index) => at(index).id}
              draw=${(index, on) => html`<${Row} run=${at(index)} on=${on} now=${now} version=${rows.version} choose=${setChosen} />`}
              onNear=${() => !found && list.next()}
              onTop=${setAtTop}
              handle=${handle}
              head=${HEAD}
            />`
    }
    <footer class="status-line">
      <span>${list.loaded ? told(list, found, total) : "Loading …"}</span>
      ${found && list.more && html`<button type="button" class="link" onClick=${() => list.next()}>Search in older runs</button>`}
      <span class="hint"
        ><kbd>j</kbd> <kbd>k</kbd> move · <kbd>↵</kbd> open · <kbd>?</kbd> all keys</span
      >
    </footer>
  </section>`;
}

const HEAD = ["Status", "Workflow", "Run", "What", "Started", "Took"].map(
  (name) =>
    html`<span role="columnheader" class="c-${name.split(" ")[0].toLowerCase()}">${name}</span>`,
);

function Row({ run, on, now, choose }) {
  const open = () => go("runs", run.id);
  const took = (ENDED.has(run.status) ? run.updated : now) - run.created;
  return html`<div
    class="run-row ${on ? "on" : ""}"
    onClick=${(event) => !event.target.closest("a") && open()}
  >
    <span role="cell" class="c-status"><${Badge} status=${run.status} state=${run.state} /></span>
    <span role="cell" class="c-workflow" title=${run.workflowId}>${run.workflowId}</span>
    <span role="cell" class="c-run"
      ><a
        href=${hashOf("runs", run.id)}
        data-key=${run.id}
        title=${run.id}
        onFocus=${() => choose(run.id)}
        ><code>${shortId(run.id)}</code></a
      ></span
    >
    <span role="cell" class="c-what">
      ${run.tags.map((tag) => html`<span class="tag">${tag}</span>`)}
      ${run.note ? html`<span class="note" title=${run.note}>${run.note}</span>` : html`<span class="dim mono">${run.input}</span>`}
    </span>
    <span role="cell" class="c-started"><${Time} ms=${run.created} now=${now} /></span>
    <span role="cell" class="c-took">${run.status === "pending" ? "–" : duration(took)}</span>
  </div>`;
}

// Of a tag or a time the server counts nothing, so the rows that are here are counted. A status that
// was not asked for is not among them; of a list that goes on, nobody knows the end.
const number = (counts, status, list, filter) =>
  filter.status.length && !filter.status.includes(status)
    ? "–"
    : `${count(counts[status] ?? 0)}${list.more ? "+" : ""}`;
const toggled = (all, one) =>
  all.includes(one) ? all.filter((other) => other !== one) : [...all, one];
const withChosen = (ids, chosen) => (chosen && !ids.includes(chosen) ? [chosen, ...ids] : ids);

function told(list, found, total) {
  const loaded = `${plural(list.rows.length, "run")}${list.more ? " loaded, scroll for older ones" : ""}`;
  if (found) return `${plural(total, "match", "matches")} in ${loaded}`;
  if (list.rows.trimmed || list.rows.length >= LOADED_MOST)
    return `The newest ${count(list.rows.length)} runs; narrow the filter for older ones`;
  return loaded;
}

function nothing(anyFilter, workflows, list, filter) {
  if (anyFilter) {
    const text =
      filter.text && list.more
        ? "Older runs have not been looked at yet."
        : "Another filter may find some.";
    return html`<${Empty} title="No run is like that">${text}<//>`;
  }
  const id = workflows[0] ?? "hello";
  return html`<${Empty} title="No runs yet" command=${`stepflow trigger ${id} '{}' --follow`}>
    Start one from <a href="#/workflows">Workflows</a>, or from a terminal:
  <//>`;
}

/** The rows that fit the words, looked for anew at most a few times a second. */
function useSearch(rows, text) {
  const last = useRef({ text: "", version: -1, at: 0, found: null });
  if (!text) {
    last.current = { text: "", version: -1, at: 0, found: null };
    return null;
  }
  const { current } = last;
  const due = performance.now() - current.at > 400 || rows.length < 5000;
  if (current.text !== text || current.rows !== rows || (current.version !== rows.version && due)) {
    last.current = {
      text,
      rows,
      version: rows.version,
      at: performance.now(),
      found: rows.select(matcher(text)),
    };
  }
  return last.current.found;
}

function useWorkflowIds() {
  const [ids, setIds] = useState([]);
  useEffect(() => {
    api
      .workflows()
      .then(({ workflows }) => setIds(workflows.map((one) => one.id).sort()))
      .catch(() => undefined);
  }, []);
  return ids;
}

/** How many of the loaded runs have each status, and whether there may be more. */
function countsOf(rows, memo) {
  if (memo.rows !== rows || memo.version !== rows.version) {
    const counts = {};
    for (let index = 0; index < rows.length; index += 1) {
      const { status } = rows.at(index);
      counts[status] = (counts[status] ?? 0) + 1;
    }
    Object.assign(memo, { rows, version: rows.version, counts });
  }
  return memo.counts;
}
