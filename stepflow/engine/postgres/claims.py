"""A claim as the database gives it: who may write a run, and what it is, in one trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stepflow.engine.postgres.history import line_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

__all__ = ["CLAIM", "Claim", "channel_of", "claim_of"]

CLAIM: Final = "select * from stepflow.claim(%s, %s, %s)"


class Claim(NamedTuple):
    """A run that this worker may write."""

    run_id: str
    holder: UUID
    suspicions: int = 0
    condition: str = ""
    reason: str = ""
    line: bytes | None = None
    """The run as a snapshot's line; None of a long one: it is read by itself."""
    letters: Sequence[tuple[str, int, str, bytes]] = ()


def claim_of(row: tuple[Any, ...]) -> Claim:
    """Return the claim of a row of `stepflow.claim`."""
    run_id, holder, suspicions, condition, reason, rs, lsn, crc, data, *letters = row
    line = None
    if rs is not None:
        line = line_of(run_id, list(zip(rs, lsn, crc, map(bytes, data), strict=True)), {})
    n, kind, body = (column or () for column in letters)
    read = [(run_id, *letter) for letter in zip(n, kind, map(bytes, body), strict=True)]
    return Claim(run_id, holder, suspicions, condition, reason, line, read)


def channel_of(worker: str) -> str:
    """Return where a worker is told of work and of letters, as `stepflow.tell` has it."""
    return f"stepflow@{worker}"
