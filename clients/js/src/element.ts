// <stepflow-run url="/api/stepflow" run-id="run_…" token="pat_…">: one run, live, on any page.
//
// No HTML is parsed and no style attribute set, so that it works under `require-trusted-types-for
// 'script'` and `style-src 'self'`; what a workflow says is text, whatever it says.

import { fixed } from "./credentials.js";
import { Delivery, type RunCallbacks } from "./delivery.js";
import { Http, segment } from "./http.js";
import type { ConnectionState, Run, RunEvent, Step } from "./types.js";

const CSS = `
:host { display: block; color-scheme: light dark; font: 14px/1.5 system-ui, sans-serif;
  color: light-dark(#1f2328, #e6edf3); background: light-dark(#fff, #0d1117);
  border: 1px solid light-dark(#d1d9e0, #3d444d); border-radius: 8px; padding: 12px 16px }
:host([hidden]) { display: none }
header { display: flex; gap: 8px; align-items: baseline; flex-wrap: wrap }
h3 { margin: 0; font-size: 1em }
ol { list-style: none; margin: 8px 0; padding: 0 }
li { display: flex; gap: 8px; padding: 2px 0; flex-wrap: wrap }
.name { flex: 1; overflow-wrap: anywhere }
.more { color: light-dark(#59636e, #9198a1) }
.completed { color: light-dark(#1a7f37, #3fb950) }
.failed { color: light-dark(#d1242f, #f85149) }
.running { color: light-dark(#0969da, #4493f8) }
pre { margin: 8px 0 0; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 20em; overflow: auto }
progress { width: 100% }
`;
const MARKS: Record<string, string> = { completed: "✓", failed: "✗", cancelled: "⊘", pending: "…", running: "…" };
// On a server there is no such class; the module may be imported there all the same.
const Base = (globalThis as { HTMLElement?: typeof HTMLElement }).HTMLElement ?? (class {} as typeof HTMLElement);

type Progress = Extract<RunEvent, { event: "progress" }>["data"];

export class StepflowRunElement extends Base {
  static readonly observedAttributes = ["url", "run-id", "token"];
  #stop: (() => void) | undefined;
  #due = false;

  connectedCallback(): void {
    if (!this.shadowRoot) {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(CSS);
      this.attachShadow({ mode: "open" }).adoptedStyleSheets = [sheet];
    }
    this.#restart();
  }

  disconnectedCallback(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  attributeChangedCallback(): void {
    if (this.isConnected && this.shadowRoot) this.#restart();
  }

  #restart(): void {
    if (this.#due) return;
    this.#due = true;
    // Attributes that change together are one change.
    queueMicrotask(() => {
      this.#due = false;
      this.disconnectedCallback();
      if (this.isConnected) this.#watch();
    });
  }

  #watch(): void {
    const runId = this.getAttribute("run-id");
    if (!runId) {
      this.#show("No run-id");
      return;
    }
    // Not the whole client: what the page loads is what it needs.
    const http = new Http({
      url: (this.getAttribute("url") ?? "").replace(/\/+$/, ""),
      credentials: fixed(this.getAttribute("token") ?? undefined),
      fetch: (input, init) => fetch(input, init),
      headers: {},
      mode: undefined,
      tries: Number.POSITIVE_INFINITY,
      timeoutMs: 30_000,
    });
    const path = `/runs/${segment(runId)}`;
    let run: Run | undefined;
    let progress: Progress | undefined;
    let state: ConnectionState = "connecting";
    let problem = "";
    const draw = (): void => this.#draw(run, progress, state, problem);
    draw();
    const onConnection = (now: ConnectionState): void => {
      state = now;
      draw();
    };
    const controller = new AbortController();
    const { signal } = controller;
    this.#stop = () => controller.abort();
    const triesMax = Number.POSITIVE_INFINITY;
    const stream = { http, path: `${path}/stream`, ends: true, silenceMs: 45_000, triesMax, signal, onConnection };
    const told = (error: unknown): void => {
      if (!run?.error) problem = error instanceof Error ? error.message : String(error);
      draw();
    };
    const callbacks: RunCallbacks = {
      onUpdate: (now) => {
        run = now;
        draw();
      },
      onEvent: (event) => {
        if (event.event !== "progress") return;
        progress = event.data;
        draw();
      },
      onError: told,
    };
    const read = (): Promise<Run> => http.json<Run>({ method: "GET", path, signal });
    new Delivery(runId, callbacks, read, signal).run(stream).catch((error: unknown) => {
      if (!signal.aborted) told(error);
    });
  }

  #show(...parts: (Node | string)[]): void {
    this.shadowRoot?.replaceChildren(...parts);
  }

  #draw(run: Run | undefined, progress: Progress | undefined, state: ConnectionState, problem: string): void {
    const parts: Node[] = [];
    const status = el("span", run?.status ?? state);
    status.setAttribute("role", "status");
    status.className = run?.status ?? "";
    const header = el("header", el("h3", run?.workflowId ?? "Run"), status);
    if (run?.state && run.state !== run.status) header.append(el("span.more", run.state));
    if (state === "waiting") header.append(el("span.more", "reconnecting…"));
    parts.push(header);
    if (progress && run?.status === "running") {
      const bar = document.createElement("progress");
      if (progress.total) {
        bar.max = progress.total;
        bar.value = progress.done;
      }
      bar.setAttribute("aria-label", progress.message ?? "progress");
      parts.push(bar);
      if (progress.message) parts.push(el("div.more", progress.message));
    }
    const list = el("ol", ...(run?.steps ?? []).map(stepRow));
    list.setAttribute("aria-label", "Steps");
    parts.push(list);
    if (problem) parts.push(alerted(problem));
    if (run?.error) parts.push(alerted(`${run.error.type}: ${run.error.message}`));
    if (run && "result" in run) {
      const result = el("pre", JSON.stringify(run.result, null, 2));
      result.setAttribute("aria-label", "Result");
      result.tabIndex = 0;
      parts.push(result);
    }
    this.#show(...parts);
  }
}

function stepRow(step: Step): HTMLElement {
  const mark = el(`span.${step.status}`, MARKS[step.status] ?? "");
  mark.setAttribute("role", "img");
  mark.setAttribute("aria-label", step.status);
  const row = el("li", mark, el("span.name", step.name));
  if (step.kind !== "step") row.append(el("span.more", step.kind));
  if ((step.attempts ?? 1) > 1) row.append(el("span.more", `attempt ${step.attempts}`));
  if (step.error) row.append(el("span.failed", step.error.message));
  return row;
}

function alerted(text: string): HTMLElement {
  const line = el("div.failed", text);
  line.setAttribute("role", "alert");
  return line;
}

function el(name: string, ...children: (Node | string)[]): HTMLElement {
  const [tag = "", className = ""] = name.split(".");
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

if (globalThis.customElements && !customElements.get("stepflow-run")) {
  customElements.define("stepflow-run", StepflowRunElement);
}
