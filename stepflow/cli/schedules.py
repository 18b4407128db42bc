"""`stepflow schedules`: what starts by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from msgspec import UNSET

from stepflow.cli.connection import connect
from stepflow.cli.errors import failing
from stepflow.cli.printing import json_option, print_json, print_table, read_moment

if TYPE_CHECKING:
    from stepflow.model.schedules import ScheduleView

__all__ = ["schedules"]


@click.group()
def schedules() -> None:
    """List, pause, resume, trigger and backfill schedules."""


@schedules.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the schedules."""
    with connect() as client, failing():
        views = client.schedules()
    if as_json:
        print_json(views)
        return
    rows = [("SCHEDULE", "WORKFLOW", "WHEN", "STATE", "NEXT", "LAST", "FIRED", "SKIPPED")]
    rows += [
        (
            view.id,
            view.workflow_id,
            view.spec,
            view.state,
            view.next_at or "-",
            view.last_at or "-",
            str(view.fired),
            str(view.skipped),
        )
        for view in views
    ]
    print_table(rows)


@schedules.command("next")
@click.argument("schedule")
@click.option("-n", "count", type=click.IntRange(1, 100), default=5, help="How many times.")
@json_option
def next_(schedule: str, count: int, as_json: bool) -> None:
    """Print the times of SCHEDULE to come, in UTC."""
    with connect() as client, failing():
        view = client.schedule(schedule, times=count)
    times = [] if view.next is UNSET else view.next
    if as_json:
        print_json(times)
    else:
        click.echo("\n".join(times))


def _say(view: ScheduleView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
    else:
        click.echo(f"{view.id}  {view.state}  next: {view.next_at or '-'}")


@schedules.command("pause")
@click.argument("schedule")
@json_option
def pause(schedule: str, as_json: bool) -> None:
    """Let SCHEDULE start nothing until it is resumed."""
    with connect() as client, failing():
        view = client.pause_schedule(schedule)
    _say(view, as_json=as_json)


@schedules.command("resume")
@click.argument("schedule")
@json_option
def resume(schedule: str, as_json: bool) -> None:
    """Let SCHEDULE go on from now."""
    with connect() as client, failing():
        view = client.resume_schedule(schedule)
    _say(view, as_json=as_json)


@schedules.command("trigger")
@click.argument("schedule")
@json_option
def trigger(schedule: str, as_json: bool) -> None:
    """Start a run of SCHEDULE now and print its id."""
    with connect() as client, failing():
        run = client.trigger_schedule(schedule)
    if as_json:
        print_json({"runId": run.id})
    else:
        click.echo(run.id)


@schedules.command("backfill")
@click.argument("schedule")
@click.option("--from", "begin", metavar="TIME", required=True, help="The first time.")
@click.option("--to", "end", metavar="TIME", required=True, help="The last time.")
@click.option("--dry-run", is_flag=True, help="Print the times, start nothing.")
@json_option
def backfill(schedule: str, begin: str, end: str, dry_run: bool, as_json: bool) -> None:
    """Start a run for each time of SCHEDULE in a range that has none.

    \b
    Example:
      stepflow schedules backfill nightly --from 2024-01-01T00:00Z --to 2024-01-07T23:59Z --dry-run
    """
    first, last = read_moment("--from", begin), read_moment("--to", end)
    assert first is not None
    assert last is not None
    with connect() as client, failing():
        view = client.backfill_schedule(schedule, first, last, dry_run=dry_run)
    if as_json:
        print_json(view)
        return
    for run in view.runs:
        click.echo(f"{run.scheduled_at}  {run.run_id or '(dry run)'}")
    if view.existing:
        click.secho(f"{view.existing} times have their run already", dim=True, err=True)
