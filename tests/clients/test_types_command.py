"""`stepflow types`: what it writes holds `client.trigger(…)` to the workflows, by tsc."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from stepflow.cli.main import main
from stepflow.cli.typescript import TypeScript

if TYPE_CHECKING:
    from click.testing import Result

PACKAGE = Path(__file__).parents[2] / "clients" / "js"

SHOP = '''
from __future__ import annotations
import datetime, enum
from dataclasses import dataclass, field
from typing import Any, Literal
import msgspec
import pydantic
from stepflow import Context, Stepflow

flow = Stepflow()

class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"

@dataclass
class Item:
    """A thing, sold */ by the piece."""
    sku: str
    count: int = 1

class Card(msgspec.Struct, tag="card"):
    number: str

class Cash(msgspec.Struct, tag="cash"):
    eur: float

@dataclass
class Note:
    text: str
    by: str | None = None

@dataclass
class Tree:
    name: str
    kids: list[Tree] = field(default_factory=list)

@dataclass
class Order:
    id: str
    items: list[Item]
    pay: Card | Cash
    when: datetime.datetime
    colour: Colour
    at: tuple[float, float]
    prices: dict[str, float]
    tree: Tree
    speed: Literal["fast", "slow"] | None = None

class Receipt(pydantic.BaseModel):
    paid: str
    notes: list[Note] = []

@flow.workflow()
async def checkout(ctx: Context, order: Order) -> Receipt:
    """Sell."""
    raise NotImplementedError

@flow.workflow("send-mail")
async def send(ctx: Context, to: list[str]) -> None: ...

@flow.workflow()
async def sweep(ctx: Context) -> int:
    return 1

@flow.workflow()
async def report(ctx: Context, days: int = 7) -> dict[str, Any]:
    return {}

@flow.workflow()
async def free(ctx: Context, what):
    return what

def other():
    @dataclass
    class Item:
        weight: float
    @flow.workflow()
    async def ship(ctx: Context, item: Item) -> Item:
        return item
other()
'''

TSCONFIG = """{"compilerOptions": {
  "strict": true, "exactOptionalPropertyTypes": true, "noUncheckedIndexedAccess": true,
  "target": "ES2022", "module": "NodeNext", "lib": ["ES2022", "DOM"], "types": [], "noEmit": true
}, "include": ["*.ts"]}"""

USE = """
import { createClient } from "@stepflow/client";
import type { Workflows } from "./workflows.js";

const client = createClient<Workflows>({ url: "http://127.0.0.1:8000" });
const order = {
  id: "1042",
  items: [{ sku: "a" }, { sku: "b", count: 2 }],
  pay: { type: "card" as const, number: "4242" },
  when: "2026-01-01T00:00:00Z",
  colour: "red" as const,
  at: [1, 2] as [number, number],
  prices: { a: 1.5 },
  tree: { name: "root", kids: [{ name: "leaf", kids: [] }] },
};

export async function right(): Promise<string> {
  type Item = import("./workflows.js").Item;
  type Item2 = import("./workflows.js").Item2;
  const run = await client.trigger("checkout", order);
  const receipt = await client.result(run);
  const told: string | undefined = receipt.notes?.[0]?.text;
  await client.trigger("checkout", { ...order, pay: { type: "cash", eur: 3 }, speed: null });
  await client.trigger("send-mail", ["ada@example.org"]);
  const nothing: null = await client.result(await client.trigger("send-mail", []));
  const count: number = await client.result(await client.trigger("sweep"));
  await client.trigger("report");
  await client.trigger("report", 14);
  await client.trigger("free", { any: ["thing"] });
  const shipped: Item2 = await client.result(await client.trigger("ship", { weight: 2 }));
  const item: Item = { sku: "c" };
  return `${receipt.paid} ${told} ${nothing} ${count} ${shipped.weight} ${item.sku}`;
}
"""

WRONG = {
    "an id that is none": 'await client.trigger("chekout", order);',
    "no input": 'await client.trigger("checkout");',
    "a field missing": 'const { id, ...rest } = order; await client.trigger("checkout", rest);',
    "a field misspelt": 'await client.trigger("checkout", { ...order, sped: "fast" });',
    "a field of another type": 'await client.trigger("checkout", { ...order, id: 1042 });',
    "a value out of an enum": 'await client.trigger("checkout", { ...order, colour: "g" });',
    "a union's other half": 'await client.trigger("checkout", { ...order, pay: {type: "cash"} });',
    "a tuple too short": 'await client.trigger("checkout", { ...order, at: [1] });',
    "deep in a tree": 'await client.trigger("checkout", {...order, tree: {name: "a", kids: [1]}});',
    "an input where none is taken": 'await client.trigger("sweep", 3);',
    "the wrong default": 'await client.trigger("report", "a week");',
    "an output's field": '(await client.result(await client.trigger("checkout", order))).price;',
    "one in a batch": 'await client.triggerBatch("send-mail", [["a"], "b"]);',
}


def types(cwd: Path, *words: str) -> Result:
    (cwd / "shop_of_types.py").write_text(SHOP)
    return CliRunner().invoke(main, ["types", str(cwd / "shop_of_types.py"), *words])


@pytest.mark.tool("node")
@pytest.mark.xdist_group("js-client")
@pytest.mark.timeout(300)
def test_tsc_takes_the_right_use_and_refuses_each_wrong_one(tmp_path: Path) -> None:
    if not (PACKAGE / "node_modules").is_dir():
        pytest.skip("no node_modules in clients/js: make node-deps")
    subprocess.run(["node", "tools/build.mjs"], cwd=PACKAGE, check=True, capture_output=True)
    done = types(tmp_path, "--out", str(tmp_path / "workflows.ts"))
    assert done.exit_code == 0, done.output
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "use.ts").write_text(USE)
    head = USE.partition("export async")[0]
    for number, wrong in enumerate(WRONG.values()):
        (tmp_path / f"wrong{number}.ts").write_text(f"{head}\n// WRONG\n{wrong}\n")
    scope = tmp_path / "node_modules" / "@stepflow"
    scope.mkdir(parents=True)
    (scope / "client").symlink_to(PACKAGE)
    (tmp_path / "tsconfig.json").write_text(TSCONFIG)
    tsc = PACKAGE / "node_modules" / "typescript" / "bin" / "tsc"
    done = subprocess.run(
        ["node", str(tsc), "-p", "."], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    # A place is `wrong3.ts(18,`: the one line that is wrong, and no other.
    refused = {line.partition(",")[0] for line in done.stdout.splitlines() if "error TS" in line}
    at = head.count("\n") + 3
    assert refused == {f"wrong{number}.ts({at}" for number in range(len(WRONG))}, done.stdout


def test_it_prints_where_no_file_is_named_and_finds_a_stale_one(tmp_path: Path) -> None:
    out = tmp_path / "workflows.ts"
    assert types(tmp_path, "--out", str(out), "--check").exit_code == 1
    printed = types(tmp_path).output
    assert "export interface Workflows {" in printed
    types(tmp_path, "--out", str(out))
    assert out.read_text() == printed
    assert types(tmp_path, "--out", str(out), "--check").exit_code == 0
    out.write_text(printed + "// mine\n")
    stale = types(tmp_path, "--out", str(out), "--check")
    assert (stale.exit_code, "is stale" in stale.output) == (1, True)
    assert out.read_text().endswith("// mine\n")
    assert types(tmp_path, "--check").exit_code == 2
    refused = types(tmp_path, "--out", str(tmp_path / "none" / "workflows.ts"))
    assert (refused.exit_code, "cannot write" in refused.output) == (1, True)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({}, "unknown"),
        (True, "unknown"),
        (False, "never"),
        ({"type": "array"}, "unknown[]"),
        ({"type": "array", "items": {"type": ["string", "null"]}}, "(string | null)[]"),
        ({"type": "object"}, "{ [key: string]: unknown }"),
        ({"type": "object", "additionalProperties": False}, "{ [key: string]: never }"),
        ({"const": 'a"b'}, '"a\\"b"'),
        ({"enum": []}, "never"),
        ({"anyOf": [{"type": "string"}, {}]}, "unknown"),
        ({"allOf": [{"type": "string"}, {"enum": ["a", "b"]}]}, 'string & ("a" | "b")'),
        ({"type": "array", "prefixItems": [{"type": "null"}]}, "[null?, ...unknown[]]"),
        ({"$ref": "https://example.org/schema"}, "unknown"),
        ({"$ref": "#/$defs/none"}, "unknown"),
        ({"type": "frobnicate"}, "unknown"),
        ({"properties": {"a-b": True}}, '{\n  "a-b"?: unknown;\n}'),
        (
            {"properties": {"a": {}}, "required": ["a"], "additionalProperties": {}},
            "{\n  a: unknown;\n  [key: string]: unknown;\n}",
        ),
    ],
)
def test_each_kind_of_schema_has_its_type(schema: Any, told: str) -> None:
    assert TypeScript().type_of(schema) == told


def test_definitions_are_named_as_the_language_lets_them() -> None:
    made = TypeScript()
    for name in ("Box[int]", "class", "2d", "Workflows", "…"):
        defined = {name: {"type": "object", "description": "Of\n*/ lines"}}
        made.type_of({"$ref": f"#/$defs/{name}", "$defs": defined})
    written = "\n".join(made.definitions())
    assert re.findall(r"export type (\w+)", written) == [
        "Box_int",
        "Type",
        "Workflows_",
        "_2d",
        "class_",
    ]
    assert "/** Of *\\/ lines */\nexport type _2d" in written


def test_a_flow_without_workflows_has_none(tmp_path: Path) -> None:
    (tmp_path / "bare_of_types.py").write_text("from stepflow import Stepflow\nflow = Stepflow()\n")
    done = CliRunner().invoke(main, ["types", str(tmp_path / "bare_of_types.py")])
    assert done.output.endswith("export type Workflows = Record<never, never>;\n")
