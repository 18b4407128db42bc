// Waiting, so that an abort ends it, and a page that wakes up does not sit it out.

/** Resolve after so many milliseconds; reject with the signal's reason when it is aborted. */
export function pause(ms: number, signal: AbortSignal | undefined, wakes = false): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const done = (): void => {
      clearTimeout(timer);
      stop?.();
      signal?.removeEventListener("abort", aborted);
      resolve();
    };
    const aborted = (): void => {
      clearTimeout(timer);
      stop?.();
      reject(signal?.reason);
    };
    const timer = setTimeout(done, ms);
    const stop = wakes ? onWake(done) : undefined;
    signal?.addEventListener("abort", aborted, { once: true });
  });
}

/** Call back when the network is there again or the page is looked at again; return what stops it. */
export function onWake(callback: () => void): () => void {
  // In a worker or a server there are no such events, and this does nothing.
  const page = (globalThis as { document?: Document }).document;
  const target = globalThis as unknown as Partial<EventTarget>;
  const seen = (): void => {
    if (page?.visibilityState === "visible") callback();
  };
  page?.addEventListener("visibilitychange", seen);
  target.addEventListener?.("online", callback);
  return () => {
    page?.removeEventListener("visibilitychange", seen);
    target.removeEventListener?.("online", callback);
  };
}

/** Return the wait after so many failures in a row: doubled, bounded, the upper half by chance. */
export function backoffMs(failures: number, initialMs: number, maxMs: number): number {
  const whole = Math.min(maxMs, initialMs * 2 ** Math.min(failures - 1, 32));
  return whole * (0.5 + Math.random() / 2);
}

/** Return a controller that is aborted with `outer`, and what cuts it loose from it. */
export function linked(outer: AbortSignal | undefined): [AbortController, () => void] {
  // AbortSignal.any is not in every runtime yet.
  const controller = new AbortController();
  if (outer === undefined) return [controller, () => undefined];
  const abort = (): void => controller.abort(outer.reason);
  if (outer.aborted) abort();
  else outer.addEventListener("abort", abort, { once: true });
  return [controller, () => outer.removeEventListener("abort", abort)];
}
