"""`stepflow bench`: what this machine and this disk make of it, by the installed package alone.

Runs of three steps, in this process, so many in flight at a time, in a directory that is made where
the data would lie and is removed afterwards. Beside each, in turn, what the disk itself does: 4 KiB
written to a preallocated file and synced, over and over. A ratio of two figures that were taken in
turn says more than either on a machine that does other things, too: one run at a time takes four
syncs, so 100 % is a disk that is waited for and nothing else; many in flight share theirs.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Final

import click
import msgspec

from stepflow.authoring.context import Context  # noqa: TC001  an annotation that is evaluated
from stepflow.cli.errors import USAGE, Failure, failing
from stepflow.cli.printing import print_json, print_table
from stepflow.cli.process import tune_gc
from stepflow.clock import SystemClock
from stepflow.config import Settings
from stepflow.flow import Stepflow
from stepflow.journal.disk import RealDisk, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["BenchReport", "BenchRow", "bench"]

_IN_FLIGHT: Final = (1, 64, 1000)
_IN_FLIGHT_MAX: Final = 10_000
_SYNCS_A_RUN: Final = 4
_BLOCK: Final = 4096
_FILE_BYTES: Final = 4 * 1024 * 1024
_ORDER: Final = {"userId": "user_123", "email": "user@example.com"}


class BenchRow(msgspec.Struct, rename="camel"):
    """What was measured with so many runs in flight; each the median of the rounds."""

    in_flight: int
    runs_per_s: float
    p50_ms: float
    p99_ms: float
    syncs_per_s: float
    """What the disk itself did, in turn with it."""
    syncs_per_run: float
    ratio: float
    """Runs a second, beside as many as the disk alone allows where each takes four syncs."""
    least_runs_per_s: float
    most_runs_per_s: float


class BenchReport(msgspec.Struct, rename="camel"):
    """All of it."""

    directory: str
    loop: str
    """The event loop, which is the one that `serve` would take."""
    rounds: int
    seconds: float
    rows: list[BenchRow]


@click.command()
@click.argument("directory", metavar="[DIR]", default=".")
@click.option(
    "--in-flight",
    "in_flight",
    type=click.IntRange(1, _IN_FLIGHT_MAX),
    multiple=True,
    metavar="N",
    help="Keep so many runs in flight; may be given again.  [default: 1, 64, 1000]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    default=1.0,
    show_default=True,
    help="How long each measurement takes.",
)
@click.option(
    "--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="How many of each."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(
    directory: str, in_flight: tuple[int, ...], seconds: float, rounds: int, as_json: bool
) -> None:
    """Measure runs of three steps on the disk of DIR, beside the disk's own rate.

    It makes a directory of its own in DIR, the present one unless given, and removes it again. No
    server is needed, and none is touched; one that works on the same disk at the time counts in
    both figures. By default it takes some twenty seconds.

    \b
    Examples:
      stepflow bench /var/lib/acme
      stepflow bench --in-flight 1 --seconds 5 --json
    """
    if not Path(directory).is_dir():
        raise Failure(f"there is no directory {directory}", USAGE)
    with failing(), _workplace(directory) as place:
        tune_gc()
        loop = "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"
        report = BenchReport(str(Path(directory).resolve()), loop, rounds, seconds, [])
        for count in in_flight or _IN_FLIGHT:
            report.rows.append(_measure(place, count, seconds, rounds))
    if as_json:
        print_json(report)
    else:
        _print(report)


@contextmanager
def _workplace(directory: str) -> Generator[Path]:
    try:
        made = tempfile.TemporaryDirectory(prefix="stepflow-bench-", dir=directory)
    except OSError as error:
        raise Failure(
            f"cannot make a directory in {directory}: {error.strerror}",
            USAGE,
            "give one in which you may write: stepflow bench DIR",
        ) from error
    with made as name:
        yield Path(name)


def _print(report: BenchReport) -> None:
    heading = (
        "in flight",
        "runs/s",
        "least-most",
        "p50 ms",
        "p99 ms",
        "disk syncs/s",
        "syncs/run",
        "of disk",
    )
    rows = [
        (
            f"{row.in_flight:,}",
            f"{row.runs_per_s:,.0f}",
            f"{row.least_runs_per_s:,.0f}-{row.most_runs_per_s:,.0f}",
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
            f"{row.syncs_per_s:,.0f}",
            f"{row.syncs_per_run:.2f}",
            f"{row.ratio:.0%}",
        )
        for row in report.rows
    ]
    print_table([heading, *rows])
    click.echo()
    click.echo("A run is three steps. 100 % of disk: what its syncs alone allow at four a run.")


# ------------------------------------------------------------ measuring


def _measure(place: Path, in_flight: int, seconds: float, rounds: int) -> BenchRow:
    disk: list[float] = []
    rates: list[float] = []
    syncs: list[float] = []
    times: list[float] = []
    for number in range(rounds):
        _progress(f"{in_flight:,} in flight: round {number + 1} of {rounds}")
        disk.append(_syncs_per_s(place / f"disk-{in_flight}-{number}", seconds))
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            took_ms, took_s, synced = runner.run(
                _run(place / f"runs-{in_flight}-{number}", in_flight, seconds)
            )
        rates.append(len(took_ms) / took_s)
        syncs.append(synced / len(took_ms))
        times += took_ms
    _progress("")
    cuts = quantiles(times, n=100) if len(times) > 1 else times * 99
    return BenchRow(
        in_flight=in_flight,
        runs_per_s=median(rates),
        p50_ms=cuts[49],
        p99_ms=cuts[98],
        syncs_per_s=median(disk),
        syncs_per_run=median(syncs),
        ratio=median(rate * _SYNCS_A_RUN / each for rate, each in zip(rates, disk, strict=True)),
        least_runs_per_s=min(rates),
        most_runs_per_s=max(rates),
    )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  an extra
    except ImportError:
        return None
    return uvloop.new_event_loop


def _progress(text: str) -> None:
    """Show what goes on, where somebody looks; in a pipe nothing is written."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{text}", err=True, nl=False)


def _syncs_per_s(directory: Path, seconds: float) -> float:
    """Return how often a second the disk makes 4 KiB durable, by the calls of the journal."""
    directory.mkdir()
    clock = SystemClock()
    file = RealDisk(directory).open("syncs", create=True)
    write_all(file, b"\xff" * _FILE_BYTES, 0)
    file.fsync()
    block, count, offset = os.urandom(_BLOCK), 0, 0
    began_s = clock.monotonic_s()
    while clock.monotonic_s() - began_s < seconds:
        write_all(file, block, offset)
        file.fdatasync()
        offset = (offset + _BLOCK) % _FILE_BYTES
        count += 1
    took_s = clock.monotonic_s() - began_s
    file.close()
    return count / took_s


async def _small(what: str) -> dict[str, object]:
    return {"ok": True, "what": what}


async def _run(directory: Path, in_flight: int, seconds: float) -> tuple[list[float], float, float]:
    """Keep so many in flight; return each one's milliseconds, how long it took, and the syncs."""
    flow = Stepflow(directory, settings=Settings())

    @flow.workflow("bench")
    async def three_steps(ctx: Context, user: dict[str, str]) -> dict[str, object]:
        await ctx.step("first", _small, user["userId"])
        await ctx.step("second", _small, user["email"])
        return await ctx.step("third", _small, "done")

    clock = SystemClock()
    took_ms: list[float] = []

    async def one_after_the_other() -> None:
        while (start_s := clock.monotonic_s()) - began_s < seconds:
            handle = await flow.trigger("bench", _ORDER)
            await handle.result()
            took_ms.append((clock.monotonic_s() - start_s) * 1e3)

    async with flow:
        before = flow.engine.metrics()["stepflow_journal_syncs"]
        began_s = clock.monotonic_s()
        await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
        took_s = clock.monotonic_s() - began_s
        synced = flow.engine.metrics()["stepflow_journal_syncs"] - before
    return took_ms, took_s, synced
