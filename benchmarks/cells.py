"""How figures are written in the tables of the documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

NOT_YET: Final = "Not measured yet."

Figures = dict[str, dict[str, Any]]


def number(value: float) -> str:
    """Return three digits or more, with thousands apart."""
    if value >= 100 or value == int(value):
        return f"{round(value):,}"
    return f"{value:.3g}"


def spread(of: dict[str, float]) -> str:
    """Return `median (min–max)`, or the one number that all three are."""
    if of["min"] == of["max"]:
        return number(of["median"])
    return f"{number(of['median'])} ({number(of['min'])}–{number(of['max'])})"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table, or that there is nothing for it yet."""
    if not rows:
        return NOT_YET
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latency(figure: Any) -> str:
    """Return `p50 / p99` in milliseconds of a figure that has them."""
    if not isinstance(figure, dict) or "p50_ms" not in figure:
        return ""
    return f"{number(figure['p50_ms']['median'])} / {number(figure['p99_ms']['median'])}"
