// A list of which only what is in sight is drawn, however long it is.
import { html } from "../html.js";
import { revealing, windowOf } from "../lib/windowing.js";
import { useEffect, useLayoutEffect, useRef, useState } from "../vendor/hooks.js";

/**
 * `draw(index, { selected })` gives a row, `keyOf(index)` its key. `selected` is drawn wherever the list
 * is scrolled to, so that the focus stays in it. `heads` counts the rows that came in at the top: a list
 * that is scrolled down does not move under the reader. `onNear` is called near the end.
 */
export function LongList({
  total,
  row,
  draw,
  keyOf,
  label,
  columns,
  selected = -1,
  heads = 0,
  onNear,
  onTop,
  fit = false,
  head,
  handle,
}) {
  const ref = useRef(null);
  const [at, setAt] = useState({ top: 0, viewport: 600 });
  const before = useRef({ heads, total });

  useLayoutEffect(() => {
    const box = ref.current;
    const measure = () =>
      setAt((now) =>
        now.top === box.scrollTop && now.viewport === box.clientHeight
          ? now
          : { top: box.scrollTop, viewport: box.clientHeight },
      );
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(box);
    let asked = 0;
    const scrolled = () => {
      asked ||= requestAnimationFrame(() => {
        asked = 0;
        measure();
      });
    };
    box.addEventListener("scroll", scrolled, { passive: true });
    return () => {
      watch.disconnect();
      box.removeEventListener("scroll", scrolled);
      cancelAnimationFrame(asked);
    };
  }, []);

  useLayoutEffect(() => {
    const grown = heads - before.current.heads;
    const box = ref.current;
    if (grown > 0 && box.scrollTop > row / 2) {
      box.scrollTop += grown * row;
      setAt({ top: box.scrollTop, viewport: box.clientHeight });
    }
    before.current = { heads, total };
  }, [heads]);

  if (handle) {
    handle.reveal = (index) => {
      const box = ref.current;
      if (box)
        box.scrollTop = revealing({
          index,
          top: box.scrollTop,
          viewport: box.clientHeight - (head ? row : 0),
          row,
        });
    };
    handle.toTop = () => ref.current && (ref.current.scrollTop = 0);
    handle.page = () => Math.max(1, Math.floor(at.viewport / row) - 2);
    handle.focus = (key) => {
      for (const link of ref.current?.querySelectorAll("[data-key]") ?? [])
        if (link.dataset.key === key) link.focus({ preventScroll: true });
    };
  }

  const { first, last, height } = windowOf({ ...at, row, total });
  useEffect(() => {
    if (onNear && last > total - 40) onNear();
    if (onTop) onTop(at.top < row);
  }, [last, total, at.top < row]);

  const drawn = [];
  const place = (index) =>
    html`<div
      key=${keyOf(index)}
      class="long-row"
      role="row"
      aria-rowindex=${index + 2}
      style=${{ transform: `translateY(${index * row}px)`, height: `${row}px` }}
    >
      ${draw(index, index === selected)}
    </div>`;
  if (selected >= 0 && selected < first && selected < total) drawn.push(place(selected));
  for (let index = first; index < last; index += 1) drawn.push(place(index));
  if (selected >= last && selected < total) drawn.push(place(selected));

  return html`<div
    class="long ${fit ? "fit" : ""}"
    ref=${ref}
    role="table"
    aria-label=${label}
    aria-rowcount=${total + 1}
    aria-colcount=${columns}
    tabindex="0"
  >
    ${head && html`<div role="rowgroup" class="long-head"><div role="row" aria-rowindex="1">${head}</div></div>`}
    <div role="rowgroup" class="long-body" style=${{ height: `${height}px` }}>${drawn}</div>
  </div>`;
}
