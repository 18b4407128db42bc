// One run's stream, as callbacks or as an async iterator.

import { Delivery, type RunCallbacks, tell } from "./delivery.js";
import { type Event, type Followed, follow } from "./follow.js";
import { linked } from "./pause.js";
import type { ConnectionState, Run, RunEvent } from "./types.js";

export type { RunCallbacks } from "./delivery.js";

export interface SubscribeOptions {
  /** The run's public access token, instead of the client's own credential. */
  readonly accessToken?: string | undefined;
  /** Go on after this event, from an earlier subscription. */
  readonly lastEventId?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Give up after so many connections in a row that brought no event. */
  readonly triesMax?: number | undefined;
  readonly transport?: "fetch" | "eventsource" | undefined;
  /** How the connection is: what a banner shows. */
  readonly onConnection?: ((state: ConnectionState, why?: unknown) => void) | undefined;
}

/** Call it to unsubscribe. Iterate it for events; with callbacks it runs by itself. */
export interface RunSubscription<Output = unknown> extends AsyncIterable<RunEvent<Output>> {
  (): void;
  readonly unsubscribe: () => void;
  /** Resolves when the run has ended or the subscription was; rejects with what broke it. */
  readonly done: Promise<void>;
}

const CALLBACKS = ["onEvent", "onUpdate", "onStepComplete", "onComplete", "onError"] as const;

/** Return a subscription; `read` gets the whole run. */
export function subscription<Output>(
  runId: string,
  stream: Followed,
  callbacks: RunCallbacks<Output>,
  read: (signal: AbortSignal) => Promise<Run<Output>>,
): RunSubscription<Output> {
  const [controller, cut] = linked(stream.signal);
  const followed = { ...stream, signal: controller.signal };
  const called = CALLBACKS.some((each) => callbacks[each] !== undefined);
  let left = false;
  const unsubscribe = (): void => {
    left = true;
    controller.abort();
  };
  const deliver = async (): Promise<void> => {
    try {
      await new Delivery(runId, callbacks, read, controller.signal).run(followed);
    } catch (error) {
      if (left) return;
      if (!stream.signal?.aborted) tell(callbacks.onError, error);
      throw error;
    } finally {
      cut();
    }
  };
  const done = called ? deliver() : Promise.resolve();
  // Who has callbacks is told by them.
  done.catch(() => undefined);
  return Object.assign(() => unsubscribe(), {
    unsubscribe,
    done,
    [Symbol.asyncIterator]: () => {
      if (called) throw new TypeError("a subscription with callbacks is not iterated: use onEvent");
      return flat<RunEvent<Output>>(followed, controller, () => left, cut);
    },
  });
}

/** Iterate a stream's events one by one; leaving the loop closes the connection. */
export function flat<E>(
  stream: Followed,
  controller: AbortController,
  left: () => boolean = () => false,
  cut: () => void = () => undefined,
): AsyncIterableIterator<E> {
  const events = each(stream);
  const close = async (): Promise<IteratorResult<Event, void>> => {
    // First the abort: a generator that waits for bytes would not hear of the return.
    controller.abort();
    cut();
    return events.return();
  };
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      try {
        const step = await events.next();
        if (step.done) cut();
        return step as IteratorResult<E, void>;
      } catch (error) {
        cut();
        if (left()) return { done: true, value: undefined };
        throw error;
      }
    },
    async return() {
      await close().catch(() => undefined);
      return { done: true, value: undefined };
    },
  };
}

async function* each(stream: Followed): AsyncGenerator<Event, void, void> {
  for await (const batch of follow(stream)) yield* batch;
}
