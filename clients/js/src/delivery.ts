// One run's stream, as callbacks.

import { runFailure } from "./errors.js";
import { finished, fold } from "./fold.js";
import { type Event, type Followed, follow } from "./follow.js";
import type { Run, RunEvent, Step } from "./types.js";

export interface RunCallbacks<Output = unknown> {
  /** Each event, in order, each once. */
  onEvent?(event: RunEvent<Output>): void;
  /** The run as it is now; called once for events that come together. */
  onUpdate?(run: Run<Output>): void;
  /** A step, sleep, wait or child has completed or failed. */
  onStepComplete?(step: Step): void;
  onComplete?(result: Output): void;
  /** `RunFailedError`, `RunCancelledError`, or what ended the subscription before the run. */
  onError?(error: unknown): void;
}

/** Calls back for one stream. */
export class Delivery<Output> {
  readonly #runId: string;
  readonly #callbacks: RunCallbacks<Output>;
  readonly #read: (signal: AbortSignal) => Promise<Run<Output>>;
  readonly #signal: AbortSignal;
  #run: Run<Output> | undefined;

  constructor(
    runId: string,
    callbacks: RunCallbacks<Output>,
    read: (signal: AbortSignal) => Promise<Run<Output>>,
    signal: AbortSignal,
  ) {
    this.#runId = runId;
    this.#callbacks = callbacks;
    this.#read = read;
    this.#signal = signal;
  }

  async run(stream: Followed): Promise<void> {
    const { onUpdate } = this.#callbacks;
    if (onUpdate) {
      this.#run = await this.#read(this.#signal);
      tell(onUpdate, this.#run);
      if (finished(this.#run) && !this.#hasHistory()) return this.#end();
    }
    let ended = false;
    for await (const batch of follow(stream)) {
      if (onUpdate) await this.#update(batch);
      for (const event of batch) ended = this.#one(event as RunEvent<Output>) || ended;
    }
    // Told to stay away (204), or a resync brought the end: the run itself says what became of it.
    if (!ended && !this.#signal.aborted) {
      if (!onUpdate) this.#run = await this.#read(this.#signal);
      this.#end();
    }
  }

  /** Whether anybody wants what came before. */
  #hasHistory(): boolean {
    const { onEvent, onStepComplete } = this.#callbacks;
    return onEvent !== undefined || onStepComplete !== undefined;
  }

  async #update(batch: readonly Event[]): Promise<void> {
    const before = this.#run;
    let stale = false;
    for (const event of batch) {
      const folded = fold(this.#run as Run, event);
      this.#run = folded.run as Run<Output>;
      stale ||= folded.stale;
    }
    // One read for all that came together, however often they ask for it.
    if (stale) this.#run = await this.#read(this.#signal);
    if (this.#run && this.#run !== before) tell(this.#callbacks.onUpdate, this.#run);
  }

  /** Call back for the event; return whether it was the last one. */
  #one(event: RunEvent<Output>): boolean {
    // Who has unsubscribed, in a callback perhaps, hears nothing more.
    if (this.#signal.aborted) return true;
    const { onEvent, onStepComplete, onComplete, onError } = this.#callbacks;
    tell(onEvent, event);
    switch (event.event) {
      case "step":
        tell(onStepComplete, event.data);
        return false;
      case "complete":
        tell(onComplete, event.data.result);
        return true;
      case "error":
        tell(onError, runFailure({ id: this.#runId, ...event.data }));
        return true;
      default:
        return false;
    }
  }

  #end(): void {
    const run = this.#run;
    if (!run || !finished(run)) return;
    if (run.status === "completed") tell(this.#callbacks.onComplete, run.result as Output);
    else tell(this.#callbacks.onError, runFailure(run));
  }
}

/** Call back. What a callback throws is the page's error, as of an event listener: it ends nothing. */
export function tell<T>(callback: ((value: T) => void) | undefined, value: T): void {
  try {
    callback?.(value);
  } catch (error) {
    const { reportError } = globalThis as { reportError?: (error: unknown) => void };
    if (reportError) reportError(error);
    else
      queueMicrotask(() => {
        throw error;
      });
  }
}
