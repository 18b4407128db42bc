import assert from "node:assert/strict";
import { test } from "node:test";
import * as metrics from "../../../stepflow/dashboard/static/lib/metrics.js";

const text = (a, b, c, started) => `# HELP x y
# TYPE commit histogram
commit_bucket{le="0.001"} ${a}
commit_bucket{le="0.01"} ${b}
commit_bucket{le="+Inf"} ${c}
started_total ${started}
runs{workflow="a b"} 3
`;

test("figures are read by name and labels", () => {
  const figures = metrics.readMetrics(text(1, 2, 3, 4));
  assert.equal(figures.get('runs{workflow="a b"}'), 3);
  assert.deepEqual(metrics.bucketsOf(figures, "commit"), [
    [0.001, 1],
    [0.01, 2],
    [Infinity, 3],
  ]);
});

test("a quantile is of what came between two readings", () => {
  const [before, after] = [text(100, 100, 100, 0), text(150, 200, 200, 0)].map((one) =>
    metrics.bucketsOf(metrics.readMetrics(one), "commit"),
  );
  assert.equal(metrics.quantile(before, after, 0.5), 0.001);
  assert.ok(Math.abs(metrics.quantile(before, after, 0.75) - 0.0055) < 1e-9);
  assert.ok(Number.isNaN(metrics.quantile(after, after, 0.5)));
});

test("a counter that began anew has no rate, and old readings go", () => {
  const history = new metrics.History(3);
  [5, 10, 20, 2].forEach((started, n) =>
    history.add(n * 1000, metrics.readMetrics(text(0, 0, 0, started))),
  );
  assert.deepEqual(
    history.rates("started_total"),
    [undefined, 10, null].map((one) => one ?? null),
  );
  assert.deepEqual(history.times(), [1000, 2000, 3000]);
  assert.deepEqual(history.values("nothing"), [null, null, null]);
});
