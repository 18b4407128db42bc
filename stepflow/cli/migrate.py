"""`stepflow migrate`: the runs of a data directory go on in a PostgreSQL database."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stepflow.cli.errors import UNREACHABLE, USAGE, Failure, failing
from stepflow.errors import ConfigurationError, DataDirLockedError

if TYPE_CHECKING:
    from stepflow.clock import Clock
    from stepflow.engine.postgres.moving import Mover, MoveReport

__all__ = ["migrate"]

_QUIET_S: Final = 1.0
_LEFT_OUT: Final = ("set-aside",)


@click.command()
@click.argument("directory", metavar="DIR")
@click.argument("url", metavar="URL")
@click.option("--dry-run", is_flag=True, help="Look at both sides and say what would be moved.")
@click.option("--abort", is_flag=True, help="Take back what was copied: until the switch.")
@click.option(
    "--leave-out",
    multiple=True,
    type=click.Choice(_LEFT_OUT),
    help="Leave behind what the PostgreSQL engine has not; may be given again.",
)
def migrate(
    directory: str, url: str, *, dry_run: bool, abort: bool, leave_out: tuple[str, ...]
) -> None:
    """Move all runs of DIR, the live ones too, to the empty PostgreSQL database at URL.

    Stop the server first. DIR is only read, and every run is compared on both sides; then all live
    runs go on in the database at once, and DIR does not start any more. Interrupted, the same
    command goes on where it was.

    \b
    Example:
      stepflow migrate stepflow-data postgresql://localhost/shop --dry-run
    """
    if dry_run and abort:
        raise Failure("--dry-run and --abort exclude each other", USAGE)
    if not Path(directory).is_dir():
        raise Failure(f"there is no directory {directory}", USAGE)
    with failing():
        try:
            import psycopg  # noqa: PLC0415  an extra brings it

            from stepflow.engine.postgres.moving import Mover  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                f"a database needs more than is installed ({error.name} is missing): "
                "pip install 'stepflow[postgres]'"
            ) from error
        from stepflow.clock import SystemClock  # noqa: PLC0415  not for --help
        from stepflow.config import Settings  # noqa: PLC0415
        from stepflow.journal.disk import RealDisk  # noqa: PLC0415

        clock = SystemClock()
        mover = Mover(
            RealDisk(directory),
            url,
            settings=Settings.from_env(),
            clock=clock,
            leave_out=leave_out,
            tell=_Progress(clock),
            waiting=lambda message: click.echo(message, err=True),
        )
        try:
            asyncio.run(_run(mover, directory, dry_run=dry_run, abort=abort))
        except psycopg.Error as error:
            hint = "run the same command again: it goes on where it was"
            raise Failure(f"the database was lost: {error}", UNREACHABLE, hint) from error
        except DataDirLockedError as error:
            hint = "stop the server on it, then run the same command again"
            raise Failure(str(error).partition(";")[0], error.exit_code, hint) from error


async def _run(mover: Mover, directory: str, *, dry_run: bool, abort: bool) -> None:
    if abort:
        place = await mover.abort()
        click.echo(f"taken back: nothing is left at {place}, {directory} is as it was")
        return
    report = await mover.move(dry_run=dry_run)
    _print(report, directory)


def _print(report: MoveReport, directory: str) -> None:
    survey = report.survey
    for message in survey.messages:
        click.echo(message)
    statuses = ", ".join(
        f"{count:,} {status}" for status, count in sorted(survey.by_status.items())
    )
    click.echo(f"{survey.runs:,} runs ({statuses or 'none'}), {survey.records:,} records")
    for name, count in survey.lacking.items():
        click.echo(f"left out: {count:,} of {name}" if report.checksum else f"{name}: {count:,}")
    if report.resumed:
        click.echo(f"{report.resumed:,} runs had been copied before")
    if report.checksum:
        click.echo(f"the same on both sides: sha256 {report.checksum}")
    if report.switched == "now":
        click.echo(f"ok: they go on at {report.to}; {directory} does not start any more")
        click.echo("next: stepflow serve APP --database URL")
    elif report.switched:
        click.echo(f"ok: they went on at {report.to} at {report.switched} already")
    else:
        flags = " ".join(f"--leave-out {name}" for name in survey.lacking)
        needs = f", and must be told {flags}" if flags else ""
        click.echo(f"nothing was changed: they would go to {report.to}{needs}")


class _Progress:
    """Says how far it is, once a second, when it takes longer than one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told_s = clock.monotonic_s()

    def __call__(self, phase: str, done: int, total: int) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._told_s >= _QUIET_S:
            self._told_s = now_s
            print(f"{phase}: {done:,} of {total:,}", file=sys.stderr, flush=True)
