// What has changed between two JSON values, line by line. PURE.

import { pretty } from "./format.js";

const LINES_MOST = 2000;

/** Return the lines of both, each `{ sign: " " | "-" | "+", text }`; nothing where they are equal. */
export function diffOf(before, after) {
  const a = pretty(before).split("\n");
  const b = pretty(after).split("\n");
  if (a.join("\n") === b.join("\n")) return [];
  if (a.length > LINES_MOST || b.length > LINES_MOST) return whole(a, "-").concat(whole(b, "+"));
  // The longest common subsequence, from the end, so that it is read forwards.
  const width = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] =
        a[i] === b[j]
          ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const lines = [];
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) {
      lines.push({ sign: " ", text: a[i] });
      i += 1;
      j += 1;
    } else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) {
      lines.push({ sign: "-", text: a[i] });
      i += 1;
    } else {
      lines.push({ sign: "+", text: b[j] });
      j += 1;
    }
  }
  return lines.concat(whole(a.slice(i), "-"), whole(b.slice(j), "+"));
}

const whole = (lines, sign) => lines.map((text) => ({ sign, text }));
