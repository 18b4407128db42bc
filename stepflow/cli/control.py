"""`stepflow runs cancel`, `resume` and `purge`: what operators do to runs."""

from __future__ import annotations

import click

from stepflow.cli.connection import connect
from stepflow.cli.errors import failing
from stepflow.cli.printing import json_option, print_json, state_text

__all__ = ["cancel", "purge", "resume"]


@click.command("cancel")
@click.argument("run")
@json_option
def cancel(run: str, as_json: bool) -> None:
    """Cancel RUN: its code gets CancelledError and 30 s to clean up."""
    with connect() as client, failing():
        view = client.cancel(run)
    if as_json:
        print_json(view)
    else:
        click.echo(f"{run}  {state_text(view)}")


@click.command("resume")
@click.argument("run")
@json_option
def resume(run: str, as_json: bool) -> None:
    """Let RUN go on, which was set aside because its code took the process down."""
    with connect() as client, failing():
        view = client.resume(run)
    if as_json:
        print_json(view)
    else:
        click.echo(f"{run}  {state_text(view)}")


@click.command("purge")
@click.argument("run")
@json_option
def purge(run: str, as_json: bool) -> None:
    """Forget RUN, which has ended: its history, kept events and idempotency key."""
    with connect() as client, failing():
        client.purge(run)
    if as_json:
        print_json({"success": True})
    else:
        click.echo(f"purged {run}")
