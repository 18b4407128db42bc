"""An annotation, and the value it makes of JSON bytes.

A `Converter` is built once for an annotation and used for each value. msgspec does the work: for
builtins, dataclasses, `TypedDict`, `Struct`, and what JSON lacks (the table in encoding.py). It is
strict: `"1"` is no `int`. pydantic models inside any annotation convert by their own rules; this
module never imports pydantic, for whoever annotates with a model has imported it.

Three kinds of annotation end alike, as plain JSON types: none, `Any`, and, where `lenient` allows
it, one that cannot be converted (a socket, a union of two dataclasses). `.fallback` says why.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from inspect import Parameter
from pathlib import PurePath
from types import UnionType
from typing import Annotated, Any, Final, Generic, TypeVar, Union, cast, get_args, get_origin

import msgspec
import orjson
from msgspec import inspect as shapes

from stepflow.errors import AuthoringError, InvalidInputError
from stepflow.model.encoding import encode

__all__ = ["PLAIN", "Converter"]

T = TypeVar("T")

_CACHE_MAX: Final = 1024
_PLAIN_ANNOTATIONS: Final = (Any, object, Parameter.empty)
_PYDANTIC_PACKAGES: Final = frozenset({"pydantic", "pydantic_core", "annotated_types"})

_UNIONS: Final = (Union, UnionType)

_Decode = Callable[[bytes], Any]


class Converter(Generic[T]):
    """Decodes JSON bytes by `annotation`, and encodes values so that they decode again.

    Raises `AuthoringError` when the annotation cannot be converted, unless `lenient`.
    """

    __slots__ = ("_decode", "_schema", "annotation", "fallback", "free_keys")

    annotation: Any
    fallback: str | None
    """Why values are left as plain JSON although there is an annotation, if so."""
    free_keys: bool
    """Whether the annotation has a `dict` whose keys are not `str`."""

    def __init__(self, annotation: Any = Any, *, lenient: bool = False) -> None:
        self.annotation = annotation
        self.fallback = None
        self.free_keys = False
        self._decode: _Decode = orjson.loads
        self._schema: Callable[[], dict[str, Any]] = dict
        if any(annotation is plain for plain in _PLAIN_ANNOTATIONS):
            return
        try:
            self._build(annotation)
        except AuthoringError as error:
            if not lenient:
                raise
            self.fallback = str(error)

    @classmethod
    def of(cls, annotation: Any, *, lenient: bool = False) -> Converter[Any]:
        """Return the converter of `annotation`, built at most once while it is in use."""
        try:
            return _cached(annotation, lenient)
        except TypeError:  # metadata of an Annotated need not be hashable
            return Converter(annotation, lenient=lenient)

    def decode(self, data: bytes, where: str = "") -> T:
        """Return the value that `data` holds: a fresh copy by the annotation.

        Raises `InvalidInputError` naming the field; the name begins with `where`.
        """
        try:
            value: T = self._decode(data)
        except msgspec.DecodeError as error:
            raise InvalidInputError(_told(str(error), where)) from None
        except RecursionError:
            raise InvalidInputError(_join(where, "nested too deeply")) from None
        except Exception as error:  # the border to user code: __post_init__, validators
            raise InvalidInputError(_join(where, _first_error(error))) from error
        return value

    def encode(self, value: object, path: str = "result") -> bytes:
        """Return `value` as JSON bytes that `decode` reads; raises `EncodingError`."""
        return encode(value, path, free_keys=self.free_keys)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of what `decode` takes; `{}` takes anything."""
        return self._schema()

    def __repr__(self) -> str:
        return f"Converter({self.annotation!r})"

    def _build(self, annotation: Any) -> None:
        if _needs_pydantic(annotation):
            self._use_pydantic(annotation)
            return
        nodes = _nodes(annotation)
        self.free_keys = any(
            isinstance(node, shapes.DictType)
            and not isinstance(node.key_type, shapes.StrType | shapes.AnyType)
            for node in nodes
        )
        if any(map(_is_pydantic, nodes)):
            self._use_pydantic(annotation)
        else:
            self._use_msgspec(annotation, nodes)

    def _use_msgspec(self, annotation: Any, nodes: list[shapes.Type]) -> None:
        for node in nodes:
            if isinstance(node, shapes.CustomType) and not _is_known(node.cls):
                raise _unsupported(
                    annotation, f"{_name(node.cls)} is not a type that JSON can hold"
                )
        # What msgspec itself refuses it has refused when it was asked for the nodes.
        self._decode = msgspec.json.Decoder(annotation, dec_hook=_hook).decode
        self._schema = lambda: _msgspec_schema(annotation)

    def _use_pydantic(self, annotation: Any) -> None:
        adapter = _adapter(annotation)
        self._decode = adapter.validate_json
        self._schema = adapter.json_schema


@lru_cache(maxsize=_CACHE_MAX)
def _cached(annotation: Any, lenient: bool) -> Converter[Any]:  # noqa: FBT001
    return Converter(annotation, lenient=lenient)


PLAIN: Final[Converter[Any]] = Converter(Any)
"""Leaves JSON's own types as they are."""


# ---------------------------------------------------------------- what an annotation is made of


def _nodes(annotation: Any) -> list[shapes.Type]:
    """Return every type inside `annotation`, each once."""
    try:
        root = shapes.type_info(annotation)
    except (TypeError, NameError) as error:
        raise _unsupported(annotation, str(error)) from None
    found: dict[int, shapes.Type] = {}
    todo: list[shapes.Type | shapes.Field] = [root]
    while todo:
        node = todo.pop()
        if id(node) in found:
            continue
        if isinstance(node, shapes.Type):
            found[id(node)] = node
        todo += _parts(node)
    return list(found.values())


def _parts(node: shapes.Type | shapes.Field) -> Iterator[shapes.Type | shapes.Field]:
    for name in node.__struct_fields__:
        yield from _parts_of_field(getattr(node, name))


def _parts_of_field(value: object) -> Iterator[shapes.Type | shapes.Field]:
    if isinstance(value, shapes.Type):
        yield value
    elif isinstance(value, tuple):
        for item in cast("tuple[object, ...]", value):
            if isinstance(item, shapes.Type | shapes.Field):
                yield item


def _is_known(kind: type) -> bool:
    return kind is object or issubclass(kind, PurePath) or _is_model(kind)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "__pydantic_validator__")


def _hook(kind: type, value: object) -> object:
    """Convert what msgspec leaves to us: what `_is_known` says, and nothing else."""
    if kind is object:
        return value
    if issubclass(kind, PurePath):
        if not isinstance(value, str):
            raise ValueError(f"Expected `str`, got `{type(value).__name__}`")  # noqa: TRY004
        return kind(value)
    try:
        return cast("Any", kind).__pydantic_validator__.validate_json(orjson.dumps(value))
    except ValueError as error:
        raise ValueError(_first_error(error)) from None


def _unsupported(annotation: Any, why: str) -> AuthoringError:
    why = why.partition(" - type")[0]
    return AuthoringError(
        f"{_name(annotation)} cannot be read from JSON: {why}; annotate with builtins, "
        "a dataclass, a TypedDict, a msgspec Struct, a pydantic model, or Any"
    )


def _name(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)


# ---------------------------------------------------------------- pydantic


def _needs_pydantic(annotation: Any) -> bool:
    """Say whether `annotation` is a model, a union with one, or has rules that pydantic applies.

    Not so for a container of models: msgspec converts it, and each model by its own validator.
    """
    if "pydantic" not in sys.modules:
        return False
    return _is_model(annotation) or _has_marks(annotation) or _has_model_union(annotation)


def _has_model_union(annotation: Any) -> bool:
    """Say whether a union inside has a model beside more than `None`, which msgspec refuses."""
    parts = get_args(annotation)
    if get_origin(annotation) in _UNIONS and any(map(_is_model, parts)):
        return len([part for part in parts if part is not type(None)]) > 1
    return any(map(_has_model_union, parts))


def _is_pydantic(node: shapes.Type) -> bool:
    """Say whether msgspec would miss the rules of this node, or refuse it."""
    if isinstance(node, shapes.DataclassType):
        return _is_model(node.cls)
    if isinstance(node, shapes.CustomType):
        return not _is_model(node.cls) and _package(node.cls) in _PYDANTIC_PACKAGES
    return False


def _has_marks(annotation: Any) -> bool:
    """Say whether an `Annotated` inside carries a rule that only pydantic applies."""
    if get_origin(annotation) is Annotated:
        marks = annotation.__metadata__
        if any(_package(type(mark)) in _PYDANTIC_PACKAGES for mark in marks):
            return True
    return any(_has_marks(part) for part in get_args(annotation))


def _package(kind: Any) -> str:
    return str(kind.__module__).partition(".")[0]


def _adapter(annotation: Any) -> Any:
    pydantic: Any = sys.modules["pydantic"]
    strict = {"strict": True, "val_json_bytes": "base64"}
    try:
        try:
            return pydantic.TypeAdapter(annotation, config=strict)
        except pydantic.PydanticUserError:  # a model has a configuration of its own
            return pydantic.TypeAdapter(annotation)
    except Exception as error:  # noqa: BLE001  pydantic says what it refuses in many ways
        raise _unsupported(annotation, str(error).partition("\n")[0]) from None


def _first_error(error: Exception) -> str:
    """Return in one line what a validator said, beginning with the path, if it has one."""
    errors = cast("Any", getattr(error, "errors", None))
    if not callable(errors):
        return f"{type(error).__name__}: {error}"
    found = cast("Any", errors(include_url=False, include_context=False, include_input=False))
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in found[0]["loc"])
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    message = f"{found[0]['msg']}{more}"
    return f"{path}: {message}" if path else message


# ---------------------------------------------------------------- messages

_AT: Final = re.compile(r"(?s)(?P<what>.*) - at `(?P<at>[^`]*)`(?: in `(?P<inside>[^`]*)`)?")
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>.*)`")


def _told(message: str, where: str) -> str:
    """Turn msgspec's "Expected `int`, got `str` - at `$.a[0]`" into "a[0]: expected int, …"."""
    match = _AT.fullmatch(message)
    if match is None:
        return _join(where, _plain_words(message))
    path = where + (match["inside"] or match["at"]).removeprefix("$")
    words = _plain_words(match["what"])
    return _join(path, f"a key: {words}" if match["inside"] else words)


def _plain_words(text: str) -> str:
    missing = _MISSING.fullmatch(text)
    if missing:
        return f".{missing['name']}: a required field is missing"
    text = text.replace("`", "")
    return (
        text[:1].lower() + text[1:] if text.startswith(("Expected", "Object", "Invalid")) else text
    )


def _join(path: str, words: str) -> str:
    if words.startswith((".", "[")):
        return (path + words).removeprefix(".")
    return f"{path}: {words}".removeprefix(".") if path else words


# ---------------------------------------------------------------- schema


def _msgspec_schema(annotation: Any) -> dict[str, Any]:
    hoisted: dict[str, Any] = {}

    def hook(kind: type) -> dict[str, Any]:
        if _is_model(kind):
            model: dict[str, Any] = cast("Any", kind).model_json_schema()
            # Its references are from the root, so its definitions must stand there.
            hoisted.update(model.pop("$defs", {}))
            return model
        return {"type": "string"} if issubclass(kind, PurePath) else {}

    schema = msgspec.json.schema(annotation, schema_hook=hook)
    if hoisted:
        schema["$defs"] = hoisted | schema.get("$defs", {})
    return schema
