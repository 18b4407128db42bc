import assert from "node:assert/strict";
import { test } from "node:test";
import { curlOf } from "../../../stepflow/dashboard/static/lib/curl.js";
import { diffOf } from "../../../stepflow/dashboard/static/lib/diff.js";
import { hashOf, parseHash } from "../../../stepflow/dashboard/static/lib/routes.js";
import { draftOf, fieldOf, valueOf } from "../../../stepflow/dashboard/static/lib/schema.js";

const ORDER = {
  $ref: "#/$defs/Order",
  $defs: {
    Order: {
      type: "object",
      properties: {
        id: { type: "string", minLength: 2 },
        items: { type: "array", items: { type: "string" } },
        amount: { type: "integer", minimum: 1 },
        gift: { type: "boolean", default: false },
        note: { anyOf: [{ type: "string" }, { type: "null" }], default: null },
        size: { enum: ["s", "m", 3] },
        to: { $ref: "#/$defs/Address" },
        extra: {},
      },
      required: ["id", "items", "amount", "to"],
    },
    Address: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

test("a schema is a form, and the form gives the value", () => {
  const field = fieldOf(ORDER);
  assert.deepEqual(
    field.fields.map((part) => [part.name, part.kind, part.required]),
    [
      ["id", "text", true],
      ["items", "list", true],
      ["amount", "number", true],
      ["gift", "flag", false],
      ["note", "text", false],
      ["size", "choice", false],
      ["to", "object", true],
      ["extra", "json", false],
    ],
  );
  const draft = {
    ...draftOf(field),
    id: "o-1",
    items: ["tea"],
    amount: "12",
    to: { city: "Oslo" },
    size: "3",
  };
  const { value, errors } = valueOf(field, draft);
  assert.equal(errors.size, 0);
  assert.deepEqual(value, {
    id: "o-1",
    items: ["tea"],
    amount: 12,
    gift: false,
    size: 3,
    to: { city: "Oslo" },
  });
});

test("what is wrong is said at its field", () => {
  const field = fieldOf(ORDER);
  const { errors } = valueOf(field, { ...draftOf(field), id: "x", amount: "1.5", extra: "{" });
  assert.deepEqual([...errors.keys()], ["id", "amount", "extra"]);
  assert.equal(errors.get("amount"), "A whole number is needed.");
  assert.equal(
    valueOf(field, { ...draftOf(field), id: "xx", amount: "99999999999999999" }).errors.has(
      "amount",
    ),
    true,
  );
});

test("a value fills the form, and comes out of it as it was", () => {
  const field = fieldOf(ORDER);
  const value = {
    id: "o-1",
    items: ["a", "b"],
    amount: 3,
    gift: true,
    note: "n",
    size: "m",
    to: { city: "c" },
    extra: { deep: [1] },
  };
  assert.deepEqual(valueOf(field, draftOf(field, value)).value, value);
});

test("what no field can show is raw JSON, whatever the schema is", () => {
  const kinds = [
    {},
    true,
    { type: ["string", "integer"] },
    { anyOf: [{ type: "string" }, { type: "integer" }] },
    { type: "object" },
    { $ref: "#/$defs/none" },
    { $ref: "https://elsewhere/x" },
    { $ref: "#/$defs/loop", $defs: { loop: { $ref: "#/$defs/loop" } } },
  ];
  assert.deepEqual(
    kinds.map((schema) => fieldOf(schema).kind),
    kinds.map(() => "json"),
  );
  assert.deepEqual(valueOf(fieldOf({}), '{"a":1}').value, { a: 1 });
});

test("a schema that holds itself ends in raw JSON", () => {
  const tree = {
    $ref: "#/$defs/Tree",
    $defs: { Tree: { type: "object", properties: { child: { $ref: "#/$defs/Tree" } } } },
  };
  assert.doesNotThrow(() => draftOf(fieldOf(tree)));
});

test("names that mean something to the language are names", () => {
  const field = fieldOf({
    type: "object",
    properties: JSON.parse('{"__proto__":{"type":"string"},"constructor":{"type":"string"}}'),
  });
  const draft = JSON.parse('{"__proto__":"a","constructor":"b"}');
  assert.equal(JSON.stringify(valueOf(field, draft).value), '{"__proto__":"a","constructor":"b"}');
});

test("the difference of two values is by line", () => {
  assert.deepEqual(diffOf({ a: 1, b: 2 }, { a: 1, b: 3 }), [
    { sign: " ", text: "{" },
    { sign: " ", text: '  "a": 1,' },
    { sign: "-", text: '  "b": 2' },
    { sign: "+", text: '  "b": 3' },
    { sign: " ", text: "}" },
  ]);
  assert.deepEqual(diffOf([1], [1]), []);
  const long = Array.from({ length: 5000 }, (_, n) => n);
  assert.equal(diffOf(long, [...long, 1]).length, 5002 + 5003);
});

test("a line for the shell holds whatever the values are, and no key", () => {
  const line = curlOf({ method: "POST", url: "http://h/trigger/it's", body: { a: "$(rm) 'x'" } });
  assert.equal(
    line,
    `curl -sf -X POST 'http://h/trigger/it'\\''s' -H "X-API-Key: $STEPFLOW_API_KEY" -H 'Content-Type: application/json' -d '{"a":"$(rm) '\\''x'\\''"}'`,
  );
});

test("addresses of pages go out and come back", () => {
  const hash = hashOf("workflows", "a/b?c#d", { q: "x y", status: "" });
  const { page, id, query } = parseHash(hash);
  assert.deepEqual(
    [page, id, query.get("q"), query.has("status")],
    ["workflows", "a/b?c#d", "x y", false],
  );
  assert.equal(parseHash("#/nowhere/x").page, "runs");
  assert.equal(parseHash("").page, "runs");
  assert.equal(parseHash("#/runs/%E0%A4%A").id, "%E0%A4%A");
});
