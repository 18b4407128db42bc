// Server-sent events out of text that arrives in pieces. PURE.
//
// A page cannot read the status of an `EventSource` that was refused, nor send a header with one, so
// the dashboard reads streams with `fetch` and takes them apart here, as the HTML standard says.

/** Takes pieces of a stream; gives whole events: `{ event, data, id }`, `id` the last one seen. */
export class EventParser {
  #rest = "";
  #fields = { event: "", data: null };
  #cut = false;
  lastId = "";

  /** Take one piece; return the events that it completes. */
  push(text) {
    const events = [];
    let from = 0;
    const all = this.#rest + text;
    for (let at = 0; at < all.length; at += 1) {
      const char = all[at];
      if (char !== "\n" && char !== "\r") {
        // Most of the text is data: go to its end at once.
        const end = nextBreak(all, at);
        if (end < 0) break;
        at = end - 1;
        continue;
      }
      // A line break of two characters may be cut in two.
      if (char === "\n" && at === from && this.#cut) {
        this.#cut = false;
        from = at + 1;
        continue;
      }
      this.#cut = false;
      this.#line(all.slice(from, at), events);
      if (char === "\r") {
        if (all[at + 1] === "\n") at += 1;
        else if (at + 1 === all.length) this.#cut = true;
      }
      from = at + 1;
    }
    this.#rest = all.slice(from);
    return events;
  }

  #line(line, events) {
    if (!line) {
      const { event, data } = this.#fields;
      if (data !== null) events.push({ event: event || "message", data, id: this.lastId });
      this.#fields = { event: "", data: null };
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (name === "data") {
      const { data } = this.#fields;
      this.#fields.data = data === null ? value : `${data}\n${value}`;
    } else if (name === "event") this.#fields.event = value;
    else if (name === "id" && !value.includes("\0")) this.lastId = value;
  }
}

function nextBreak(text, from) {
  const newline = text.indexOf("\n", from);
  const end = newline < 0 ? text.length : newline;
  const back = text.slice(from, end).indexOf("\r");
  if (back >= 0) return from + back;
  return newline;
}
