"""What may happen to a run from outside, as text and as moves. PURE.

A **schedule** is a row of moves, each at a place in the row of records that the runs write::

    kill before record 5      the process dies as record 5 is about to reach the disk: it does not
    kill after record 5       record 5 is on disk, and nothing that rests on it has begun
    send paid-1 after record 3
    send paid-1 last          only when nothing else can happen: after every timeout
    cancel after record 4
    pause after record 4      and it goes on when nothing else moves
    retry when it has failed  or was cancelled, once
    replay after every result

Moves come one after another, `; ` between them; the empty text means that nothing goes wrong and
each event comes when it is waited for. Of two events of one id the second is `paid-1#2`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Move", "Schedule", "following", "parse", "text_of"]

MoveKind = Literal[
    "kill-before", "kill-after", "send", "cancel", "hold", "replay", "pause", "retry", "fork"
]

_AT: Final = r"(?P<at>[1-9][0-9]{0,8})"
_PATTERNS: Final[tuple[tuple[MoveKind, re.Pattern[str]], ...]] = (
    ("kill-before", re.compile(rf"kill before record {_AT}")),
    ("kill-after", re.compile(rf"kill after record {_AT}")),
    ("send", re.compile(rf"send (?P<event>\S+) after record {_AT}")),
    ("hold", re.compile(r"send (?P<event>\S+) last")),
    ("cancel", re.compile(rf"cancel after record {_AT}")),
    ("replay", re.compile(r"replay after every result")),
    ("pause", re.compile(rf"pause after record {_AT}")),
    ("retry", re.compile(r"retry when it has failed")),
    ("fork", re.compile(r"fork from (?P<event>\S+) when it has ended")),
)


_WORDS: Final[dict[MoveKind, str]] = {
    "kill-before": "kill before record {at}",
    "kill-after": "kill after record {at}",
    "send": "send {event} after record {at}",
    "hold": "send {event} last",
    "cancel": "cancel after record {at}",
    "replay": "replay after every result",
    "pause": "pause after record {at}",
    "retry": "retry when it has failed",
    "fork": "fork from {event} when it has ended",
}


@dataclass(frozen=True, slots=True)
class Move:
    """One thing that happens to the run.

    `event` is the label of an event in the list of events; of a fork it is the key of a step.
    """

    kind: MoveKind
    at: int = 0
    event: str = ""

    def __str__(self) -> str:
        """Return it in the words that `parse` reads."""
        return _WORDS[self.kind].format(at=self.at, event=self.event)

    @property
    def kills(self) -> bool:
        """Whether the process dies of it."""
        return self.kind in {"kill-before", "kill-after"}


Schedule = tuple[Move, ...]


def text_of(schedule: Schedule) -> str:
    """Return the schedule in words."""
    return "; ".join(map(str, schedule))


def parse(text: str, events: Sequence[str]) -> Schedule:
    """Return the schedule that `text` says. Raises `ValueError` that names what is not a move."""
    return tuple(_parse(part.strip(), events) for part in text.split(";") if part.strip())


def _parse(text: str, events: Sequence[str]) -> Move:
    for kind, pattern in _PATTERNS:
        found = pattern.fullmatch(text)
        if found is None:
            continue
        groups = found.groupdict()
        event = groups.get("event") or ""
        if kind != "fork" and event and event not in events:
            known = ", ".join(events) or "none"
            message = f"{text!r}: there is no event {event!r} in events=; there are: {known}"
            raise ValueError(message)
        return Move(kind, int(groups.get("at") or 0), event)
    message = (
        f"{text!r} is no move; moves are: kill before record N, kill after record N, "
        "send EVENT after record N, send EVENT last, cancel after record N, "
        "replay after every result, pause after record N, retry when it has failed, "
        "fork from STEP when it has ended"
    )
    raise ValueError(message)


def following(
    schedule: Schedule,
    groups: Sequence[int],
    events: Sequence[str],
    *,
    cancel: bool,
    operators: bool = False,
    steps: Sequence[str] = (),
) -> Iterator[Schedule]:
    """Yield the schedules with one move more. `steps`: the keys to fork from.

    `groups`: the number of the last record of each group that the runs wrote under `schedule`; a
    group is on disk whole or not at all. Moves stand in the order of their places, so that no
    schedule comes twice.
    """
    last = schedule[-1] if schedule else None
    if last is not None and last.kind == "replay":
        return
    placed = {move.event for move in schedule}
    free = [event for event in events if event not in placed]
    if last is None:
        yield (Move("replay"),)
    if all(move.kind == "hold" for move in schedule):
        after = events.index(last.event) if last is not None else -1
        for event in free:
            if events.index(event) > after:
                yield (*schedule, Move("hold", 0, event))
        if operators:
            yield (*schedule, Move("retry"))
        # A key that a schedule's text cannot hold is left out.
        forks = (key for key in steps if re.fullmatch(r"[^\s;]+", key))
        yield from ((*schedule, Move("fork", 0, key)) for key in forks)
    acts: list[MoveKind] = []
    if cancel and all(move.kind != "cancel" for move in schedule):
        acts.append("cancel")
    if operators and all(move.kind != "pause" for move in schedule):
        acts.append("pause")
    begin = 1
    for end in groups:
        yield from ((*schedule, move) for move in _at(begin, end, last, free, acts))
        begin = end + 1


def _at(
    begin: int, end: int, last: Move | None, free: Sequence[str], acts: Sequence[MoveKind]
) -> Iterator[Move]:
    """Yield the moves that may come at the group of the records from `begin` to `end`."""
    place = last.at if last is not None else 0
    if begin > 1 and begin > place:
        yield Move("kill-before", begin)
    if end > place or (end == place and last is not None and not last.kills):
        yield Move("kill-after", end)
    if end >= place:
        for event in free:
            yield Move("send", end, event)
        for kind in acts:
            yield Move(kind, end)
