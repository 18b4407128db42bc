// A stream of server-sent events, as batches of frames: those that `fetch` brought together.
//
// `fetch` can send headers and sees an answer's status and the comment lines that keep a quiet
// stream alive. The other way is eventsource.ts.

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
