// A small chart over time, with uPlot; its colours are those of the page.
import { html } from "../html.js";
import { useEffect, useRef } from "../vendor/hooks.js";
import uPlot from "../vendor/uplot.js";
import { stamp } from "../lib/format.js";
import { theme, zone } from "./prefs.js";
import { useStore } from "./store.js";

// A custom property keeps its `light-dark()`; only a real one says which of the two it is.
function colour(box, name) {
  const probe = document.createElement("i");
  probe.className = `c-${name}`;
  box.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** `times` in milliseconds; `lines`: `[{ label, values, colour, fill, points, bars }]`; `unit` formats values. */
export function Chart({ label, times, lines, unit, height = 150, said, span = undefined }) {
  const box = useRef(null);
  const plot = useRef(null);
  const look = useStore(theme);
  const where = useStore(zone);
  const ends = useRef([0, 1]);
  const [from, to] = span ?? [times[0], times.at(-1)];
  ends.current = [from / 1000, Math.max(to, from + 1000) / 1000];
  const shape = lines.map((one) => one.label).join("|");
  const data = [times.map((ms) => ms / 1000), ...lines.map((one) => one.values)];

  useEffect(() => {
    // Drawn for as long as this place is there; the reference to it goes a moment earlier.
    const place = box.current;
    if (!place) return undefined;
    const draw = () => {
      plot.current?.destroy();
      const dim = colour(place, "dim");
      const grid = { stroke: colour(place, "line"), width: 1 };
      const font = `11px ${getComputedStyle(place).fontFamily}`;
      const axis = { stroke: dim, grid, ticks: { show: false }, font };
      const options = {
        width: Math.max(120, place.clientWidth),
        height,
        padding: [8, 6, 0, 0],
        legend: { show: false },
        cursor: { show: false },
        scales: {
          x: { time: true, range: () => ends.current },
          y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] },
        },
        axes: [
          {
            ...axis,
            grid: { show: false },
            space: 80,
            size: 24,
            values: (_, splits) => splits.map((at) => stamp(at * 1000, where, "time").slice(0, 8)),
          },
          { ...axis, size: 62, space: 32, values: (_, splits) => splits.map(unit) },
        ],
        series: [
          {},
          ...lines.map((one) => {
            const stroke = colour(place, one.colour ?? "accent");
            return {
              label: one.label,
              stroke,
              width: one.points ? 0 : 1.5,
              fill: one.fill ? stroke.replace("rgb(", "rgba(").replace(")", ", 0.12)") : undefined,
              points: { show: Boolean(one.points), size: 5, fill: stroke },
              paths: one.points
                ? () => null
                : one.bars
                  ? uPlot.paths.bars({ size: [0.8, 40] })
                  : undefined,
            };
          }),
        ],
      };
      plot.current = new uPlot(options, data, place);
    };
    draw();
    const watch = new ResizeObserver(() =>
      plot.current?.setSize({ width: Math.max(120, place.clientWidth), height }),
    );
    watch.observe(place);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    return () => {
      watch.disconnect();
      dark.removeEventListener("change", draw);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape, look, where, height]);
  useEffect(() => plot.current?.setData(data), [times, times.length, times.at(-1)]);

  return html`<figure class="chart" role="group" aria-label=${label}>
    <figcaption><span>${label}</span><b>${said}</b></figcaption>
    <div class="plot" ref=${box} role="img" aria-label=${`${label}: ${said}`}></div>
  </figure>`;
}
