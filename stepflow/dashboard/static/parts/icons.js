// Small pictures, drawn as paths; what they mean is always written as well.
import { html } from "../html.js";

const PATHS = {
  step: "M4 3h8v4H4zM8 7v6M5.5 10.5 8 13l2.5-2.5",
  sleep: "M12.5 9.5A5 5 0 0 1 6.5 3.500a5 5 0 1 0 6 6z",
  event:
    "M8 2.500a3.500 3.500 0 0 1 3.500 3.500c0 3.500 1.500 4.500 1.500 4.500H3s1.500-1 1.500-4.500A3.500 3.500 0 0 1 8 2.500zM6.800 13h2.400",
  child: "M4 3v5a2 2 0 0 0 2 2h6M9.500 7.500 12 10l-2.500 2.500",
  notify: "M2.500 8 13.500 3l-3 10-3-4zM7.500 9l6-6",
  copy: "M5.500 5.500h7v7h-7zM3.500 10.500v-7h7",
  completed: "M3.500 8.500l3 3 6-7",
  failed: "M4 4l8 8M12 4l-8 8",
  cancelled: "M3 8a5 5 0 1 0 10 0 5 5 0 1 0-10 0M4.600 4.600l6.800 6.800",
  pending: "M8 3.500V8l3 2M2.500 8a5.500 5.500 0 1 0 11 0 5.500 5.500 0 1 0-11 0",
  close: "M4 4l8 8M12 4l-8 8",
  search: "M2.500 7a4.500 4.500 0 1 0 9 0 4.500 4.500 0 1 0-9 0M10.500 10.500 14 14",
  sun: "M8 1.500v1.500M8 13v1.500M1.500 8H3M13 8h1.500M3.400 3.400l1 1M11.600 11.600l1 1M3.400 12.600l1-1M11.600 4.400l1-1M5 8a3 3 0 1 0 6 0 3 3 0 1 0-6 0",
  moon: "M12.500 9.500A5 5 0 0 1 6.500 3.500a5 5 0 1 0 6 6z",
  auto: "M8 2.500a5.500 5.500 0 0 1 0 11zM2.500 8a5.500 5.500 0 1 0 11 0 5.500 5.500 0 1 0-11 0",
  plus: "M8 3v10M3 8h10",
  out: "M6 3H3v10h3M7 8h6M10.500 5.500 13 8l-2.500 2.500",
  up: "M8 13V3M4 7l4-4 4 4",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
    <path d=${PATHS[name]} />
  </svg>`;
}
