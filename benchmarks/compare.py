"""Ratios then and now: `python -m benchmarks.compare FILE`, beside the committed results.

Only ratios to a yardstick of the same run are compared, since rates say more about the machine. The
short forms are compared with short forms where the committed results have them. What lies wholly
outside of the other's min to max is marked; it is a report and decides nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import results
from benchmarks.rows import ROWS, Row, label, spread_at

if TYPE_CHECKING:
    from collections.abc import Iterator


def verdict(row: Row, then: dict[str, float], now: dict[str, float]) -> str:
    """Say better or worse where the two ranges do not meet; nothing where they do."""
    if now["min"] <= then["max"] and then["min"] <= now["max"]:
        return ""
    grew = now["min"] > then["max"]
    return "WORSE" if grew == row.less_is_better else "better"


def lines(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each ratio that both have."""
    yield f"{'ratio to its yardstick':68} {'then':>24} {'now':>24}"
    for row in ROWS:
        if not row.ratio or row.script not in then or row.script not in now:
            continue
        try:
            before = spread_at(then[row.script], row.ratio)
        except LookupError:  # the row is newer than the committed results
            continue
        try:
            after = spread_at(now[row.script], row.ratio)
        except LookupError:
            if not row.optional:
                raise
            continue
        mark = verdict(row, before, after)
        name = f"{row.script}: {label(row, now[row.script]).replace('`', '')}"[:68]
        yield f"{name:68} {_shown(before):>24} {_shown(after):>24} {mark}".rstrip()


def _shown(spread: dict[str, float]) -> str:
    return "{median:.3g} ({min:.3g}–{max:.3g})".format(**spread)


def report(now: results.Results) -> str:
    """Return the comparison of what was just taken with the committed results."""
    kept = results.read()
    quick = now[results.QUICK]
    if not quick:
        return "\n".join(lines(kept[results.FULL], now[results.FULL]))
    like = kept[results.QUICK]
    note = "" if like else "(short forms, beside full ones: differences of size show too)\n"
    return note + "\n".join(lines(like or kept[results.FULL], quick))


def main() -> None:
    print(report(results.read(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
