"""`stepflow check`: would the live runs of a directory go on with this code?"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from stepflow.cli.errors import USAGE, Failure, failing
from stepflow.cli.loader import load_target
from stepflow.log import escaped_json

__all__ = ["check"]

_DIVERGES = 1


@click.command()
@click.argument("target")
@click.option("--data", metavar="DIR", help="The data directory; beats what the code says.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
def check(target: str, data: str | None, as_json: bool) -> None:
    """Replay every live run of DIR, dry, against the code of TARGET; one line a run.

    A server may be running on DIR: no lock is taken, nothing is written and no step is run. The
    exit status is 1 when a run diverges: it would be parked until fitting code is deployed.
    """
    flow = load_target(target)
    directory = data or flow.data_dir
    if not Path(directory).is_dir():
        raise Failure(f"there is no directory {directory}", USAGE)
    with failing():
        counts = asyncio.run(_check(directory, flow.registry, as_json=as_json))
    if not as_json:
        told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        click.echo(f"{sum(counts.values())} live runs{': ' if told else ''}{told}", err=True)
    sys.exit(_DIVERGES if counts.get("divergence") else 0)


async def _check(directory: str, registry: object, *, as_json: bool) -> dict[str, int]:
    from stepflow.authoring.registry import Registry  # noqa: PLC0415  not for --help
    from stepflow.engine.checking import check_directory  # noqa: PLC0415
    from stepflow.journal.disk import RealDisk  # noqa: PLC0415

    assert isinstance(registry, Registry)
    counts: dict[str, int] = {}
    async for run in check_directory(RealDisk(directory), registry):
        counts[run.verdict] = counts.get(run.verdict, 0) + 1
        # What an author wrote may be anything: a terminal would obey it.
        click.echo(msgspec.json.encode(run) if as_json else escaped_json(run.line()))
    return counts
