"""PURE. An input that fits a JSON Schema, for the command that is shown to copy and paste."""

from __future__ import annotations

import re
from typing import Any, Final, cast

__all__ = ["sample"]

_DEPTH_MAX: Final = 6
_ITEMS_DEPTH_MAX: Final = 3
_MOMENT: Final = re.compile(r"(.*(At|_at))|when|.*time", re.DOTALL)
_BY_NAME: Final[dict[str, str]] = {
    "email": "ada@example.com",
    "name": "Ada",
    "url": "https://example.com",
}
_BY_FORMAT: Final[dict[str, str]] = {
    "date": "2024-01-15",
    "date-time": "2024-01-15T10:30:00Z",
    "decimal": "9.99",
    "duration": "PT30S",
    "email": "ada@example.com",
    "time": "10:30:00",
    "uri": "https://example.com",
    "uuid": "6f1c3a52-6c1e-4b60-9a70-2f9ac1d1b0a5",
}


def sample(schema: dict[str, Any]) -> Any:
    """Return a JSON value that fits `schema`; `None` where nothing is asked for."""
    return _Sampler(schema.get("$defs", {})).of(schema, "", 0)


class _Sampler:
    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions

    def of(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        if depth > _DEPTH_MAX:
            return None
        if "$ref" in schema:
            target = self._definitions.get(schema["$ref"].rpartition("/")[2], {})
            return self.of(target, name, depth + 1)
        for given in ("const", "default"):
            if given in schema:
                return schema[given]
        for given in ("examples", "enum"):
            if schema.get(given):
                return schema[given][0]
        for choice in ("anyOf", "oneOf", "allOf"):
            if schema.get(choice):
                return self.of(schema[choice][0], name, depth + 1)
        return self._by_type(schema, name, depth)

    def _by_type(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = cast("list[str]", kind)[0]
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "string":
                return self._string(schema, name)
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return True
            case _:
                return None

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        fields: dict[str, Any] = schema.get("properties", {})
        wanted = schema.get("required", [])
        return {
            name: self.of(field, name, depth + 1)
            for name, field in fields.items()
            if name in wanted
        }

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        if "prefixItems" in schema:
            return [self.of(item, name, depth + 1) for item in schema["prefixItems"]]
        item = schema.get("items")
        if depth > _ITEMS_DEPTH_MAX:
            return []  # a type that holds itself ends here
        return [self.of(item, name.removesuffix("s"), depth + 1)] if item else []

    def _string(self, schema: dict[str, Any], name: str) -> str:
        if schema.get("format") in _BY_FORMAT:
            return _BY_FORMAT[schema["format"]]
        if _MOMENT.fullmatch(name):
            # A moment without a zone is told from a text by its name alone.
            return _BY_FORMAT["date-time"]
        plain = name.lower().replace("_", "")
        for known, text in _BY_NAME.items():
            if plain.endswith(known):
                return text
        word = name[:-2].rstrip("_") if plain.endswith("id") and plain != "id" else name
        return f"{word or 'text'}-1".ljust(schema.get("minLength", 0), "x")
