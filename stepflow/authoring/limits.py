"""How many runs of a workflow go on at once, and how many begin in a while.

::

    concurrency=5                                          five runs of the workflow at once
    concurrency=Concurrency(5, key="input.tenant")         five for each tenant
    concurrency=[Concurrency(100), Concurrency(5, key="input.tenant")]      both
    concurrency=Concurrency(3, name="gpu")                 three of all workflows that say so
    rate_limit=RateLimit(10, per="1m", key="input.host")   ten begin in any minute, for each host

A run that finds no room waits in a queue; nothing is refused and nothing dropped. It holds what it
got from its admission to its end, also while it sleeps or waits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import orjson

from stepflow.errors import AuthoringError
from stepflow.model.durations import Duration, format_duration, parse_duration_ms

__all__ = [
    "Concurrency",
    "Limit",
    "RateLimit",
    "key_of",
    "limits_of",
    "member_path",
    "priority_of",
]

_PATH: Final = re.compile(r"input(?:\.[^\s.]+)*")
_NAME: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_RATE: Final = re.compile(r"([1-9][0-9]{0,8})/(s|m|h|d)")
_SLOTS_MAX: Final = 1_000_000
_RATE_MAX: Final = 100_000
"""Starts in one window: the time of each is kept."""
_KEY_CHARS_MAX: Final = 256
_PRIORITY_MAX: Final = 1000


def member_path(option: str, value: object) -> tuple[str, ...]:
    """Return the members that `"input.a.b"` names. Raises `AuthoringError`."""
    if isinstance(value, str) and _PATH.fullmatch(value):
        return tuple(value.split(".")[1:])
    raise AuthoringError(
        f'{option}={value!r:.100} names no part of the input; write it like "input.tenant"'
    )


def _count(what: str, value: object, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise AuthoringError(f"{what} {value!r:.40} is not a number of runs from 1 to {most}")


def _name(value: object) -> None:
    if value is not None and not (isinstance(value, str) and _NAME.fullmatch(value)):
        raise AuthoringError(f"name={value!r:.100} is not 1 to 64 letters, digits or . _ : -")


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `limit` runs at once: of the workflow, or for each value of `key`.

    `key` names a part of the input, `"input.tenant"`. Runs whose input has no such member share one
    place of their own. Workflows that give the same `name` share the limit.
    """

    limit: int
    key: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        _count("a concurrency of", self.limit, _SLOTS_MAX)
        _name(self.name)
        if self.key is not None:
            member_path("key", self.key)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `limit` runs begin in any time as long as `per`: of the workflow, or for each `key`.

    No window, wherever it is laid, has more; what has begun is known across restarts.
    """

    limit: int
    per: Duration = "1m"
    key: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        _count("a rate of", self.limit, _RATE_MAX)
        _name(self.name)
        try:
            per_ms = parse_duration_ms(self.per)
        except ValueError as error:
            raise AuthoringError(f"per: {error}") from None
        if not per_ms:
            raise AuthoringError(f"per={self.per!r} is no time at all")
        if self.key is not None:
            member_path("key", self.key)


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of one workflow, as the engine counts it."""

    kind: Literal["concurrency", "rate"]
    id: str
    """Whose it is: runs of the same id count together."""
    count: int
    path: tuple[str, ...] | None
    per_ms: int = 0

    def __str__(self) -> str:
        each = "" if self.path is None else f" for each {'.'.join(('input', *self.path))}"
        if self.kind == "concurrency":
            return f"{self.id}: at most {self.count} at once{each}"
        return f"{self.id}: at most {self.count} begin in {format_duration(self.per_ms)}{each}"

    def key(self, value: Any) -> str:
        """Return the input's key as JSON text; empty where the limit has none."""
        return "" if self.path is None else key_of(self.path, value)


def key_of(path: tuple[str, ...], value: Any) -> str:
    """Return the member of a JSON value as JSON text, `null` where it has none such.

    Of a long one only a hash is kept: it counts, and nobody reads it.
    """
    text = orjson.dumps(_member(path, value), option=orjson.OPT_SORT_KEYS).decode()
    if len(text) <= _KEY_CHARS_MAX:
        return text
    return f'"sha256:{hashlib.sha256(text.encode()).hexdigest()}"'


def priority_of(path: tuple[str, ...], value: Any) -> int:
    """Return the whole number there, within bounds; 0 where there is none."""
    found = _member(path, value)
    if not isinstance(found, int) or isinstance(found, bool):
        return 0
    return max(-_PRIORITY_MAX, min(_PRIORITY_MAX, found))


def _member(path: tuple[str, ...], value: Any) -> Any:
    for name in path:
        value = cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
    return value


# ---------------------------------------------------------------- what the author wrote


def limits_of(workflow_id: str, concurrency: object, rate_limit: object) -> tuple[Limit, ...]:
    """Return the workflow's limits. Raises `AuthoringError`, naming the option."""
    found: list[Limit] = []
    for item in _listed(concurrency):
        each = Concurrency(item) if isinstance(item, int) and not isinstance(item, bool) else item
        if not isinstance(each, Concurrency):
            raise AuthoringError(
                f"concurrency={item!r} is not a number of runs, 1 or more, nor a Concurrency"
            )
        path = None if each.key is None else member_path("key", each.key)
        limit_id = each.name or " ".join(filter(None, (workflow_id, each.key)))
        found.append(Limit("concurrency", limit_id, each.limit, path))
    for item in _listed(rate_limit):
        rate = _rate(item)
        path = None if rate.key is None else member_path("key", rate.key)
        per_ms = parse_duration_ms(rate.per)
        parts = (rate.name or workflow_id, None if rate.name else rate.key, format_duration(per_ms))
        found.append(Limit("rate", " ".join(filter(None, parts)), rate.limit, path, per_ms))
    names = [(limit.kind, limit.id) for limit in found]
    twice = next((limit for limit in found if names.count((limit.kind, limit.id)) > 1), None)
    if twice is not None:
        raise AuthoringError(f"{twice.kind}: {twice.id!r} is limited twice; the lower limit is all")
    return tuple(found)


def _listed(value: object) -> Sequence[object]:
    if value is None:
        return ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return cast("Sequence[object]", value)
    return (value,)


def _rate(item: object) -> RateLimit:
    if isinstance(item, RateLimit):
        return item
    match = _RATE.fullmatch(item) if isinstance(item, str) else None
    if match is None:
        raise AuthoringError(
            f'rate_limit={item!r} is not written like "10/s", "100/m" or "5000/h", nor a RateLimit'
        )
    return RateLimit(int(match[1]), per=f"1{match[2]}")
