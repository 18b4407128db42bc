"""JSON at the border of a run: what comes in, what is recorded, what comes back.

- `parse_json`: a request's body as JSON's own types, refused if it is not what we can keep exactly;
- `encode`, `args_hash` (encoding.py): a value as bytes, or the path to what is not JSON;
- `Converter` (converter.py): those bytes as the value that an annotation asks for;
- `encode_error`, `decode_step_error`, `public_error` (failures.py): the same for exceptions.

What a workflow sees of a value is always the decoded copy: on the first run what a replay would
give.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate
from typing import Any, Final

import orjson

from stepflow.errors import EncodingError, InvalidInputError
from stepflow.model.converter import PLAIN, Converter
from stepflow.model.encoding import args_hash, encode
from stepflow.model.failures import RemoteCause, decode_step_error, encode_error, public_error

__all__ = [
    "PLAIN",
    "Converter",
    "EncodingError",
    "RemoteCause",
    "args_hash",
    "decode_step_error",
    "encode",
    "encode_error",
    "parse_json",
    "public_error",
]

_LONG_NUMBER: Final = b"0" * 19
"""Fewer digits always fit into 64 bits."""
_DIGITS: Final = bytes.maketrans(b"123456789", b"0" * 9)
_NUMBER: Final = re.compile(rb"-?[0-9]+(?P<float>[.eE][0-9.eE+-]*)?")
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_INT_CHARS_MAX: Final = 20
_ONE_BRACKET: Final = bytes.maketrans(b"{}", b"[]")
_STEPS: Final = bytes.maketrans(b"[]", b"\x01\xff")
_NO_BRACKET: Final = bytes(set(range(256)) - set(b'[]{}"'))


def parse_json(body: bytes, *, depth_max: int = 64) -> Any:
    """Return the body as JSON's own types; an empty one is `None`. A repeated key: the last wins.

    Raises `InvalidInputError` for what is not JSON in UTF-8, for nesting beyond `depth_max`, and
    for integers beyond 64 bits, which would lose their last digits.
    """
    if not body:
        return None
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(_complaint(error, depth_max)) from None
    # Cheap on an ordinary body: the exact checks are for those that may have something to find.
    if len(body) > 2 * depth_max and body.count(b"[") + body.count(b"{") > depth_max:
        _check_depth(body, depth_max)
    if body.translate(_DIGITS).find(_LONG_NUMBER) >= 0:
        _check_integers(_outside_strings(_unescaped(body)))
    return value


def _complaint(error: orjson.JSONDecodeError, depth_max: int) -> str:
    if "depth limit" in error.msg:
        return _too_deep(depth_max)
    return f"The body is not JSON: {error}"


def _too_deep(depth_max: int) -> str:
    return f"The body is nested deeper than {depth_max} levels"


def _unescaped(body: bytes) -> bytes:
    """Return valid JSON in which every quote begins or ends a string."""
    if b"\\" not in body:
        return body
    # Escaped backslashes first: a backslash that is left before a quote escapes it.
    return body.replace(b"\\\\", b"").replace(b'\\"', b"")


def _outside_strings(text: bytes) -> bytes:
    return b" ".join(text.split(b'"')[::2])


def _check_depth(body: bytes, depth_max: int) -> None:
    """Go up at each opening bracket and down at each closing one; one pass, however deep."""
    brackets = _unescaped(body).translate(_ONE_BRACKET, _NO_BRACKET)
    # Two quotes side by side hold no bracket: without them few strings are left to cut out.
    brackets = _outside_strings(brackets.replace(b'""', b"")).replace(b" ", b"")
    steps = array("b", brackets.translate(_STEPS))
    if max(accumulate(steps), default=0) > depth_max:
        raise InvalidInputError(_too_deep(depth_max))


def _check_integers(outside: bytes) -> None:
    for match in _NUMBER.finditer(outside):
        text = match[0]
        if match["float"] or len(text) < _INT_CHARS_MAX - 1:
            continue
        # The length first: reading thousands of digits takes time, and Python refuses it.
        if len(text) > _INT_CHARS_MAX or not _INT_MIN <= int(text) <= _INT_MAX:
            shown = text[:24].decode() + ("…" if len(text) > 24 else "")
            raise InvalidInputError(f"The integer {shown} is beyond 64 bits; send it as a string")
