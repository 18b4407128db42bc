// Which rows of a long list are drawn. PURE.

/**
 * Return the rows that a viewport shows and a few beyond, as `{ first, last, height }`: `last` is
 * one past the last row, `height` that of the whole list in pixels.
 */
export function windowOf({ top, viewport, row, total, beyond = 8 }) {
  const height = total * row;
  const start = Math.min(Math.max(0, top), Math.max(0, height - viewport));
  const first = Math.max(0, Math.floor(start / row) - beyond);
  const last = Math.min(total, Math.ceil((start + viewport) / row) + beyond);
  return { first, last, height };
}

/** Return the scroll position nearest to `top` at which row `index` is wholly seen. */
export function revealing({ index, top, viewport, row }) {
  if (index * row < top) return index * row;
  return Math.max(top, (index + 1) * row - viewport);
}
