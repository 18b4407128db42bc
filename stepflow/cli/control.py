"""Operating runs: `stepflow runs cancel`, `pause`, `resume`, `retry`, `fork` and `purge`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from msgspec import UNSET

from stepflow.cli.connection import connect
from stepflow.cli.errors import USAGE, Failure, failing
from stepflow.cli.printing import (
    json_option,
    print_json,
    read_ids,
    read_json,
    read_moment,
    state_text,
)
from stepflow.log import escaped

if TYPE_CHECKING:
    from stepflow.client.wire import BulkReport
    from stepflow.model.views import RunView

__all__ = ["audit", "bulk", "cancel", "fork", "pause", "purge", "resume", "retry", "why"]

_IDS_AT_ONCE = 1000
"""So many ids one call takes."""

reason_option = click.option("--reason", default="", help="Why: kept with the run.")


def _say(view: RunView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
    else:
        click.echo(f"{view.id}  {state_text(view)}")


@click.command("cancel")
@click.argument("run")
@click.option("--force", is_flag=True, help="At once, without its cleanup.")
@reason_option
@json_option
def cancel(run: str, force: bool, reason: str, as_json: bool) -> None:
    """Cancel RUN: its code gets CancelledError and 30 s to clean up."""
    with connect() as client, failing():
        view = client.cancel(run, reason, force=force)
    _say(view, as_json=as_json)


@click.command("pause")
@click.argument("run")
@reason_option
@json_option
def pause(run: str, reason: str, as_json: bool) -> None:
    """Hold RUN before its next effect: what runs is let end, nothing new begins."""
    with connect() as client, failing():
        view = client.pause(run, reason)
    _say(view, as_json=as_json)


@click.command("resume")
@click.argument("run")
@reason_option
@json_option
def resume(run: str, reason: str, as_json: bool) -> None:
    """Let RUN go on, which is paused, or set aside because its code took the process down."""
    with connect() as client, failing():
        view = client.resume(run, reason)
    _say(view, as_json=as_json)


@click.command("retry")
@click.argument("run")
@reason_option
@json_option
def retry(run: str, reason: str, as_json: bool) -> None:
    """Let RUN go on from where it failed or was cancelled.

    What is recorded is not run again. What cleaned up, and compensations with what they undid, are
    taken back.
    """
    with connect() as client, failing():
        view = client.retry(run, reason)
    _say(view, as_json=as_json)


@click.command("fork")
@click.argument("run")
@click.option("--from", "from_step", required=True, metavar="STEP", help="Its key, or its name.")
@click.option("--input", "input_", metavar="[JSON|@FILE|-]", help="Another input.")
@click.option(
    "--pin",
    "pins",
    multiple=True,
    metavar="STEP=JSON",
    help="What a step comes to; may be repeated.",
)
@reason_option
@json_option
def fork(
    run: str,
    from_step: str,
    input_: str | None,
    pins: tuple[str, ...],
    reason: str,
    as_json: bool,
) -> None:
    """Start a run with what RUN had recorded before a step, and print its id.

    \b
    Examples:
      stepflow runs fork run_8sK… --from charge
      stepflow runs fork run_8sK… --from charge --pin 'reserve[sku-7]={"held":true}'
    """
    results = dict(_pin(text) for text in pins)
    value = UNSET if input_ is None else read_json(input_)
    with connect() as client, failing():
        started = client.fork(run, from_step, input=value, results=results, reason=reason)
    if as_json:
        print_json({"runId": started.id})
    else:
        click.echo(started.id)


def _pin(text: str) -> tuple[str, object]:
    # A key may hold `=`; what is behind the last one that leaves JSON is the result.
    place = text.find("=")
    while place > 0:
        try:
            return text[:place], read_json(text[place + 1 :])
        except Failure:
            place = text.find("=", place + 1)
    raise Failure(f"--pin {text!r}: write STEP=JSON", USAGE, "a text is JSON with its quotes")


@click.command("why")
@click.argument("run")
@json_option
def why(run: str, as_json: bool) -> None:
    """Say why RUN waits: the event nobody sent, the retry, the queue, a pause."""
    with connect() as client, failing():
        view = client.why(run)
    if as_json:
        print_json(view)
    else:
        click.echo(escaped(view.summary))


@click.command("audit")
@click.argument("run")
@json_option
def audit(run: str, as_json: bool) -> None:
    """Say who did what to RUN, when and why; also of a run that was purged."""
    with connect() as client, failing():
        page = client.audit_log(run_id=run, limit=200)
    if as_json:
        print_json(page)
        return
    for act in reversed(page.audit):
        reason = act.reason if isinstance(act.reason, str) else ""
        by = act.by or "(the program)"
        click.echo(escaped(f"{act.at}  {act.action}  {by}  {reason}".rstrip()))


@click.command("bulk")
@click.argument("action", type=click.Choice(["cancel", "pause", "resume", "retry", "purge"]))
@click.option("--status", multiple=True, help="Only runs in this status; may be repeated.")
@click.option("--workflow", default="", metavar="ID", help="Only runs of this workflow.")
@click.option("--tag", default="", help="Only runs with this tag.")
@click.option("--after", metavar="TIME", help="Only runs created after it: 2024-01-15T10:30Z.")
@click.option("--before", metavar="TIME", help="Only runs created before it.")
@click.option(
    "--id",
    "ids",
    multiple=True,
    metavar="[RUN|@FILE|-]",
    help="Only this run, or those in a file or the input; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@click.option("--force", is_flag=True, help="Cancel at once, without cleanup.")
@reason_option
@json_option
def bulk(  # noqa: PLR0913, PLR0917  as many as there are options
    action: str,
    status: tuple[str, ...],
    workflow: str,
    tag: str,
    after: str | None,
    before: str | None,
    ids: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    force: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Do one thing to all runs that the options take; asks first in a terminal.

    \b
    Example:
      stepflow runs bulk cancel --workflow checkout --status running --dry-run
      stepflow runs bulk retry --status failed --after 2024-01-15T10:30Z --yes
    """
    where: dict[str, object] = {
        "status": list(status),
        "workflowId": workflow,
        "tag": tag,
        "createdAfter": read_moment("--after", after),
        "createdBefore": read_moment("--before", before),
    }
    where = {name: value for name, value in where.items() if value}
    filters = [where]
    if ids:
        named = read_ids(ids)
        if not named:
            raise Failure("--id names no run", USAGE, "the file or the input is empty")
        begins = range(0, len(named), _IDS_AT_ONCE)
        filters = [where | {"ids": named[begin : begin + _IDS_AT_ONCE]} for begin in begins]
    with connect() as client, failing():
        if not (dry_run or yes) and sys.stdin.isatty():
            dry = [client.bulk(action, each, dry_run=True, force=force) for each in filters]
            count = sum(len(report.run_ids) for report in dry)
            more = " or more" if any(report.next_cursor for report in dry) else ""
            click.confirm(f"{action} {count}{more} runs?", abort=True, err=True)
        for each in filters:
            cursor: str | None = None
            while True:
                report = client.bulk(
                    action, each, dry_run=dry_run, force=force, cursor=cursor, reason=reason
                )
                _say_bulk(report, as_json=as_json)
                cursor = report.next_cursor
                if cursor is None:
                    break


def _say_bulk(report: BulkReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    for run_id in report.run_ids:
        click.echo(f"{run_id}  {'would ' if report.dry_run else ''}{report.action}")
    for row in report.skipped:
        click.echo(f"{row['runId']}  left: {escaped(row['error'])}", err=True)


@click.command("purge")
@click.argument("run")
@reason_option
@json_option
def purge(run: str, reason: str, as_json: bool) -> None:
    """Forget RUN, which has ended: its history, kept events and idempotency key."""
    with connect() as client, failing():
        client.purge(run, reason)
    if as_json:
        print_json({"success": True})
    else:
        click.echo(f"purged {run}")
