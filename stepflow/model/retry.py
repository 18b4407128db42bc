"""Whether a failed attempt is followed by another, and how much later.

| attempt that failed | longest wait before the next |
|---|---|
| 1 | `initial` |
| n | `initial` × `factor` ** (n - 1), at most `max_delay` |

With `jitter` the wait is drawn evenly between nothing and that (full jitter), so that many steps
that failed together do not come back together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, cast

from stepflow.errors import AuthoringError, InvalidInputError, NonRetryableError
from stepflow.model.durations import Duration, parse_duration_ms

__all__ = ["DEFAULT_RETRY", "RetryPolicy"]

_NEVER: Final[tuple[type[BaseException], ...]] = (
    NonRetryableError,
    AuthoringError,  # its subclass EncodingError too
    InvalidInputError,
    NameError,
    ImportError,
    NotImplementedError,
)
"""Trying again cannot help: the code or its input is wrong, not the moment."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a step is tried and how long it waits in between.

    `max_attempts` counts the first one. `non_retryable` lists exception classes after which there
    is no further attempt.
    """

    max_attempts: int = 4
    initial: Duration = "1s"
    factor: float = 2.0
    max_delay: Duration = "1m"
    jitter: bool = True
    non_retryable: tuple[type[BaseException], ...] = ()
    initial_ms: int = field(init=False, repr=False, compare=False)
    max_delay_ms: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_attempts(self.max_attempts)
        _check_factor(self.factor)
        object.__setattr__(self, "non_retryable", _classes(self.non_retryable))
        object.__setattr__(self, "initial_ms", _ms("initial", self.initial))
        object.__setattr__(self, "max_delay_ms", _ms("max_delay", self.max_delay))

    def delay_ms(self, attempt: int, rnd: float) -> int:
        """Return the wait after `attempt` (from 1) failed; `rnd` is drawn evenly from [0, 1)."""
        longest = self._longest_ms(attempt)
        return int(longest * rnd) if self.jitter else int(longest)

    def is_retryable(self, exc: BaseException) -> bool:
        """Say whether another attempt after `exc` could help.

        A group is not retryable when anything in it is not.
        """
        if isinstance(exc, BaseExceptionGroup):
            parts = cast("BaseExceptionGroup[BaseException]", exc).exceptions
            return all(map(self.is_retryable, parts))
        if not isinstance(exc, Exception):
            return False
        return not isinstance(exc, _NEVER + self.non_retryable)

    def _longest_ms(self, attempt: int) -> float:
        if self.initial_ms == 0:
            return 0
        try:
            grown = self.initial_ms * self.factor ** (attempt - 1)
        except OverflowError:
            return self.max_delay_ms
        return min(grown, self.max_delay_ms)


def _check_attempts(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"max_attempts={value!r} is not an integer")
    if value < 1:
        raise ValueError(f"max_attempts={value} is below 1; the first attempt counts")


def _check_factor(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"factor={value!r} is not a number")
    if not math.isfinite(value) or value < 1:
        raise ValueError(f"factor={value} is not 1 or more; 1 keeps the wait the same")


def _ms(name: str, value: Duration) -> int:
    try:
        return parse_duration_ms(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _classes(value: object) -> tuple[type[BaseException], ...]:
    many = isinstance(value, tuple | list)
    return tuple(map(_exception_class, cast("tuple[object, ...]", value if many else (value,))))


def _exception_class(item: object) -> type[BaseException]:
    if isinstance(item, type) and issubclass(item, BaseException):
        return item
    raise TypeError(f"non_retryable: {item!r} is not an exception class")


DEFAULT_RETRY: Final = RetryPolicy()
"""Four attempts: three retries, after at most 1, 2 and 4 seconds."""
