// The parser of server-sent events, as small as can be: what `eventsource-parser` does of what we ask
// of it, without its fast ways. The element's one file has it in the other's place (tools/build.mjs),
// and tests/lines.test.ts holds the two to the same events.

export interface Parsed {
  readonly event?: string | undefined;
  readonly data: string;
  readonly id?: string | undefined;
}

export function createParser(told: { onEvent(event: Parsed): void; onRetry?(ms: number): void }): {
  feed(text: string): void;
} {
  let rest = "";
  let data: string[] = [];
  let event: string | undefined;
  let id: string | undefined;
  const line = (text: string): void => {
    if (text === "") {
      if (data.length > 0) told.onEvent({ event, data: data.join("\n"), id });
      data = [];
      event = id = undefined;
      return;
    }
    const [, name, value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(text) ?? [];
    if (name === "data") data.push(value);
    else if (name === "event") event = value || undefined;
    else if (name === "id" && !value.includes("\0")) id = value;
    else if (name === "retry" && /^\d+$/.test(value)) told.onRetry?.(Number(value));
  };
  return {
    feed(text) {
      // A carriage return at the end may be half of a line's end.
      const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? "";
      lines.forEach(line);
    },
  };
}
