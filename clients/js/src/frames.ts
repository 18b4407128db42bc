// Two ways to read a stream of server-sent events; both give batches of frames.
//
// `fetch` can send headers and sees an answer's status and the comment lines that keep a quiet
// stream alive. `EventSource` sees neither: its connection is opened again after each error and each
// silence, and a refusal is asked for its reason with a `fetch`.

import { createParser } from "eventsource-parser";

/** One event as it came. */
export interface Frame {
  readonly event: string;
  readonly data: string;
  readonly id: string | undefined;
}

/** What came together: perhaps nothing but a comment. `null`: the connection has ended. */
export interface Batch {
  readonly frames: readonly Frame[];
  readonly retryMs?: number | undefined;
}

/** An open stream. It is read by one reader, and must be closed. */
export interface Reading {
  /** Rejects when the connection breaks. */
  next(): Promise<Batch | null>;
  close(): void;
}

/** The names of events that a stream has; EventSource must be told each. */
export const EVENT_NAMES = ["status", "step", "complete", "error", "emit", "progress", "resync", "expired"] as const;

/** Read an answer's body. */
export function readBody(body: ReadableStream<Uint8Array>): Reading {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let frames: Frame[] = [];
  let retryMs: number | undefined;
  const parser = createParser({
    onEvent: ({ event, data, id }) => {
      frames.push({ event: event ?? "message", data, id });
    },
    onRetry: (ms) => {
      retryMs = ms;
    },
  });
  return {
    async next() {
      const { done, value } = await reader.read();
      if (done) return null;
      parser.feed(decoder.decode(value, { stream: true }));
      const batch = { frames, retryMs };
      frames = [];
      retryMs = undefined;
      return batch;
    },
    close() {
      reader.cancel().catch(() => undefined);
    },
  };
}

/** An EventSource that has failed; `refused`: by an answer, which only `fetch` can read. */
export class EventSourceLost extends Error {
  readonly refused: boolean;

  constructor(refused: boolean) {
    super(refused ? "EventSource was refused" : "EventSource lost its connection");
    this.refused = refused;
  }
}

/** As much as a page may be behind before its EventSource is closed, to be resumed when read. */
const QUEUED_MAX = 10_000;

type EventSourceClass = new (url: string, init?: EventSourceInit) => EventSource;

/** Open an `EventSource`; resolves when it is open. */
export function openEventSource(
  make: EventSourceClass,
  url: string,
  init: EventSourceInit,
  signal: AbortSignal,
): Promise<Reading> {
  return new Promise((opened, refused) => {
    const source = new make(url, init);
    let queue: Frame[] = [];
    let over: Error | null | undefined;
    let wake: (() => void) | undefined;
    const end = (why: Error | null): void => {
      source.close();
      signal.removeEventListener("abort", aborted);
      over ??= why;
      refused(why);
      wake?.();
    };
    const aborted = (): void => end(signal.reason as Error);
    if (signal.aborted) return aborted();
    signal.addEventListener("abort", aborted, { once: true });
    let last = "";
    const told = (event: MessageEvent<string>): void => {
      // EventSource repeats the last id on events that have none; a journaled event never does.
      const id = event.lastEventId === last ? undefined : event.lastEventId;
      last = event.lastEventId;
      queue.push({ event: event.type, data: event.data, id });
      // What is not taken here is taken after the reconnect: the server keeps it.
      if (queue.length >= QUEUED_MAX) end(null);
      else wake?.();
    };
    for (const name of EVENT_NAMES) {
      if (name !== "error") source.addEventListener(name, told as EventListener);
    }
    source.addEventListener("error", (event) => {
      // The run's own event and a broken connection share a name: only the first has data.
      if ((event as MessageEvent).data !== undefined) told(event as MessageEvent<string>);
      else end(new EventSourceLost(source.readyState === 2));
    });
    source.addEventListener("open", () =>
      opened({
        async next() {
          while (queue.length === 0) {
            if (over === null) return null;
            if (over) throw over;
            await new Promise<void>((resolve) => (wake = resolve));
          }
          const frames = queue;
          queue = [];
          return { frames };
        },
        close: () => end(null),
      }),
    );
  });
}
