"""Write the figures of `results.json` into docs/benchmarks.md: `python -m benchmarks.table`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from benchmarks.report import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS: Final = ROOT / "benchmarks" / "results.json"
PAGE: Final = ROOT / "docs" / "benchmarks.md"
_PLACE: Final = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)

# (label, figure, yardstick's label, yardstick, ratio) a row, by script
_Row = tuple[str, str, str, str, str]
_ROWS: Final[dict[str, tuple[_Row, ...]]] = {
    "http_triggers": (
        (
            "durable triggers over HTTP, 64 connections",
            "trigger_per_s",
            "bare Starlette JSON echo",
            "echo_per_s",
            "trigger_to_echo",
        ),
        (
            "`GET /runs/{runId}`, 64 connections",
            "get_run_per_s",
            "bare Starlette GET",
            "plain_get_per_s",
            "get_run_to_plain_get",
        ),
        ("runs behind these triggers, to their end", "runs_per_s", "", "", ""),
    ),
    "http_guard": tuple(
        (
            f"requests through the guard, {what}",
            f"{name}_per_s",
            "uvicorn's own protocol",
            f"{name}_bare_per_s",
            f"{name}_to_bare",
        )
        for name, what in (
            ("one_connection", "1 connection"),
            ("many_connections", "64 connections"),
            ("with_body", "64 connections, a body of 1 KB"),
        )
    ),
    "in_process": tuple(
        (
            f"runs of three steps, {n:,} in flight",
            f"runs_per_s_{n}",
            f"a bare loop, {what}",
            f"bare_{name}_per_s_{n}",
            f"runs_{n}_to_bare_{name}",
        )
        for n in (1, 64, 1000)
        for name, what in (("task", "a task a run"), ("send", "driven by `send`"))
    ),
    "fan_out": (
        (
            "events delivered to {subscribers:,} subscribers, one by one",
            "delivered_per_s",
            "plain ASGI `send`",
            "plain_delivered_per_s",
            "to_plain",
        ),
        (
            "the same, a burst of {burst_events} events",
            "burst_delivered_per_s",
            "plain ASGI `send`",
            "plain_burst_delivered_per_s",
            "burst_to_plain",
        ),
    ),
    "recovery": (
        (
            "records recovered ({records:,} of them)",
            "records_per_s",
            "reading and parsing alone",
            "read_records_per_s",
            "to_reading",
        ),
    ),
}


def table(results: dict[str, Any]) -> str:
    """Return the figures and where they were taken, as Markdown."""
    figures = results["figures"]
    return "\n".join([*_surroundings(results), "", *_rows(figures), *_instructions(figures)])


def _surroundings(results: dict[str, Any]) -> Iterator[str]:
    machine, versions = results["machine"], results["versions"]
    yield (
        f"Taken at commit `{results['commit']}` on {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_gib']} GiB, {machine['file_system']}, Linux {machine['kernel']}, with "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
    )
    yield ""
    yield f"Durability: {results['durability']}."


def _rows(figures: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield "| a second | median (min–max) | p50 / p99 | beside it, same run | ratio (min–max) |"
    yield "|---|---|---|---|---|"
    for script, rows in _ROWS.items():
        of = figures.get(script)
        if of is None:
            continue
        for label, figure, beside, yardstick, ratio in rows:
            cells = (
                label.format(**of) if "{" in label and "}`" not in label else label,
                _range(of[figure]),
                _latency(of[figure]),
                f"{beside}: {_range(of[yardstick])}" if yardstick else "",
                _range(of[ratio]) if ratio else "",
            )
            yield f"| {' | '.join(cells)} |"


def _instructions(figures: dict[str, dict[str, Any]]) -> Iterator[str]:
    of = figures.get("instructions")
    if of is None:
        return
    yield ""
    yield (
        "A run of three steps takes {instructions_per_run_64:,} bytecode instructions of Python in "
        "{calls_per_run_64:,} calls with 64 in flight, {instructions_per_run_1:,} in "
        "{calls_per_run_1:,} alone.".format(**of)
    )


def _range(spread: dict[str, Any]) -> str:
    return "{median:,} ({min:,}–{max:,})".format(**spread)


def _latency(figure: dict[str, Any]) -> str:
    if "p50_ms" not in figure:
        return ""
    return f"{figure['p50_ms']['median']:,} / {figure['p99_ms']['median']:,} ms"


def write() -> None:
    """Put the table into the page."""
    results = json.loads(RESULTS.read_bytes())
    page = PAGE.read_text(encoding="utf-8")
    shown = table(results)
    PAGE.write_text(_PLACE.sub(lambda m: m[1] + shown + "\n" + m[2], page), encoding="utf-8")


if __name__ == "__main__":
    write()
