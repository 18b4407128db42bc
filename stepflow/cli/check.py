"""`stepflow check`: would the live runs of a directory go on with this code?"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click
import msgspec

from stepflow.cli.errors import USAGE, Failure, failing
from stepflow.cli.loader import load_or_fail
from stepflow.log import escaped_json

__all__ = ["check"]

_DIVERGES = 1


@click.command()
@click.argument("target")
@click.option("--data", metavar="DIR", help="The data directory; beats what the code says.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Look at the N oldest runs alone."
)
@click.option(
    "--within",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Be killed (SIGALRM) after so long, whatever the code does.",
)
def check(
    target: str, data: str | None, as_json: bool, limit: int | None, within: float | None
) -> None:
    """Replay every live run of DIR, dry, against the code of TARGET; one line a run.

    A server may be running on DIR: no lock is taken, nothing is written and no step is run. The
    exit status is 1 when a run diverges: it would be parked until fitting code is deployed.
    """
    if within is not None:
        # By the kernel: a body that holds the loop would not let a timer of ours run.
        signal.setitimer(signal.ITIMER_REAL, within)
    with failing():
        flow = load_or_fail(target)
        directory = data or flow.data_dir
        if not Path(directory).is_dir():
            raise Failure(f"there is no directory {directory}", USAGE)
        counts = asyncio.run(_check(directory, flow.registry, limit, as_json=as_json))
    if not as_json:
        told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        click.echo(f"{sum(counts.values())} live runs{': ' if told else ''}{told}", err=True)
    sys.exit(_DIVERGES if counts.get("divergence") else 0)


async def _check(
    directory: str, registry: object, limit: int | None, *, as_json: bool
) -> dict[str, int]:
    from stepflow.authoring.registry import Registry  # noqa: PLC0415  not for --help
    from stepflow.engine.checking import check_directory  # noqa: PLC0415
    from stepflow.journal.disk import RealDisk  # noqa: PLC0415

    assert isinstance(registry, Registry)
    counts: dict[str, int] = {}
    found = check_directory(RealDisk(directory), registry)
    async for run in found:
        counts[run.verdict] = counts.get(run.verdict, 0) + 1
        # What an author wrote may be anything: a terminal would obey it.
        click.echo(msgspec.json.encode(run) if as_json else escaped_json(run.line()))
        if sum(counts.values()) == limit:
            await found.aclose()
            break
    return counts
