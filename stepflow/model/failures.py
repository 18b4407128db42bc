"""An exception as JSON, and back.

::

    {"type": "ValueError", "message": "no such card", "step": "charge", "attempts": 4,
     "data": {"card": "c-1"}, "causes": [{"type": "KeyError", "message": "'c-1'"}],
     "traceback": "Traceback (most recent call last): …"}

`type` and `message` are always there. Callers over HTTP get the first four (`public_error`), and
a run's `compensation`: which of its steps could not be undone, each with its name, key and error.
Nothing is imported from data: what comes back is a `StepFailedError` whose `__cause__` is a
stand-in that knows the type's name, live and on replay alike.
"""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from stepflow.errors import StepFailedError, StepInterruptedError
from stepflow.model.encoding import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["RemoteCause", "decode_step_error", "encode_error", "is_error", "public_error"]
__all__ += ["with_compensation", "without_compensation"]

_MESSAGE_BYTES_MAX: Final = 4096
_DATA_BYTES_MAX: Final = 64 * 1024
_CAUSES_MAX: Final = 5
_NOT_UNDONE_MAX: Final = 100
_NOT_UNDONE_BYTES_MAX: Final = 512
_COMPENSATION: Final = ("compensation", "compensationMore")
_PUBLIC: Final = ("step", "attempts", *_COMPENSATION)
_NAME_CHARS_MAX: Final = 256
_UNSAFE: Final = re.compile("[\\0\ud800-\udfff]")
_CUT: Final = "\n… cut …\n"


class RemoteCause(Exception):  # noqa: N818  it stands in for an error, it is not one of ours
    """Stands in for a recorded exception: `.type` is its class name, `.message` its text."""

    def __init__(self, type: str, message: str) -> None:
        self.type = type
        self.message = message
        super().__init__(type, message)

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


def encode_error(
    exc: BaseException,
    *,
    step: str | None = None,
    attempts: int | None = None,
    traceback_bytes_max: int = 16_384,
) -> bytes:
    """Return `exc` as JSON bytes, whatever its `__str__` does. Never raises.

    A failed step that nobody caught is told as the step's own error. So is one that comes alone in
    a group: a TaskGroup wraps even a single failure.
    """
    try:
        told = _told(exc, traceback_bytes_max)
    except Exception:  # noqa: BLE001  the border to user code; what is below is plain text
        told = dict[str, Any](type=_clean(type(exc).__name__), message="it could not be encoded")
    if step is not None:
        told["step"] = _clean(step)
    if attempts is not None:
        told["attempts"] = attempts
    return bytes(memoryview(orjson.dumps(told)))


def decode_step_error(name: str, data: bytes) -> StepFailedError:
    """Return the error of the step `name` as its caller gets it."""
    told = orjson.loads(data)
    error_type, message = told.get("type", "Exception"), told.get("message", "")
    error = StepFailedError(name, error_type, message, told.get("attempts", 1), told.get("data"))
    error.__cause__ = stand_in = RemoteCause(error_type, message)
    for cause in told.get("causes", ()):
        stand_in.__cause__ = RemoteCause(cause["type"], cause["message"])
        stand_in = stand_in.__cause__
    return error


def is_error(data: bytes) -> bool:
    """Say whether the bytes are an error as `encode_error` makes them."""
    try:
        told: Any = orjson.loads(data)
    except ValueError:
        return False
    return _is_told(told) and all(_is_told(cause) for cause in _list_of(told, "causes"))


def _is_told(told: Any) -> bool:
    if not isinstance(told, dict):
        return False
    members = cast("dict[str, Any]", told)
    return (
        isinstance(members.get("type"), str)
        and isinstance(members.get("message"), str)
        and isinstance(members.get("step", ""), str)
        and isinstance(members.get("attempts", 1), int)
        and isinstance(members.get("causes", []), list)
    )


def _list_of(told: dict[str, Any], name: str) -> list[Any]:
    found: list[Any] = told.get(name, [])
    return found


def public_error(data: bytes) -> bytes:
    """Return what callers over HTTP see of an encoded error: all but data, causes, traceback."""
    told = orjson.loads(data)
    public = {"type": told.get("type", "Exception"), "message": told.get("message", "")}
    public |= {key: told[key] for key in _PUBLIC if key in told}
    return bytes(memoryview(orjson.dumps(public)))


def with_compensation(data: bytes, rows: Sequence[tuple[str, str, str, str]]) -> bytes:
    """Return the run's error with the steps that were not undone.

    Each is its name, its key, and the type and message of the error. The first hundred are told,
    and how many there are more.
    """
    told = orjson.loads(data)
    told["compensation"] = [
        {
            "name": name,
            "key": key,
            "error": {
                "type": _clean(error_type)[:_NAME_CHARS_MAX],
                "message": _cut(_clean(message), _NOT_UNDONE_BYTES_MAX),
            },
        }
        for name, key, error_type, message in rows[:_NOT_UNDONE_MAX]
    ]
    if len(rows) > _NOT_UNDONE_MAX:
        told["compensationMore"] = len(rows) - _NOT_UNDONE_MAX
    return bytes(memoryview(orjson.dumps(told)))


def without_compensation(data: bytes) -> bytes:
    """Return the error of a child as its parent's: what the child has not undone is the child's."""
    if b'"compensation"' not in data:
        return data
    told = orjson.loads(data)
    for name in _COMPENSATION:
        told.pop(name, None)
    return bytes(memoryview(orjson.dumps(told)))


# ---------------------------------------------------------------- what is told


def _told(exc: BaseException, traceback_bytes_max: int) -> dict[str, Any]:
    inner = _unwrapped(exc)
    told = _of_step(inner) if isinstance(inner, StepFailedError) else _of(inner)
    if isinstance(inner, StepInterruptedError):
        told["step"] = _clean(str(inner.name))
    causes = [_brief(cause) for cause in _causes(inner)]
    if causes:
        told["causes"] = causes
    text = _quietly(lambda: _traceback(exc), "")
    if text:
        told["traceback"] = _cut_middle(_clean(text), traceback_bytes_max)
    return told


def _of(exc: BaseException) -> dict[str, Any]:
    told: dict[str, Any] = _brief(exc)
    data = _quietly(lambda: getattr(exc, "data", None), None)
    encoded = b"null" if data is None else _quietly(lambda: encode(data, "data"), b"null")
    if encoded != b"null" and len(encoded) <= _DATA_BYTES_MAX:
        told["data"] = orjson.Fragment(encoded)
    return told


def _of_step(exc: StepFailedError) -> dict[str, Any]:
    told = _of(exc)
    told["type"] = _clean(str(exc.error_type))[:_NAME_CHARS_MAX]
    told["message"] = _cut(_clean(str(exc.message)))
    told["step"] = _clean(str(exc.name))
    told["attempts"] = int(exc.attempts)
    return told


def _brief(exc: BaseException) -> dict[str, Any]:
    if isinstance(exc, RemoteCause):
        return {"type": exc.type, "message": exc.message}
    return {"type": _clean(type(exc).__name__)[:_NAME_CHARS_MAX], "message": _message(exc)}


def _message(exc: BaseException) -> str:
    text = _quietly(lambda: str(exc), "its text could not be made: __str__ failed")
    if isinstance(exc, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", exc)
        parts = (f"{type(leaf).__name__}: {_message(leaf)}" for leaf in _leaves(group))
        text = f"{text}: {'; '.join(parts)}"
    return _cut(_clean(text))


def _unwrapped(exc: BaseException) -> BaseException:
    """Return the only exception in a group, or `exc`."""
    leaves = list(_leaves(exc))
    return leaves[0] if len(leaves) == 1 else exc


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for part in cast("BaseExceptionGroup[BaseException]", exc).exceptions:
            yield from _leaves(part)
    else:
        yield exc


def _causes(exc: BaseException) -> list[BaseException]:
    """Return what led to `exc`, nearest first: a group's members, then the chain."""
    leaves = list(_leaves(exc))
    found = leaves[:_CAUSES_MAX] if len(leaves) > 1 else []
    seen = {id(exc), *map(id, found)}
    cause = _cause(exc)
    if isinstance(exc, StepFailedError) and isinstance(cause, RemoteCause):
        cause = _cause(cause)  # the first stand-in says what `type` and `message` say
    while cause is not None and id(cause) not in seen and len(found) < _CAUSES_MAX:
        seen.add(id(cause))
        found.append(cause)
        cause = _cause(cause)
    return found


def _cause(exc: BaseException) -> BaseException | None:
    if exc.__cause__ is not None or exc.__suppress_context__:
        return exc.__cause__
    return exc.__context__


# ---------------------------------------------------------------- text that is safe to keep


def _traceback(exc: BaseException) -> str:
    return "".join(traceback.format_exception(exc))


def _quietly(make: Callable[[], Any], default: Any) -> Any:
    try:
        return make()
    except BaseException:  # noqa: BLE001  a __str__ may raise SystemExit too; nothing awaits here
        return default


def _clean(text: str) -> str:
    """Replace lone surrogates, which are not UTF-8, and NULs, which many stores refuse."""
    return _UNSAFE.sub("�", text)


def _cut(text: str, nbytes: int = _MESSAGE_BYTES_MAX) -> str:
    encoded = text.encode()
    if len(encoded) <= nbytes:
        return text
    return encoded[: nbytes - len("…".encode())].decode(errors="ignore") + "…"


def _cut_middle(text: str, nbytes: int) -> str:
    """Keep the beginning and, more of it, the end: there stands what went wrong."""
    encoded = text.encode()
    if len(encoded) <= nbytes:
        return text
    room = max(nbytes - len(_CUT.encode()), 0)
    head = encoded[: room // 4].decode(errors="ignore")
    tail = encoded[len(encoded) - (room - room // 4) :].decode(errors="ignore")
    return head + _CUT + tail
