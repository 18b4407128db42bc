// A stream read by an `EventSource`, as batches of frames. A module of its own: who does not ask for
// it need not load it.
//
// It sees neither an answer's status nor the comment lines that keep a quiet stream alive: its
// connection is opened again after each error and each silence, and a refusal is asked for its
// reason with a `fetch`.

import { UnavailableError } from "./errors.js";
import type { Opening } from "./follow.js";
import type { Frame, Reading } from "./frames.js";
import { name } from "./http.js";

/** The names of events that a stream has; EventSource must be told each. */
export const EVENT_NAMES = ["status", "step", "complete", "error", "emit", "progress", "resync", "expired"] as const;

type EventSourceClass = new (url: string, init?: EventSourceInit) => EventSource;

/** Return a way to open a stream by that class. */
export function byEventSource(make: EventSourceClass): (opening: Opening) => Promise<Reading | null> {
  return async ({ http, call, credential, lastEventId, signal, fetched }) => {
    if (credential.header) {
      throw new TypeError("EventSource can send no header: give a token that begins with pat_");
    }
    const query = { ...call.query, lastEventId: lastEventId || undefined };
    const url = http.urlOf({ path: call.path, query }, credential);
    const withCredentials = http.options.mode === "include";
    try {
      return await openEventSource(make, url, { withCredentials }, signal, name(call));
    } catch (error) {
      if (!(error instanceof EventSourceLost) || !error.refused) throw error;
      // A page cannot read why: the same request says it.
      const asked = { ...call, query, headers: { Accept: "text/event-stream" } };
      const reading = await fetched(await http.send(asked, credential, signal));
      reading?.close();
      if (reading === null) return null;
      throw error;
    }
  };
}

/** An EventSource that has failed; `refused`: by an answer, which only `fetch` can read. */
class EventSourceLost extends UnavailableError {
  readonly refused: boolean;

  constructor(call: string, refused: boolean) {
    super(`${call}: EventSource ${refused ? "was refused" : "lost its connection"}`, "UNAVAILABLE", 0);
    this.refused = refused;
  }
}

/** As much as a page may be behind before its EventSource is closed, to be resumed when read. */
const QUEUED_MAX = 10_000;

/** Open an `EventSource`; resolves when it is open. */
function openEventSource(
  make: EventSourceClass,
  url: string,
  init: EventSourceInit,
  signal: AbortSignal,
  call: string,
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
      else end(new EventSourceLost(call, source.readyState === 2));
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
