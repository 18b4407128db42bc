"""Commands on a data directory. All but `repair` take no lock and write nothing there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from stepflow.cli.errors import USAGE, Failure, failing
from stepflow.clock import SystemClock
from stepflow.log import escaped_json

if TYPE_CHECKING:
    from stepflow.journal.disk import Disk
    from stepflow.journal.verify import VerifyReport

__all__ = ["backup", "dump", "repair", "verify"]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _disk(directory: str) -> Disk:
    from stepflow.journal.disk import RealDisk  # noqa: PLC0415  not for --help

    if not Path(directory).is_dir():
        raise Failure(f"there is no directory {directory}", USAGE)
    return RealDisk(directory)


@click.command()
@click.argument("directory", metavar="DIR")
@json_option
def verify(directory: str, as_json: bool) -> None:
    """Check every file of the data directory DIR; a server may be running.

    The exit status is 0 when a start would succeed and nothing is damaged, 65 when something is,
    74 when reading fails.
    """
    from stepflow.journal.verify import verify as check  # noqa: PLC0415

    report = check(_disk(directory))
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        _print_report(report)
    sys.exit(report.exit_code)


def _print_report(report: VerifyReport) -> None:
    for message in report.messages:
        click.echo(message)
    verdict = click.style("ok", fg="green") if report.ok else click.style("damaged", fg="red")
    click.echo(
        f"{verdict}: {report.records:,} records up to lsn {report.lsn:,} in "
        f"{report.segments} segments, {report.snapshots} snapshots"
    )


@click.command()
@click.argument("directory", metavar="DIR")
@click.option("--from", "from_lsn", default=1, show_default=True, help="Begin at this LSN.")
@click.option("--snapshot", is_flag=True, help="The newest snapshot's lines, not the journal's.")
def dump(directory: str, from_lsn: int, snapshot: bool) -> None:
    """Print the journal of DIR as JSON lines, in order. They hold your inputs and results."""
    from stepflow.journal import verify as reading  # noqa: PLC0415

    disk = _disk(directory)
    out = sys.stdout.buffer
    try:
        with failing():
            if snapshot:
                reading.dump_snapshot(disk, lambda _lsn, line: _put(line))
            else:
                for _, record in reading.dump(disk, from_lsn):
                    _put(record)
        out.flush()
    except BrokenPipeError:
        # `| head` has seen enough.
        sys.stderr.close()


def _put(line: bytes) -> None:
    text = line.rstrip(b"\n")
    if sys.stdout.isatty():
        # As it is for a pipe; a terminal obeys what JSON leaves as it is.
        text = escaped_json(text.decode("utf-8", "replace")).encode()
    sys.stdout.buffer.write(text + b"\n")


@click.command()
@click.argument("directory", metavar="DIR")
@click.option("--yes", is_flag=True, help="Do not ask.")
def repair(directory: str, yes: bool) -> None:
    """Cut what keeps DIR from starting; what is cut lies in DIR/broken afterwards.

    Stop the server first. What stood behind the damage is lost: look at `stepflow verify` before.
    """
    from stepflow.journal.repair import repair as mend  # noqa: PLC0415

    disk = _disk(directory)
    if not yes:
        click.confirm(f"Cut {directory} where it is damaged? A copy is kept.", abort=True, err=True)
    with failing():
        done = mend(disk, SystemClock().wall_ms())
    for line in done:
        click.echo(line)
    click.echo("ok" if done else "ok: nothing had to be done")


@click.command()
@click.argument("directory", metavar="DIR")
@click.argument("to", metavar="TO")
@json_option
def backup(directory: str, to: str, as_json: bool) -> None:
    """Copy the data directory DIR into the new directory TO, while the server runs, and verify it.

    The copy holds the keys of DIR too: keep it as private.
    """
    from stepflow.journal.backup import backup as copy  # noqa: PLC0415
    from stepflow.journal.disk import RealDisk  # noqa: PLC0415

    with failing():
        report = copy(_disk(directory), RealDisk(to))
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        _print_report(report)
