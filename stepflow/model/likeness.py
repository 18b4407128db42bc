"""Which of some names somebody may have meant. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["alike", "likeness"]

_EDITS_MAX: Final = 2
_MIDDLE_MAX: Final = 32
"""Where two names differ over more characters, they are not a slip of each other."""
_PREFIX_MIN: Final = 3


def alike(wanted: str, names: Iterable[str], limit: int = 3) -> list[str]:
    """Return the names most like the wanted one, the likest first; itself is none."""
    found = [(score, name) for name in names if (score := likeness(wanted, name)) is not None]
    return [name for _, name in sorted(found)[:limit]]


def likeness(wanted: str, name: str) -> int | None:
    """Return how far the name is from the wanted one, 0 for the same but for case and separators.

    None for another one altogether: more than two slips away, and neither the other's beginning.
    """
    if wanted == name:
        return None
    if _bare(wanted) == _bare(name):
        return 0
    edits = _edits(wanted.casefold(), name.casefold())
    if edits is not None and 3 * edits <= max(len(wanted), len(name)):
        return edits
    shorter, longer = sorted((wanted.casefold(), name.casefold()), key=len)
    if len(shorter) >= _PREFIX_MIN and longer.startswith(shorter):
        return _EDITS_MAX + 1
    return None


def _bare(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _edits(one: str, other: str) -> int | None:
    """Return how many letters to change, add, leave out or swap; None for more than two."""
    if abs(len(one) - len(other)) > _EDITS_MAX:
        return None
    begin = 0
    end = min(len(one), len(other))
    while begin < end and one[begin] == other[begin]:
        begin += 1
    one, other = one[begin:], other[begin:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    if max(len(one), len(other)) > _MIDDLE_MAX:
        return None
    distance = _distance(one, other)
    return distance if distance <= _EDITS_MAX else None


def _distance(one: str, other: str) -> int:
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
