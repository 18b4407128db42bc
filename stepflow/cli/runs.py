"""Commands of a client: `trigger`, `notify`, `runs …` and `token`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from stepflow.cli.connection import connect
from stepflow.cli.control import audit, bulk, cancel, fork, pause, purge, resume, retry, why
from stepflow.cli.errors import NOT_FOUND, Failure, failing
from stepflow.cli.follow import follow, pick_display
from stepflow.cli.follow_list import follow_list, pick_list_display
from stepflow.cli.printing import (
    COLOURS,
    json_option,
    print_json,
    print_table,
    read_json,
    read_moment,
    state_text,
)
from stepflow.cli.render import detail, error_text, short, span, value_text
from stepflow.cli.run_list import RunList
from stepflow.cli.watching import RunWatch, millis
from stepflow.clock import SystemClock
from stepflow.errors import WorkflowNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepflow.client import SyncClient
    from stepflow.model.views import RunView

__all__ = ["notify", "read_json", "runs", "shown", "token", "trigger"]

_STATUSES: Final = ("pending", "running", "completed", "failed", "cancelled")
_CHILDREN_SHOWN: Final = 10


@click.command()
@click.argument("workflow")
@click.argument("input_", metavar="[JSON|@FILE|-]", required=False)
@click.option("--follow", "-f", "follows", is_flag=True, help="Show the run until it ends.")
@click.option(
    "--idempotency-key", metavar="KEY", help="The same key and input give the same run for 24 h."
)
@click.option("--delay", metavar="15m", help="Let it begin so much later.")
@json_option
def trigger(
    workflow: str,
    input_: str | None,
    follows: bool,
    idempotency_key: str | None,
    delay: str | None,
    as_json: bool,
) -> None:
    """Start a run of WORKFLOW and print its id; it is durable then.

    With --follow the exit status is 0 when the run completed and 1 when it failed or was cancelled.
    A server that restarts meanwhile is waited for; Ctrl-C leaves the run running.

    \b
    Examples:
      stepflow trigger welcome-user '{"userId":"u_1","email":"ada@example.com"}'
      stepflow trigger checkout @order.json --follow
    """
    value = read_json(input_)
    with connect() as client:
        with failing():
            run_id = _started(client, workflow, value, idempotency_key, delay)
        if not follows:
            _say_triggered(run_id, as_json=as_json)
            return
        if as_json:
            print_json({"runId": run_id})
        watch = RunWatch(run_id, workflow, SystemClock().wall_ms())
        code = follow(client, run_id, pick_display(watch, as_json=as_json), watch)
    sys.exit(code)


def _started(
    client: SyncClient, workflow: str, value: Any, key: str | None, delay: str | None
) -> str:
    try:
        return client.trigger(workflow, value, idempotency_key=key, delay=delay).id
    except WorkflowNotFoundError as error:
        known = ", ".join(each.id for each in client.workflows()) or "none"
        raise Failure(
            f"there is no workflow {workflow!r}", NOT_FOUND, f"there are: {known}"
        ) from error


def _say_triggered(run_id: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"runId": run_id})
        return
    click.echo(run_id)
    if sys.stdout.isatty():
        click.secho(f"watch it: stepflow runs watch {run_id}", dim=True, err=True)


@click.command()
@click.argument("event")
@click.argument("payload", metavar="[JSON|@FILE|-]", required=False)
@click.option("--run", "run_id", metavar="RUN", help="Deliver to this run alone.")
@json_option
def notify(event: str, payload: str | None, run_id: str | None, as_json: bool) -> None:
    """Deliver EVENT to the runs that wait for it or have declared it.

    \b
    Example:
      stepflow notify paid-1042 '{"amount":99}'
    """
    value = read_json(payload)
    with connect() as client, failing():
        client.notify(event, value, run_id=run_id)
    if as_json:
        print_json({"success": True})
    else:
        click.echo(f"delivered {event}")


@click.command()
@click.argument("run")
@click.option("--ttl", metavar="DURATION", help="How long it is good: 15m, 2h, 30d. [default: 24h]")
@json_option
def token(run: str, ttl: str | None, as_json: bool) -> None:
    """Print a token that reads RUN and its stream, and nothing else: for a browser."""
    with connect() as client, failing():
        grant = client.token(run, ttl)
    if as_json:
        print_json(grant)
    else:
        click.echo(grant.public_access_token)


# ---------------------------------------------------------------- runs


@click.group()
def runs() -> None:
    """List, show and watch runs; cancel, pause, resume, retry, fork and purge them."""


@runs.command("list")
@click.option(
    "--status", type=click.Choice(_STATUSES), multiple=True, help="Only these; may be repeated."
)
@click.option("--workflow", default="", metavar="ID", help="Only runs of this workflow.")
@click.option("--tag", default="", help="Only runs with this tag.")
@click.option("--after", metavar="TIME", help="Only runs created after it: 2024-01-15T10:30Z.")
@click.option("--before", metavar="TIME", help="Only runs created before it.")
@click.option("--limit", default=20, show_default=True, help="At most so many.")
@click.option("--cursor", metavar="CURSOR", help="Go on where an earlier list ended.")
@json_option
def list_runs(
    status: tuple[str, ...],
    workflow: str,
    tag: str,
    after: str | None,
    before: str | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
) -> None:
    """List runs, newest first."""
    since, until = read_moment("--after", after), read_moment("--before", before)
    with connect() as client, failing():
        page = client.list_runs(
            status=status,
            workflow_id=workflow,
            tag=tag,
            created_after=since,
            created_before=until,
            limit=limit,
            cursor=cursor,
        )
    if as_json:
        print_json(page)
        return
    now_ms = SystemClock().wall_ms()
    rows = [("RUN", "WORKFLOW", "STATUS", "AGE")]
    for run in page.runs:
        age = span(max(0, now_ms - millis(run.created_at)) / 1000)
        rows.append((run.id, run.workflow_id, state_text(run), age))
    print_table(rows)
    if page.next_cursor:
        click.secho(f"more: --cursor {page.next_cursor}", dim=True, err=True)


@runs.command("show")
@click.argument("run")
@json_option
def show(run: str, as_json: bool) -> None:
    """Show RUN: its status, steps, input and result.

    Also its place in the queue, how often it has restarted, its parent and its children, whose
    fork it is, and which of its steps were not undone.
    """
    with connect() as client, failing():
        view = client.get_run(run)
    if as_json:
        print_json(view)
        return
    for line in shown(view):
        click.echo(line)


def shown(view: RunView) -> list[str]:
    """Return a run as lines."""
    now_ms = SystemClock().wall_ms()
    watch = RunWatch(view.id, view.workflow_id, now_ms)
    watch.resync(view)
    status = click.style(state_text(view), fg=COLOURS.get(view.status))
    took = span(max(0, (watch.ended_ms or now_ms) - watch.began_ms) / 1000)
    lines = [
        f"{view.id}  {view.workflow_id}  {status}  {took}",
        f"  created  {view.created_at}",
        f"  input    {value_text(msgspec.json.decode(view.input)) or 'null'}",
    ]
    if view.reason:
        lines.append(f"  reason   {short(view.reason)}")
    lines += _beside(view)
    until_ms = watch.ended_ms or now_ms
    for row in watch.rows.values():
        state = "pending" if row.status == "running" else row.status
        took = span(row.elapsed_s(until_ms)) if row.began_ms else ""
        cut = watch.ended and row.status == "running"
        what = "the run ended before it did" if cut else detail(row, now_ms)
        lines.append(f"  {state:<10}{row.name}  {took}  {what}".rstrip())
    if watch.error:
        lines.append(f"  error    {error_text(watch.error)}")
        lines += (
            f"           not undone: {short(row['key'])}  {error_text(row['error'])}"
            for row in watch.error.get("compensation", ())
        )
        if more := watch.error.get("compensationMore"):
            lines.append(f"           not undone: {more} more")
    elif watch.ended:
        lines.append(f"  result   {value_text(watch.result) or 'null'}")
    return lines


def _beside(view: RunView) -> Iterator[str]:
    """Yield what the run waits for in a queue, and how it belongs to others and to its own past."""
    if queue := view.queue:
        key = f" (here {value_text(msgspec.json.decode(queue.key))})" if queue.key else ""
        yield f"  queue    {queue.position}, {queue.ahead} ahead of it: {short(queue.limit)}{key}"
    if view.restarts:
        yield f"  restarts {view.restarts}"
    if view.lineage:
        yield f"  fork of  {view.lineage.run_id}, from {short(view.lineage.from_step)}"
    if view.parent:
        key = f"  awaits it in {short(view.parent.key)}" if view.parent.key else ""
        yield f"  parent   {view.parent.run_id}{key}"
    children = view.children or []
    for child in children[:_CHILDREN_SHOWN]:
        free = "" if child.awaited else "  not awaited"
        yield f"  child    {child.run_id}  {short(child.workflow_id)}  {short(child.key)}{free}"
    if (more := len(children) - _CHILDREN_SHOWN) > 0:
        yield f"  child    and {more} more: --json has them all"


@runs.command("watch")
@click.argument("run", required=False)
@click.option(
    "--status", type=click.Choice(_STATUSES), multiple=True, help="Only these; may be repeated."
)
@click.option("--workflow", default="", metavar="ID", help="Only runs of this workflow.")
@click.option("--tag", default="", help="Only runs with this tag.")
@json_option
def watch_run(
    run: str | None, status: tuple[str, ...], workflow: str, tag: str, as_json: bool
) -> None:
    """Show RUN until it ends, what has happened already first; or all runs, as they come and go.

    With RUN the exit status is 0 when it completed and 1 when it failed or was cancelled. Without
    one it is a live list, newest first, until Ctrl-C.
    """
    if run is not None and (status or workflow or tag):
        raise click.UsageError("--status, --workflow and --tag are for a list: leave out RUN")
    with connect() as client:
        if run is None:
            runs_watched = RunList(status)
            display = pick_list_display(runs_watched, as_json=as_json)
            code = follow_list(client, runs_watched, display, workflow_id=workflow, tag=tag)
        else:
            watch = _hinted(client, run)
            code = follow(client, run, pick_display(watch, as_json=as_json), watch)
    sys.exit(code)


def _hinted(client: SyncClient, run_id: str) -> RunWatch:
    with failing():
        view = client.get_run(run_id)
    watch = RunWatch(run_id, view.workflow_id, SystemClock().wall_ms())
    watch.hint(view)
    return watch


for _command in (why, cancel, pause, resume, retry, fork, bulk, purge, audit):
    runs.add_command(_command)
