"""From the workflows' JSON Schemas to the TypeScript that `createClient<Workflows>()` takes.

========================================= ====================================================
schema                                    type
========================================= ====================================================
a name in `$defs`                         an exported type of that name, written once
`properties`, `required`                  `{ sku: string; n?: number }`
`additionalProperties`, alone             `{ [key: string]: number }`
`prefixItems`                             `[number, string]`
`const`, `enum`                           the values
`anyOf`, `oneOf`, a list of types         a union
`allOf`                                   an intersection
nothing, or what no type can say          `unknown`
========================================= ====================================================

Two definitions of one name that differ (`Order` of two modules) are `Order` and `Order2`. What is
no schema of ours, a `$ref` to another document, is `unknown`: too wide, and never wrong.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stepflow.authoring.registry import Workflow

__all__ = ["TypeScript", "typescript_of"]

_HEAD: Final = """\
// Made by `stepflow types {target}`: make it anew when the workflows change.
//
//   import {{ createClient }} from "@stepflow/client";
//   const client = createClient<Workflows>({{ url: "/api/stepflow" }});
"""
_SCALARS: Final = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "null": "null",
}
_RESERVED: Final = """
Workflows any as async await bigint boolean break case catch class const continue debugger default
delete do else enum export extends false finally for function if implements import in instanceof
interface let never new null number object package private protected public return static string
super switch symbol this throw true try type typeof undefined unknown var void while with yield
"""
_TAKEN: Final = frozenset(_RESERVED.split())
"""Names that an exported type cannot have."""
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
_REF: Final = "#/$defs/"


def typescript_of(workflows: Iterable[Workflow], target: str) -> str:
    """Return the module that says what each workflow takes and gives."""
    made = TypeScript()
    rows: list[str] = []
    for workflow in workflows:
        view = workflow.view()
        signature = workflow.signature
        given = made.type_of(view.input_schema)
        if not signature.takes_input:
            given = "null | undefined"
        elif signature.input_optional:
            given = f"{given} | null | undefined"
        rows += _comment(view.description, "  ")
        rows.append(f"  {_literal(view.id)}: {{")
        rows.append(f"    input: {_indented(given, 2)};")
        rows.append(f"    output: {_indented(made.type_of(view.output_schema), 2)};")
        rows.append("  };")
    body = "\n".join(rows)
    told = _HEAD.format(target=re.sub(r"\s", " ", target))
    interface = f"export interface Workflows {{\n{body}\n}}\n" if rows else _NOTHING
    return "\n".join((told, *made.definitions(), interface))


_NOTHING: Final = "export type Workflows = Record<never, never>;\n"


class TypeScript:
    """The types of many schemas: what they name is written once."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        """By the definition and all it leads to, as JSON."""
        self._written: dict[str, str] = {}

    def type_of(self, schema: Any) -> str:
        """Return the type of a JSON Schema; what it refers to is among `definitions()` then."""
        return self._type(schema, {} if isinstance(schema, bool) else schema.get("$defs", {}))

    def definitions(self) -> Iterator[str]:
        """Yield each named type, in the order of their names."""
        for name in sorted(self._written):
            yield self._written[name]

    # ------------------------------------------------------------ one schema

    def _type(self, schema: object, known: dict[str, Any]) -> str:
        if not isinstance(schema, dict):
            return "never" if schema is False else "unknown"
        found = cast("dict[str, Any]", schema)
        if "$ref" in found:
            return self._named(str(found["$ref"]), known)
        if "const" in found or "enum" in found:
            return _union(map(_literal, found.get("enum", [found.get("const")])))
        return self._composed(found, known)

    def _composed(self, schema: dict[str, Any], known: dict[str, Any]) -> str:
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return _union(self._type(each, known) for each in schema[word])
        if "allOf" in schema:
            return " & ".join(_grouped(self._type(each, known)) for each in schema["allOf"])
        kinds: Any = schema.get("type", "object" if "properties" in schema else "")
        names = cast("list[str]", kinds if isinstance(kinds, list) else [kinds])
        return _union(self._of_kind(name, schema, known) for name in names)

    def _of_kind(self, kind: str, schema: dict[str, Any], known: dict[str, Any]) -> str:
        if kind == "object":
            return self._object(schema, known)
        if kind == "array":
            return self._array(schema, known)
        return _SCALARS.get(kind, "unknown")

    def _object(self, schema: dict[str, Any], known: dict[str, Any]) -> str:
        properties: dict[str, dict[str, Any] | bool] = schema.get("properties", {})
        more = schema.get("additionalProperties")
        if not properties:
            if more is False:
                return "{ [key: string]: never }"
            return f"{{ [key: string]: {self._type(more, known)} }}"
        required = schema.get("required", ())
        lines: list[str] = []
        for name, each in properties.items():
            lines += _comment(each.get("description") if isinstance(each, dict) else None, "  ")
            mark = "" if name in required else "?"
            lines.append(f"  {_key(name)}{mark}: {_indented(self._type(each, known), 1)};")
        if more is True or isinstance(more, dict):
            # Of all that a signature gives, this alone fits the named ones, too.
            lines.append("  [key: string]: unknown;")
        return "\n".join(("{", *lines, "}"))

    def _array(self, schema: dict[str, Any], known: dict[str, Any]) -> str:
        first = schema.get("prefixItems")
        if not first:
            return f"{_grouped(self._type(schema.get('items'), known))}[]"
        least = schema.get("minItems", 0)
        items = [
            _grouped(self._type(each, known)) + ("" if index < least else "?")
            for index, each in enumerate(first)
        ]
        rest = schema.get("items")
        if rest is not False and schema.get("maxItems") != len(first):
            items.append(f"...{_grouped(self._type(rest, known))}[]")
        return f"[{', '.join(items)}]"

    # ------------------------------------------------------------ names

    def _named(self, ref: str, known: dict[str, Any]) -> str:
        key = ref.removeprefix(_REF).replace("~1", "/").replace("~0", "~")
        if not ref.startswith(_REF) or key not in known:
            return "unknown"
        whole = json.dumps([key, _reached(key, known)], sort_keys=True)
        name = self._names.get(whole)
        if name is None:
            name = self._names[whole] = self._free(key)
            # Named before it is written: it may lead back to itself.
            schema = known[key]
            told = "\n".join(_comment(schema.get("description"), ""))
            text = f"export type {name} = {self._type(schema, known)};\n"
            self._written[name] = f"{told}\n{text}" if told else text
        return name

    def _free(self, key: str) -> str:
        plain = re.sub(r"\W+", "_", key, flags=re.ASCII).strip("_") or "Type"
        plain = f"_{plain}" if plain[0].isdigit() else plain
        plain = f"{plain}_" if plain in _TAKEN else plain
        taken, name, number = set(self._names.values()), plain, 1
        while name in taken:
            number += 1
            name = f"{plain}{number}"
        return name


def _reached(key: str, known: dict[str, Any]) -> dict[str, Any]:
    """Return the definition and all that it leads to, by name."""
    found: dict[str, Any] = {}
    todo = [key]
    while todo:
        name = todo.pop()
        if name in known and name not in found:
            found[name] = known[name]
            text = json.dumps(known[name])
            todo += [each.replace("~1", "/") for each in re.findall(r'"#/\$defs/([^"]+)"', text)]
    return found


def _union(types: Iterable[str]) -> str:
    found = list(dict.fromkeys(types))
    if "unknown" in found:
        return "unknown"
    return " | ".join(found) if found else "never"


def _grouped(text: str) -> str:
    """Return the type such that `[]`, `?` or `&` after it means all of it."""
    alone = text.startswith("{") and text.endswith("}") and "\n}" not in text[:-2]
    return text if alone or re.fullmatch(r"[\w$]+", text) else f"({text})"


def _literal(value: object) -> str:
    if isinstance(value, dict | list):
        return "unknown"
    # All else of JSON is a literal of the language.
    return json.dumps(value)


def _key(name: str) -> str:
    return name if _PLAIN_KEY.fullmatch(name) else json.dumps(name)


def _comment(text: str | None, indent: str) -> list[str]:
    if not text:
        return []
    line = " ".join(text.replace("*/", "*\\/").split())
    return [f"{indent}/** {line} */"]


def _indented(text: str, levels: int) -> str:
    return text.replace("\n", "\n" + "  " * levels)
