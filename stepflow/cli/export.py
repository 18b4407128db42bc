"""`stepflow export`: a run as one file, to be replayed in a debugger."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from stepflow.cli.connection import connect
from stepflow.cli.errors import USAGE, Failure, failing

__all__ = ["export"]


@click.command()
@click.argument("run")
@click.option("--output", "-o", metavar="FILE", help="Where to; - is the standard output.")
@click.option("--mask", multiple=True, metavar="NAME", help="Mask values under this name too.")
def export(run: str, output: str | None, mask: tuple[str, ...]) -> None:
    """Write RUN to one file, RUN.sfrun unless --output says where, with its secrets masked.

    \b
    Replay it in your debugger; no step runs, nothing is sent:
      from stepflow.testing import replay
      print(replay("run_….sfrun", flow))
    """
    with connect() as client, failing():
        data = client.export_run(run, mask=mask)
    if output == "-":
        sys.stdout.buffer.write(data)
        return
    path = Path(output or f"{run}.sfrun")
    try:
        path.write_bytes(data)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}", USAGE) from None
    click.echo(str(path))
