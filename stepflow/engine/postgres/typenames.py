"""What a wait takes, as text that another process with the same code can read.

A type is named by its module and its qualified name, and what is made of types (`list[Payment]`,
`int | None`, `Literal["yes", "no"]`) by its parts. What has no name of its own (a class made inside
a function, pydantic's `Field(…)` in an `Annotated`) is named by the variable through which the
workflow's function has it. What is not in a variable either has no text: then only the process that
waits knows it.

Reading a text imports nothing and calls nothing that it names: names are looked up among the
modules that are loaded and the workflows that are registered.
"""

from __future__ import annotations

import functools
import inspect
import sys
from contextlib import suppress
from enum import Enum
from types import EllipsisType, NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    NewType,
    Union,
    cast,
    get_args,
    get_origin,
)

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Variable = Callable[[str, str], Any]
    """Gives what a workflow's function has under a name. Raises `LookupError`."""

__all__ = ["read_type", "type_text", "variables_of"]

_BYTES_MAX: Final = 8_000
_ANYTHING: Final = (Any, object, inspect.Parameter.empty)
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


def type_text(
    annotation: Any, workflow: str = "", function: Callable[..., Any] | None = None
) -> str | None:
    """Return the annotation's text: empty for one that takes anything, None where there is none.

    `function` is that of the workflow that waits.
    """
    if any(annotation is anything for anything in _ANYTHING):
        return ""
    try:
        return _known(annotation, workflow, function)
    except TypeError:  # metadata of an Annotated need not be hashable
        return _Writer(workflow, function).text(annotation)


def read_type(text: str, variable: Variable | None = None) -> Any:
    """Return the annotation of a text; `variable` gives that of a workflow's function.

    Raises `LookupError` for what is not known here.
    """
    try:
        return _Reader(variable).read(msgspec.json.decode(text.encode()))
    except (msgspec.MsgspecError, TypeError, ValueError, AttributeError) as error:
        raise LookupError(text) from error


def variables_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return what the function's code names, and that of functions inside it, and is there."""
    function = inspect.unwrap(function)
    code: Any = getattr(function, "__code__", None)
    if code is None:
        return {}
    inside: dict[str, Any] = getattr(function, "__globals__", {})
    found = {name: inside[name] for name in _names(code) if name in inside}
    cells: tuple[Any, ...] = getattr(function, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars, cells, strict=True):
        with suppress(ValueError):
            # An empty one: its variable has no value yet.
            found[name] = cell.cell_contents
    return found


def _names(code: Any) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if inspect.iscode(inner):
            yield from _names(inner)


@functools.lru_cache(maxsize=1024)
def _known(annotation: Any, workflow: str, function: Callable[..., Any] | None) -> str | None:
    return _Writer(workflow, function).text(annotation)


# ---------------------------------------------------------------- writing


class _Writer:
    def __init__(self, workflow: str, function: Callable[..., Any] | None) -> None:
        self._workflow = workflow
        self._function = function

    def text(self, annotation: Any) -> str | None:
        try:
            text = _encode(self._tree(annotation))
        except (_NamelessError, UnicodeError):
            return None
        return text.decode() if len(text) <= _BYTES_MAX else None

    def _tree(self, annotation: Any) -> _Tree:
        try:
            return self._parts(annotation)
        except _NamelessError:
            if self._function is not None:
                for name, value in variables_of(self._function).items():
                    if value is annotation:
                        return ["var", self._workflow, name]
            raise

    def _parts(self, annotation: Any) -> _Tree:
        if annotation is None or annotation is NoneType:
            return None
        origin, args = get_origin(annotation), get_args(annotation)
        if origin is None:
            return _ELLIPSIS if isinstance(annotation, EllipsisType) else _name(annotation)
        if origin is Annotated:
            return ["annotated", self._tree(args[0]), *map(_meta, args[1:])]
        if origin is Literal:
            return ["literal", *map(_value, args)]
        if origin in _UNIONS:
            return ["union", *map(self._tree, args)]
        return ["of", self._tree(origin), *map(self._tree, args)]


def _name(found: Any) -> str:
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    name = name or getattr(found, "__name__", None)
    if isinstance(module, str) and isinstance(name, str):
        text = f"{module}:{name}"
        with suppress(LookupError):
            if _find(text) is found:
                return text
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


class _Reader:
    def __init__(self, variable: Variable | None) -> None:
        self._variable = variable

    def read(self, tree: Any) -> Any:  # noqa: PLR0911  a table
        match tree:
            case None:
                return None
            case "...":
                return ...
            case str():
                return _find(tree)
            case ["var", str(workflow), str(name)]:
                if self._variable is None:
                    raise LookupError(name)
                return self._variable(workflow, name)
            case ["annotated", base, *metas]:
                return cast("Any", Annotated)[(self.read(base), *map(_read_meta, metas))]
            case ["literal", *values]:
                return cast("Any", Literal)[tuple(map(_read_value, values))]
            case ["union", *args]:
                return functools.reduce(_or, map(self._arm, args))
            case ["of", origin, *args]:
                return self.read(origin)[tuple(map(self.read, args))]
            case _:
                raise LookupError(tree)

    def _arm(self, tree: Any) -> Any:
        return NoneType if tree is None else self.read(tree)


def _or(left: Any, right: Any) -> Any:
    return left | right


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
