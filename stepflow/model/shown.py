"""What is shown to others as JSON, and how a program hands it on. PURE.

A view's JSON values, a run's `input` and `result` above all, are the bytes that were recorded: who
reads one member does not pay for the others. So a framework that knows nothing of msgspec cannot
write a view by itself: `to_dict()` makes plain values, and pydantic is told by the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Shown"]

_Json: TypeAlias = "dict[str, _Json] | list[_Json] | str | int | float | None"


class Shown(msgspec.Struct):
    """A view, as the HTTP API gives it."""

    def to_json(self) -> bytes:
        """Return it as the API's JSON."""
        return msgspec.json.encode(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values, by the API's names: what `json.loads` would give."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return plain

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> Any:
        """Let pydantic take it as it is, and write it as the API does."""
        # Only pydantic asks, so it is there.
        from pydantic_core import core_schema  # noqa: PLC0415

        written = core_schema.plain_serializer_function_ser_schema(_plain)
        return core_schema.is_instance_schema(cls, serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: object, handler: Callable[[object], object]
    ) -> dict[str, Any]:
        """Describe it in the documents that are made of pydantic's types."""
        made = msgspec.json.schema(cls)
        return cast("dict[str, Any]", _inlined(made, made["$defs"]))


def _plain(view: Shown) -> dict[str, Any]:
    return view.to_dict()


def _inlined(value: _Json, definitions: dict[str, _Json]) -> _Json:
    """Return the schema without references: no view holds its own kind."""
    if isinstance(value, list):
        return [_inlined(item, definitions) for item in value]
    if not isinstance(value, dict):
        return value
    ref = value.get("$ref")
    if isinstance(ref, str):
        return _inlined(definitions[ref.rpartition("/")[2]], definitions)
    return {key: _inlined(item, definitions) for key, item in value.items() if key != "$defs"}
