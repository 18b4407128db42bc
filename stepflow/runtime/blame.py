"""Which calls a run's failure goes back to, and what its body asked for while it handled that.

A retry of the run makes the first again and forgets the second. Both are written on the exceptions
themselves, where the body hears of a failure and where it asks for something inside an `except`, a
`finally` or an `__aexit__`; so it holds whatever the body wraps them in.
"""

from __future__ import annotations

from asyncio import CancelledError
from sys import exception
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepflow.runtime.session import Session

__all__ = ["blame", "note_cleanup", "whose"]

_KEY: Final = "_stepflow_key"
_CLEANUP: Final = "_stepflow_cleanup"
_LINKS_MAX: Final = 1000
"""Of causes and groups: nobody writes so many on purpose."""


def blame(error: BaseException, key: str) -> None:
    """Write on the error which call's failure it is."""
    vars(error)[_KEY] = key


def note_cleanup(session: Session, key: str) -> None:
    """The body asks for `key` while it handles an exception."""
    error = exception()
    assert error is not None
    if isinstance(error, CancelledError):
        # One task of many was cancelled: whether the run's failure did that is seen at its end.
        session.cut_short.append(key)
        return
    for each in _leaves(error):
        vars(each).setdefault(_CLEANUP, []).append(key)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    # `except*` hands out groups of its own making: only what is in them stays the same.
    members = _members(error)
    if members is None:
        yield error
        return
    for each in members:
        yield from _leaves(each)


def _members(error: BaseException) -> tuple[BaseException, ...] | None:
    """Return what is in a group; None for an exception that is none."""
    if not isinstance(error, BaseExceptionGroup):
        return None
    return cast("BaseExceptionGroup[BaseException]", error).exceptions


def whose(error: BaseException) -> tuple[list[str], list[str]]:
    """Return the keys of the calls whose failure this is, and those of their handling."""
    failed: dict[str, None] = {}
    cleanup: dict[str, None] = {}
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left and len(seen) < _LINKS_MAX:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        told = vars(each)
        cleanup.update(dict.fromkeys(told.get(_CLEANUP, ())))
        if _KEY in told:
            # What lies behind it was handled: the body went on to make this call.
            failed[told[_KEY]] = None
        else:
            left += _members(each) or (each.__cause__ or each.__context__,)
    return list(failed), list(cleanup)
