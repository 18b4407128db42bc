"""Values to JSON bytes, and the path to the one that is not JSON.

| value | JSON | read back by the annotation |
|---|---|---|
| `None`, `bool`, `str`, 64-bit `int`, finite `float`, `list`, `dict` | itself | none is needed |
| `tuple`, named tuple | array | itself |
| `set`, `frozenset` | array; equal sets are equal bytes | itself |
| `datetime`, `date`, `time` | RFC 3339; naive stays naive; UTC is `Z` | itself |
| `timedelta` | ISO 8601, `"P1DT2.5S"` | itself |
| `Decimal`, `UUID`, path | text | itself |
| `bytes`, `bytearray`, `memoryview` | base64 | `bytes`, `bytearray` |
| `Enum` | its value | itself, if the values are `int` or `str` |
| dataclass, attrs class, msgspec `Struct`, `TypedDict`, pydantic model | object | itself |

NaN, infinities, integers beyond 64 bits and lone surrogates are refused, by path: JSON has none of
them, and encoders turn the first two into `null` without a word. Keys of a `dict` must be `str`:
`{1: "a"}` would come back as `{"1": "a"}`. Where the annotation says `dict[int, str]` (or `UUID`,
`date`, `Decimal`, `Enum`, …) they come back as they were, so there `free_keys` allows them.

A pydantic model is written by its own serializer: a `SecretStr` in it becomes asterisks and is
lost. A secret by itself is refused.

orjson encodes what is plain; its hook takes richer values apart one level at a time. Only when it
refuses is the value walked in Python, to convert what orjson cannot (its own limits differ) or to
name the path.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from pathlib import PurePath
from typing import Any, Final, cast
from uuid import UUID

import msgspec
import orjson

from stepflow.errors import EncodingError

__all__ = ["args_hash", "encode"]

# orjson leaves out the fields of a dataclass that begin with `_` and adds what is no field; it
# writes 10 ms of a `time` as ".10000" (seen in 3.13.0) and rounds odd offsets of a `datetime`.
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_DEPTH_MAX: Final = 200
_MINUTE: Final = timedelta(minutes=1)
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_REFUSALS: Final = (TypeError, ValueError, RecursionError, AttributeError)


def encode(value: object, path: str = "result", *, free_keys: bool = False) -> bytes:
    """Return `value` as compact JSON bytes.

    Raises `EncodingError` naming the path, which begins with `path`, to a value that is not JSON.
    """
    if value is None:
        return b"null"
    if not free_keys:
        try:
            encoded = orjson.dumps(value, _shallow, _OPTIONS)
            # `partition` and `%` do what `in` and a copy by way of a view do, in a third of it.
            if not encoded.partition(b"null")[1] or _is_finite(value):
                # orjson's own object holds some 4 KiB for as long as it is kept.
                return b"%b" % encoded
        except _REFUSALS:
            pass  # the walk below finds out what it was
    return b"%b" % orjson.dumps(_plain(value, path, free_keys, 0))


def args_hash(args: tuple[object, ...]) -> str:
    """Return 16 hex digits that are equal for equal arguments, in every process.

    An argument that is not JSON counts by the name of its type. Never raises.
    """
    if not args:
        return _NO_ARGS
    digest = _NOTHING.copy()
    for arg in args:
        # As `_arg_text` has it.
        text = orjson.dumps(arg) if type(arg) is str and arg.isascii() else _arg_text(arg)
        digest.update(text + b"\0")
    return digest.hexdigest()


_NOTHING: Final = blake2b(digest_size=8)
_NO_ARGS: Final = _NOTHING.hexdigest()


def _arg_text(arg: object) -> bytes:
    if type(arg) is str and arg.isascii():
        return orjson.dumps(arg)
    for free_keys in (False, True):
        try:
            return encode(arg, "argument", free_keys=free_keys)
        except Exception:  # noqa: BLE001, S112  the border to user code: properties, serializers
            continue
    return b"\xff" + type(arg).__qualname__.encode("utf-8", "replace")


# ---------------------------------------------------------------- one level of a richer value


def _shallow(value: object) -> object:  # noqa: PLR0911  one line a kind
    """Return `value` one level simpler; its parts may be rich still. `TypeError` if unknown."""
    kind = type(value)
    simpler = _BY_TYPE.get(kind)
    if simpler is not None:
        return simpler(value)
    if hasattr(kind, "__pydantic_serializer__") and not _is_secret(value):
        return _pydantic(value)
    if dataclasses.is_dataclass(kind):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(kind)}
    if isinstance(value, msgspec.Struct):
        return _struct(value)
    if hasattr(kind, "__attrs_attrs__"):
        names = [attribute.name for attribute in cast("Any", kind).__attrs_attrs__]
        return {name: getattr(value, name) for name in names}
    for base, simplify in _BY_BASE:
        if isinstance(value, base):
            return simplify(value)
    return _foreign(value)


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"{value} is not a number that JSON has")
    return str(value)


def _base64(value: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(value).decode("ascii")


def _elements(value: set[Any] | frozenset[Any]) -> list[Any]:
    """Return a set's elements in an order that does not depend on the process's hash seed."""
    kinds: set[type[Any]] = set(map(type, value))
    if kinds <= {str} or kinds <= {int}:
        return sorted(value)
    return sorted(value, key=_element_text)


def _element_text(element: object) -> bytes:
    # A rich element that is not JSON is found again, and named, by the walk.
    return orjson.dumps(element, _shallow, _OPTIONS)


def _datetime(value: datetime) -> str:
    offset = value.utcoffset()
    if offset is not None and offset % _MINUTE:
        value = value.astimezone(UTC)  # RFC 3339 has whole minutes; local mean times have not
    return _zulu(value.isoformat())


def _time(value: time) -> str:
    return _zulu(value.isoformat())


def _zulu(text: str) -> str:
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


def _duration(value: timedelta) -> str:
    return cast(
        "str", msgspec.to_builtins(timedelta(value.days, value.seconds, value.microseconds))
    )


def _enum(value: Enum) -> object:
    return value.value


def _struct(value: msgspec.Struct) -> object:
    config = value.__struct_config__
    names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
    fields = {encoded: getattr(value, name) for encoded, name in names}
    if config.array_like:
        tag = [] if config.tag is None else [config.tag]
        return [*tag, *fields.values()]
    head = {} if config.tag_field is None else {config.tag_field: config.tag}
    return head | {name: part for name, part in fields.items() if part is not msgspec.UNSET}


def _pydantic(value: object) -> object:
    serializer = cast("Any", type(value)).__pydantic_serializer__
    # round_trip leaves out computed fields, which a model that forbids extras would refuse.
    return serializer.to_python(value, mode="json", by_alias=True, round_trip=True)


def _foreign(value: object) -> object:
    """Return the text of a type of pydantic's own, such as `HttpUrl`; else raise `TypeError`."""
    kind = type(value)
    if kind.__module__.partition(".")[0] == "pydantic" and not _is_secret(value):
        return str(value)
    raise TypeError(kind.__qualname__)


def _is_secret(value: object) -> bool:
    """Say whether the value's text would be asterisks: the secret would be lost, not kept."""
    return hasattr(value, "get_secret_value")


_Simplify = Callable[[Any], object]
_BY_TYPE: Final[dict[type, _Simplify]] = {
    Decimal: _decimal,
    bytes: _base64,
    set: _elements,
    frozenset: _elements,
    datetime: _datetime,
    date: date.isoformat,
    time: _time,
    timedelta: _duration,
    tuple: list,
}
_BY_BASE: Final[tuple[tuple[type | tuple[type, ...], _Simplify], ...]] = (
    (Enum, _enum),
    (tuple, list),
    ((set, frozenset), _elements),
    (datetime, _datetime),
    (date, date.isoformat),
    (time, _time),
    (timedelta, _duration),
    (Decimal, _decimal),
    ((bytes, bytearray, memoryview), _base64),
    ((PurePath, UUID), str),
    (float, float),
    (int, int),
    (str, str),
    (Mapping, dict),
)


# ---------------------------------------------------------------- what orjson lets through

_FINITE: Final = json.JSONEncoder(
    allow_nan=False, check_circular=False, ensure_ascii=False, default=_shallow
)


def _is_finite(value: object) -> bool:
    """Say whether a `null` in the encoded form stands for `None` alone, not for a NaN."""
    try:
        _FINITE.encode(value)
    except _REFUSALS:
        return False
    return True


# ---------------------------------------------------------------- the walk


def _plain(value: object, path: str, free_keys: bool, depth: int) -> object:  # noqa: FBT001
    """Return `value` in JSON's own types, or raise naming the path."""
    if depth > _DEPTH_MAX:
        why = f"nested deeper than {_DEPTH_MAX} levels, or part of itself"
        raise EncodingError(f"{path:.80}…", why)
    if isinstance(value, dict):
        return _plain_dict(cast("dict[object, object]", value), path, free_keys, depth)
    if isinstance(value, list | tuple):
        items = enumerate(cast("list[object]", value))
        return [_plain(item, f"{path}[{n}]", free_keys, depth + 1) for n, item in items]
    if isinstance(value, str | int | float | None) and not isinstance(value, Enum):
        return _plain_scalar(value, path)
    return _plain(_simpler(value, path), path, free_keys, depth + 1)


def _plain_scalar(value: str | float | None, path: str) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_str(value, path)
    return _plain_int(value, path) if isinstance(value, int) else _plain_float(value, path)


def _simpler(value: object, path: str) -> object:
    try:
        return _shallow(value)
    except TypeError as error:
        raise EncodingError(path, _not_json(value, error)) from None
    except Exception as error:
        raise EncodingError(path, f"{type(value).__qualname__}: {error}") from error


def _not_json(value: object, error: TypeError) -> str:
    name = type(value).__qualname__
    if isinstance(value, set | frozenset):
        return "an element of the set is not JSON; return a list, whose elements can be named"
    if error.args != (name,):
        return f"{name}: {error}"
    article = "an" if name[:1].lower() in "aeiou" else "a"
    return (
        f"{article} {name} is not JSON; return plain data instead: a dataclass, dict, list, "
        "str, number, datetime, Decimal, UUID, bytes or the like"
    )


def _plain_str(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise EncodingError(path, "the text has a lone surrogate, so it is not UTF-8") from None
    return str.__str__(value)


def _plain_int(value: int, path: str) -> int:
    if not _INT_MIN <= value <= _INT_MAX:
        raise EncodingError(path, "an integer beyond 64 bits; return it as str or Decimal")
    return int(value)


def _plain_float(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise EncodingError(path, f"{float(value)} is not a number that JSON has; return None")
    return float(value)


def _plain_dict(
    value: dict[object, object],
    path: str,
    free_keys: bool,  # noqa: FBT001
    depth: int,
) -> dict[str, object]:
    plain: dict[str, object] = {}
    for key, item in value.items():
        text = _key_text(key, path, free_keys=free_keys)
        if text in plain:
            raise EncodingError(path, f"two keys of the dict are both {text!r} in JSON")
        plain[text] = _plain(item, path + _key_path(text), free_keys, depth + 1)
    return plain


def _key_path(key: str) -> str:
    return f".{key}" if key.isidentifier() else f"[{key!r:.80}]"


def _key_text(key: object, path: str, *, free_keys: bool) -> str:
    if isinstance(key, Enum):
        return _key_text(key.value, path, free_keys=free_keys or isinstance(key, str))
    if isinstance(key, str):
        return _plain_str(key, path)
    name = type(key).__qualname__
    if not free_keys:
        raise EncodingError(
            path,
            f"the key {key!r:.80} is of type {name}, and JSON's keys are str; "
            f"use str({name}), or annotate the value with dict[{name}, …]",
        )
    return _rich_key_text(key, path)


def _rich_key_text(key: object, path: str) -> str:
    if isinstance(key, bool) or not isinstance(key, _KEY_TYPES):
        raise EncodingError(path, f"a key of type {type(key).__qualname__} is not possible in JSON")
    if isinstance(key, int):
        return str(_plain_int(key, path))
    if isinstance(key, float):
        return repr(_plain_float(key, path))
    return cast("str", _simpler(key, path))


_KEY_TYPES: Final = (int, float, Decimal, UUID, datetime, date, time, timedelta, bytes)
