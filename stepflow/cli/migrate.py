"""`stepflow migrate DIR URL`: from one directory to a database, live runs included."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from stepflow.cli.errors import USAGE, Failure, failing

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from stepflow.engine.postgres.migrating import MigrationReport

__all__ = ["migrate"]


@click.command()
@click.argument("directory", metavar="DIR")
@click.argument("url", metavar="URL")
@click.option(
    "--switch", is_flag=True, help="Let the database have the runs; stop the server first."
)
@click.option("--undo", is_flag=True, help="Forget the copies in the database; before the switch.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def migrate(directory: str, url: str, switch: bool, undo: bool, as_json: bool) -> None:
    """Copy the runs of DIR into the database at URL and verify them.

    A server may be running on DIR: what it does meanwhile is copied by the next call. Nothing runs
    in the database before --switch, which needs DIR to itself: from then on no server starts on
    DIR, and the workers of the database go on with its runs. Cut off, it is called again.

    \b
    Examples:
      stepflow migrate stepflow-data postgresql://localhost/shop
      stepflow migrate stepflow-data postgresql://localhost/shop --switch
    """
    if switch and undo:
        raise Failure("--switch and --undo: one of them", USAGE)
    if not Path(directory).is_dir():
        raise Failure(f"there is no directory {directory}", USAGE)
    with failing():
        report = _run(_migrate(directory, url, switch=switch, undo=undo))
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        click.echo(_line(report))


def _run(work: Coroutine[Any, Any, MigrationReport | int]) -> MigrationReport | int:
    if os.name == "nt":
        # psycopg does not work on the default loop there.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            return runner.run(work)
    return asyncio.run(work)


async def _migrate(directory: str, url: str, *, switch: bool, undo: bool) -> MigrationReport | int:
    from stepflow.clock import SystemClock  # noqa: PLC0415  not for --help
    from stepflow.config import Settings  # noqa: PLC0415
    from stepflow.journal.disk import RealDisk  # noqa: PLC0415

    try:
        from stepflow.engine.postgres import migrating  # noqa: PLC0415  an extra brings it
    except ImportError as error:
        raise Failure(
            f"a database needs more than is installed ({error.name} is missing)",
            hint="pip install 'stepflow[postgres]'",
        ) from error
    disk = RealDisk(directory)
    if undo:
        return await migrating.undo(disk, url)
    return await migrating.migrate(disk, url, Settings.from_env(), SystemClock(), switch=switch)


def _line(report: MigrationReport | int) -> str:
    if isinstance(report, int):
        return f"forgotten: {report:,} copied runs"
    left = f"; {len(report.left)} set aside, not copied" if report.left else ""
    if report.switched:
        return f"switched: the runs go on in the database ({report.live:,} live{left})"
    return (
        f"copied {report.copied:,} of {report.runs:,} runs ({report.live:,} live, "
        f"{report.records:,} records), all verified{left}; nothing runs there before --switch"
    )
