// `useRun`: a component that shows one run, live.

import { useMemo, useSyncExternalStore } from "react";

import type { RunRef, StepflowClient } from "./client.js";
import type { ConnectionState, Run } from "./types.js";

export interface UseRunOptions {
  /** One client for the page, made outside of components. */
  readonly client: Pick<StepflowClient, "subscribeToRun">;
  readonly accessToken?: string | undefined;
}

export interface RunState<Output = unknown> {
  /** The run as it is now; `undefined` until it was read. */
  readonly run: Run<Output> | undefined;
  /** What ended the subscription, or the run: `RunFailedError`, `RunCancelledError`, a refusal. */
  readonly error: unknown;
  readonly connection: ConnectionState;
}

const NOTHING: RunState<never> = { run: undefined, error: undefined, connection: "connecting" };

/** Show the run, live; `null` shows none. */
export function useRun<Output = unknown>(
  run: RunRef<Output> | null | undefined,
  { client, accessToken }: UseRunOptions,
): RunState<Output> {
  const runId = run == null || typeof run === "string" ? run : run.runId;
  const token = accessToken ?? (run == null || typeof run === "string" ? undefined : run.publicAccessToken);
  // One store for one run: another run's state is never shown under this one's name.
  const store = useMemo(() => new Store<Output>(client, runId, token), [client, runId, token]);
  return useSyncExternalStore(store.subscribe, store.state, () => NOTHING);
}

class Store<Output> {
  readonly #client: UseRunOptions["client"];
  readonly #runId: string | null | undefined;
  readonly #accessToken: string | undefined;
  readonly #listeners = new Set<() => void>();
  #state: RunState<Output> = NOTHING;
  #stop: (() => void) | undefined;

  constructor(client: UseRunOptions["client"], runId: string | null | undefined, token: string | undefined) {
    this.#client = client;
    this.#runId = runId;
    this.#accessToken = token;
  }

  readonly state = (): RunState<Output> => this.#state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    this.#open();
    return () => {
      this.#listeners.delete(listener);
      // Strict mode leaves and comes back at once: that is no reason to connect twice.
      queueMicrotask(() => {
        if (this.#listeners.size > 0) return;
        this.#stop?.();
        this.#stop = undefined;
      });
    };
  };

  #open(): void {
    if (this.#stop || this.#runId == null) return;
    this.#stop = this.#client.subscribeToRun<Output>(this.#runId, {
      accessToken: this.#accessToken,
      triesMax: Number.POSITIVE_INFINITY,
      onUpdate: (run) => this.#set({ run }),
      onError: (error) => this.#set({ error }),
      onConnection: (connection) => this.#set({ connection }),
    });
  }

  #set(change: Partial<RunState<Output>>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener();
  }
}
