"""How many streams are open, and how many may be: in all, of one run, by one caller.

A bound on all keeps room for everybody else's requests. The others keep one page or one key from
taking that up: a caller is a key, or the subject of a JWT; callers by a public access token count
together by what the token is for. Where the host lets in everybody there are no callers to tell
apart.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from stepflow.errors import RateLimitedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Generator, Hashable

    from stepflow.auth.principal import Principal
    from stepflow.config import Settings

__all__ = ["OpenStreams"]

_COME_BACK_S: Final = 5
_SPREAD: Final = 64
"""Streams that were opened together end in so many portions."""


class OpenStreams:
    """Counts the streams of one application."""

    __slots__ = ("_by", "_opened", "_settings", "count")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._by: Counter[Hashable] = Counter()
        self._opened = 0
        self.count = 0
        """How many are open."""

    @contextmanager
    def enter(self, principal: Principal, run_id: str = "") -> Generator[float | None]:
        """Count a stream while it is open, of that run or of all; yield for how long it may be.

        Raises `UnavailableError` where there are too many in all, else `RateLimitedError`.
        """
        settings = self._settings
        if self.count >= settings.streams_max:
            message = f"{self.count} streams are open, and no more are served here at once"
            raise UnavailableError(message, retry_after_s=_COME_BACK_S)
        whose = self._checked(("run", run_id) if run_id else None, settings.streams_per_run_max)
        whose += self._checked(_caller(principal), settings.streams_per_key_max)
        self.count += 1
        self._opened += 1
        self._by.update(whose)
        try:
            yield self._age_s()
        finally:
            self.count -= 1
            for each in whose:
                self._by[each] -= 1
                if not self._by[each]:
                    del self._by[each]

    def _checked(self, whose: tuple[str, Hashable] | None, most: int) -> list[Hashable]:
        if whose is None:
            return []
        if self._by[whose] >= most:
            what = "this run" if whose[0] == "run" else "this credential"
            message = f"{what} has {most} open streams already: close some, or share one"
            raise RateLimitedError(message, retry_after_s=_COME_BACK_S)
        return [whose]

    def _age_s(self) -> float | None:
        """Return a lease that is up to a tenth shorter than the longest, in turn."""
        longest_s = self._settings.stream_age_s
        return longest_s * (1 - self._opened % _SPREAD / (10 * _SPREAD)) if longest_s else None


def _caller(principal: Principal) -> tuple[str, Hashable] | None:
    match principal.kind:
        case "anonymous":
            return None
        case "token" if principal.one_run:
            # The run's own bound is meant for these.
            return None
        case "token":
            return ("token", principal.tag or principal.run_ids)
        case _:
            return ("by", principal.id)
