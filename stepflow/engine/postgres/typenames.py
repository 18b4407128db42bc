"""What a wait takes, as text that another process with the same code can read.

A type is named by its module and its qualified name, and what is made of types (`list[Payment]`,
`int | None`, `Literal["yes", "no"]`) by its parts. Reading a text imports nothing: a name is
looked up among the modules that are loaded. What has no such name (a class made inside a function,
pydantic's `Field(…)` in an `Annotated`) has none here, either: then only the process that waits
knows it.
"""

from __future__ import annotations

import functools
import sys
from enum import Enum
from inspect import Parameter
from types import EllipsisType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NewType, Union, cast, get_args, get_origin

import msgspec

__all__ = ["read_type", "type_text"]

_BYTES_MAX: Final = 8_000
_ANYTHING: Final = (Any, object, Parameter.empty)
_META: Final = tuple(name for name in dir(msgspec.Meta) if not name.startswith("_"))
_UNIONS: Final = (Union, UnionType)
_NAMED: Final[tuple[Any, ...]] = tuple(
    kind for kind in (type, NewType, getattr(sys.modules["typing"], "TypeAliasType", None)) if kind
)
_ELLIPSIS: Final = "..."

_encode: Final = msgspec.json.Encoder().encode
_Tree = str | list[Any] | None


class _NamelessError(Exception):
    """There is no text for it."""


def type_text(annotation: Any) -> str | None:
    """Return the annotation's text: empty for one that takes anything, None where there is none."""
    if any(annotation is anything for anything in _ANYTHING):
        return ""
    try:
        found = _known(annotation)
    except TypeError:  # metadata of an Annotated need not be hashable
        found = _text(annotation)
    return found


def read_type(text: str) -> Any:
    """Return the annotation of a text. Raises `LookupError` for what is not known here."""
    try:
        return _read(msgspec.json.decode(text.encode()))
    except (msgspec.MsgspecError, TypeError, ValueError, AttributeError) as error:
        raise LookupError(text) from error


@functools.lru_cache(maxsize=1024)
def _known(annotation: Any) -> str | None:
    return _text(annotation)


def _text(annotation: Any) -> str | None:
    try:
        text = _encode(_tree(annotation))
    except (_NamelessError, UnicodeError):
        return None
    return text.decode() if len(text) <= _BYTES_MAX else None


# ---------------------------------------------------------------- writing


def _tree(annotation: Any) -> _Tree:
    if annotation is None or annotation is NoneType:
        return None
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is None:
        return _ELLIPSIS if isinstance(annotation, EllipsisType) else _name(annotation)
    if origin is Annotated:
        return ["annotated", _tree(args[0]), *map(_meta, args[1:])]
    if origin is Literal:
        return ["literal", *map(_value, args)]
    if origin in _UNIONS:
        return ["union", *map(_tree, args)]
    return ["of", _name(origin), *map(_tree, args)]


def _name(found: Any) -> str:
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    name = name or getattr(found, "__name__", None)
    if isinstance(module, str) and isinstance(name, str):
        text = f"{module}:{name}"
        try:
            if _find(text) is found:
                return text
        except LookupError:
            pass
    raise _NamelessError


def _value(value: Any) -> Any:
    if isinstance(value, Enum):
        return [_name(type(value)), value.name]
    if value is None or type(value) in {str, int, bool}:
        return value
    raise _NamelessError


def _meta(meta: Any) -> Any:
    if isinstance(meta, str):
        return meta
    if type(meta) is not msgspec.Meta:
        raise _NamelessError
    told = {name: getattr(meta, name) for name in _META}
    told = {name: value for name, value in told.items() if value is not None}
    if not all(type(value) in {str, int, float, bool} for value in told.values()):
        raise _NamelessError
    return told


# ---------------------------------------------------------------- reading


def _read(tree: Any) -> Any:  # noqa: PLR0911  a table
    match tree:
        case None:
            return None
        case "...":
            return ...
        case str():
            return _find(tree)
        case ["annotated", base, *metas]:
            return cast("Any", Annotated)[(_read(base), *map(_read_meta, metas))]
        case ["literal", *values]:
            return cast("Any", Literal)[tuple(map(_read_value, values))]
        case ["union", *args]:
            return functools.reduce(_or, map(_read_arm, args))
        case ["of", str(origin), *args]:
            return _find(origin)[tuple(map(_read, args))]
        case _:
            raise LookupError(tree)


def _or(left: Any, right: Any) -> Any:
    return left | right


def _read_arm(tree: Any) -> Any:
    return NoneType if tree is None else _read(tree)


def _read_meta(meta: Any) -> Any:
    return msgspec.Meta(**cast("dict[str, Any]", meta)) if isinstance(meta, dict) else meta


def _read_value(value: Any) -> Any:
    match value:
        case [str(kind), str(name)]:
            found = _find(kind)
            if not (isinstance(found, type) and issubclass(found, Enum)):
                raise LookupError(kind)  # noqa: TRY004  as for any other name
            return found.__members__[name]
        case _:
            return value


def _find(text: str) -> Any:
    module_name, _, path = text.partition(":")
    found: Any = sys.modules.get(module_name)
    for name in path.split("."):
        inside: dict[str, Any] = getattr(found, "__dict__", {})
        if name not in inside:
            raise LookupError(text)
        found = inside[name]
    if not isinstance(found, _NAMED) and found is not Any:
        raise LookupError(text)
    named: Any = found
    return named
