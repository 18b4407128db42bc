// `GET /metrics`, Prometheus text, as numbers. PURE.

/** Return the figures by name; those with labels by `name{labels}`, as they are written. */
export function readMetrics(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    if (!line || line[0] === "#") continue;
    const cut = line.lastIndexOf(" ");
    const value = Number(line.slice(cut + 1));
    if (cut > 0 && !Number.isNaN(value)) found.set(line.slice(0, cut), value);
  }
  return found;
}

/** Return the buckets of a histogram as `[upper bound, cumulative count]`, the last without a bound. */
export function bucketsOf(figures, name) {
  const buckets = [];
  for (const [label, value] of figures) {
    const bound = label.startsWith(`${name}_bucket{`) && /le="([^"]+)"/.exec(label)?.[1];
    if (bound) buckets.push([bound === "+Inf" ? Infinity : Number(bound), value]);
  }
  return buckets.sort((a, b) => a[0] - b[0]);
}

/** Return the value below which `part` of what came between two readings is; NaN where nothing came. */
export function quantile(before, after, part) {
  const counts = after.map(([bound, value], n) => [bound, value - (before[n]?.[1] ?? 0)]);
  const whole = counts.at(-1)?.[1] ?? 0;
  if (whole <= 0) return NaN;
  let low = 0;
  let under = 0;
  for (const [bound, count] of counts) {
    if (count >= whole * part) {
      if (bound === Infinity) return low;
      return low + ((bound - low) * (whole * part - under)) / Math.max(1, count - under);
    }
    low = bound;
    under = count;
  }
  return low;
}

/** Keeps the last readings, one a moment; the oldest go. */
export class History {
  #readings = [];

  constructor(most = 300) {
    this.most = most;
  }

  add(at, figures) {
    this.#readings.push({ at, figures });
    if (this.#readings.length > this.most) this.#readings.shift();
  }

  get length() {
    return this.#readings.length;
  }

  get last() {
    return this.#readings.at(-1)?.figures ?? new Map();
  }

  times() {
    return this.#readings.map(({ at }) => at);
  }

  /** A figure's values. */
  values(name) {
    return this.#readings.map(({ figures }) => figures.get(name) ?? null);
  }

  /** How fast a counter rose between each reading and the one before, a second. */
  rates(name) {
    return this.#readings.map(({ at, figures }, n) => {
      const before = this.#readings[n - 1];
      const rise = before && figures.get(name) - before.figures.get(name);
      // A counter that has fallen began anew: the process did.
      return rise >= 0 ? (rise / (at - before.at)) * 1000 : null;
    });
  }

  /** A quantile of a histogram over each stretch of `over` readings. */
  quantiles(name, part, over = 5) {
    return this.#readings.map(({ figures }, n) => {
      const before = this.#readings[Math.max(0, n - over)];
      if (before.figures === figures) return null;
      const value = quantile(bucketsOf(before.figures, name), bucketsOf(figures, name), part);
      return Number.isFinite(value) ? value : null;
    });
  }
}
