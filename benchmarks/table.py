"""Write the figures of `results.json` into the documents: `python -m benchmarks.table`.

A document says `<!-- results: NAME -->`, and up to `<!-- end of results -->` stands what `BLOCKS`
makes of the results under that name. A test holds that what is committed is what this writes.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

from benchmarks import cluster_tables
from benchmarks import results as kept
from benchmarks.catalog import SCRIPTS
from benchmarks.cells import NOT_YET, Figures, latency, number, spread, table
from benchmarks.charts import CHARTS, IMAGES, chart
from benchmarks.report import ROOT
from benchmarks.rows import ROWS, Row, label, spread_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGES: Final = (
    ROOT / "README.md",
    ROOT / "docs" / "benchmarks.md",
    ROOT / "docs" / "capacity.md",
    ROOT / "docs" / "performance.md",
    ROOT / "docs" / "why.md",
)
_PLACE: Final = re.compile(
    r"(<!-- results: ([a-z-]+) -->\n).*?(<!-- end of results -->)", re.DOTALL
)
_IMAGES: Final = "IMAGES/"

# ------------------------------------------------------------------------ one figure


def _label(row: Row, figures: dict[str, Any]) -> str:
    said = label(row, figures)
    return said if row.unit == "a second" else f"{said}, {row.unit}"


def _rows(figures: Figures) -> Iterator[tuple[Row, dict[str, Any]]]:
    for row in ROWS:
        if row.script not in figures:
            continue
        try:
            for place in filter(None, (row.figure, row.yardstick, row.ratio)):
                spread_at(figures[row.script], place)
        except LookupError:  # newer than the committed results
            continue
        yield row, figures[row.script]


def _ratio(row: Row, of: dict[str, Any]) -> str:
    return spread(spread_at(of, row.ratio)) if row.ratio else ""


def _beside(row: Row, of: dict[str, Any]) -> str:
    return f"{row.beside}: {spread(spread_at(of, row.yardstick))}" if row.yardstick else ""


# ------------------------------------------------------------------------ blocks


def taken(figures: Figures) -> str:
    """Say where each was taken, once for all that were taken alike."""
    alike: dict[str, list[str]] = {}
    for script, of in figures.items():
        where = of["taken"]
        machine, versions = where["machine"], where["versions"]
        changed = " (with changes)" if where["changed_since"] else ""
        text = (
            f"at commit `{where['commit']}`{changed} on "
            f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, "
            f"{machine['file_system']}, Linux {machine['kernel']}, with "
            + ", ".join(f"{name} {version}" for name, version in versions.items())
        )
        alike.setdefault(text, []).append(f"`{script}`")
    durability = {of["taken"]["durability"] for of in figures.values()}
    lines = [f"- {', '.join(scripts)}: {text}." for text, scripts in alike.items()]
    return "\n".join([*lines, *(f"- Durability: {text}." for text in sorted(durability))])


def scripts(_: Figures) -> str:
    """Return the catalogue."""
    cells = [(f"`{s.name}`", s.measures, s.beside, number(s.minutes)) for s in SCRIPTS]
    return table(("script", "what it measures", "yardstick, in the same run", "minutes"), cells)


def everything(figures: Figures) -> str:
    """Return where they were taken, every figure, and what Python a run is."""
    head = ("a second, if no unit is given", "median (min–max)", "p50 / p99 ms")
    cells = [
        (
            _label(row, of),
            spread(spread_at(of, row.figure)),
            latency(of.get(row.figure)),
            _beside(row, of),
            _ratio(row, of),
            row.goal,
        )
        for row, of in _rows(figures)
    ]
    shown = table((*head, "beside it, same run", "ratio (min–max)", "goal"), cells)
    return "\n\n".join(filter(None, [taken(figures), shown, _instructions(figures)]))


def headlines(figures: Figures) -> str:
    """Return the README's short table."""
    cells = [
        (_label(row, of), spread(spread_at(of, row.figure)), row.beside, _ratio(row, of))
        for row, of in _rows(figures)
        if row.headline
    ]
    return table(("", "median (min–max)", "beside it, same run", "ratio"), cells)


def _instructions(figures: Figures) -> str:
    of = figures.get("instructions")
    if of is None:
        return ""
    return (
        "A run of three steps takes {instructions_per_run_64:,} bytecode instructions of Python in "
        "{calls_per_run_64:,} calls with 64 in flight, {instructions_per_run_1:,} in "
        "{calls_per_run_1:,} alone.".format(**of)
    )


def collector(figures: Figures) -> str:
    """Say which settings of the garbage collector each figure used."""
    cells = [(f"`{script}`", str(of["gc"])) for script, of in figures.items() if "gc" in of]
    return table(("script", "collector"), cells)


CURVES: Final = (
    ("run_us", "one more run, µs of CPU time"),
    ("step_us", "one more step, µs of CPU time"),
    ("waiter_us", "one more waiter, µs of CPU time"),
    ("timer_us", "one more timer, µs of CPU time"),
    ("subscriber_us", "one more subscriber, µs of CPU time"),
    ("wake_us", "one more wake-up, µs of CPU time"),
    ("get_us", "one run found by id, µs of CPU time"),
    ("bytes_a_run", "memory a run beside its payload, bytes"),
    ("snapshot_s", "a snapshot of all, s"),
    ("snapshot_stall_ms", "the loop's longest stall meanwhile, ms"),
    ("snapshot_stall_cpu_ms", "the same in its own processor time, ms"),
    ("stall_without_ms", "the longest stall without a snapshot, ms"),
    ("recovery_s", "recovery, s"),
)


def curves(figures: Figures) -> str:
    """Return what one more costs at each size."""
    if "scale" not in figures:
        return NOT_YET
    sizes = figures["scale"]["sizes"]
    cells = [
        (label, *(number(of[name]) if name in of else "" for of in sizes.values()))
        for name, label in CURVES
        if any(name in of for of in sizes.values())
    ]
    return table(("waiting runs", *(f"{int(size):,}" for size in sizes)), cells)


def tail(figures: Figures) -> str:
    """Return latency alone and while everything else goes on."""
    if "tail" not in figures:
        return NOT_YET
    of = figures["tail"]
    cells = [
        (f"{what}, {label}", *(spread(of[f"{how}_{place}_ms"]) for how in _HOWS))
        for what, place, label in (
            *(("a trigger", f"trigger_{p}", shown) for p, shown in _PERCENTILES),
            *(("a step", f"step_{p}", shown) for p, shown in _PERCENTILES),
            ("the loop", "stall", "longest stall"),
            ("the loop", "stall_cpu", "the same in its own processor time"),
        )
    ]
    return table(
        ("ms, median (min–max)", "alone", "with everything else", "while recovered runs go on"),
        cells,
    )


_HOWS: Final = ("alone", "busy", "recovering")
_PERCENTILES: Final = (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"))


def soak(figures: Figures) -> str:
    """Return how flat the soak was, and its first, middle and last minute."""
    if "soak" not in figures:
        return NOT_YET
    of = figures["soak"]
    rows, flat = of["stretches"], of["flat"]
    minutes = len(rows) * of["stretch_s"] / 60
    said = (
        f"{minutes:.0f} minutes at {of['rate_per_s']:,} runs a second, half of a peak of "
        f"{of['peak_per_s']:,}: {sum(row['runs'] for row in rows):,.0f} runs, "
        f"{sum(row['held_back'] for row in rows):,.0f} held back. Memory's slope over the last "
        f"three quarters: {flat['rss_slope_mib_an_hour']:+.2f} MiB an hour "
        f"({flat['rss_slope_percent_an_hour']:+.2f} %). The last quarter's p50 is "
        f"{flat['p50_ms_last_quarter_to_first']} of the first's, its p99 "
        f"{flat['p99_ms_last_quarter_to_first']}, its processor time a run "
        f"{flat['cpu_us_a_run_last_quarter_to_first']}."
    )
    columns = {name: head for name, head in _SOAKED.items() if name in rows[0]}
    chosen = sorted({0, len(rows) // 4, len(rows) // 2, 3 * len(rows) // 4, len(rows) - 1})
    cells = [
        (f"{(n + 1) * of['stretch_s'] / 60:.0f}", *(number(rows[n][name]) for name in columns))
        for n in chosen
    ]
    return f"{said}\n\n{table(('minute', *columns.values()), cells)}"


_SOAKED: Final = {
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "p999_ms": "p99.9 ms",
    "cpu_us_a_run": "processor µs a run",
    "stall_ms": "longest stall ms",
    "stall_cpu_ms": "in processor time",
    "rss_mib": "memory MiB",
    "disk_mib": "disk MiB",
    "load": "load",
}


def peers(figures: Figures) -> str:
    """Return every contestant's rates, and how many times ours is theirs."""
    if "peers" not in figures:
        return NOT_YET
    of = figures["peers"]
    cells = []
    for name, seen in of["contestants"].items():
        rates = [spread(seen[n]) if n in seen else "" for n in ("1", "64", "1000")]
        times = [
            " / ".join(
                number(seen[n][key]["median"]) for n in ("1", "64") if key in seen.get(n, {})
            )
            for key in ("ours_to_it", "ours_over_http_to_it")
        ]
        cells.append((name, *rates, latency(seen["1"]), *times, seen["durability"]))
    head = ("runs a second", "1 in flight", "64", "1,000", "p50 / p99 ms at 1")
    shown = table(
        (*head, "ours in process is so many times it, at 1 / 64", "ours over HTTP", "durable by"),
        cells,
    )
    versions = ", ".join(f"{name} {version}" for name, version in of["peers"].items())
    left_out = "".join(f" {name}: not measured, {why}." for name, why in of["left_out"].items())
    return f"{shown}\n\n{versions}.{left_out}"


def _image(name: str) -> Callable[[Figures], str]:
    def show(figures: Figures) -> str:
        drawn = chart(name, figures)
        return f"![{drawn.alt}]({_IMAGES}{drawn.path.name})" if drawn else NOT_YET

    return show


BLOCKS: Final[dict[str, Callable[[Figures], str]]] = (
    {
        "scripts": scripts,
        "figures": everything,
        "headlines": headlines,
        "collector": collector,
        "curves": curves,
        "tail": tail,
        "soak": soak,
        "peers": peers,
    }
    | cluster_tables.BLOCKS
    | {f"{name}-plot": _image(name) for name in CHARTS}
)


def filled(page: Path, results: kept.Results) -> str:
    """Return the page's text with its blocks as the results give them."""
    figures = results[kept.FULL]
    images = f"{IMAGES.relative_to(page.parent).as_posix()}/"

    def block(found: re.Match[str]) -> str:
        return f"{found[1]}{BLOCKS[found[2]](figures).replace(_IMAGES, images)}\n{found[3]}"

    return _PLACE.sub(block, page.read_text(encoding="utf-8"))


def stale(results: kept.Results) -> list[Path]:
    """Return the pages whose text is not what the results give."""
    return [page for page in PAGES if filled(page, results) != page.read_text(encoding="utf-8")]


def write() -> None:
    """Put the blocks into the pages."""
    results = kept.read()
    for page in stale(results):
        page.write_text(filled(page, results), encoding="utf-8")


def main() -> int:
    if "--check" not in sys.argv:
        write()
        return 0
    if pages := stale(kept.read()):
        print(f"{', '.join(page.name for page in pages)}: stale, run make bench-docs")
    return bool(pages)


if __name__ == "__main__":
    sys.exit(main())
