// What the other tests wait with: nothing that never comes is waited for without a word.

import assert from "node:assert/strict";
import { test } from "node:test";

import { until, within } from "./kit.js";

const never = (): Promise<never> => new Promise(() => undefined);

test("what never comes is named", async () => {
  await assert.rejects(within("the answer", never(), 5), /never came in 5 ms: the answer/);
  assert.equal(await within("the answer", Promise.resolve(1), 5), 1);
  await assert.rejects(within("the answer", Promise.reject(new Error("its own")), 5), /its own/);
});

test("a condition that stays false, and one that hangs itself, are named", async () => {
  const gates: string[] = [];
  await assert.rejects(
    until(() => gates.includes("go"), 20),
    /gates\.includes\("go"\)/,
  );
  await assert.rejects(until(never, 20), /never came in .*=> new Promise/);
  await until(() => gates.push("x") > 3, 1000);
});
