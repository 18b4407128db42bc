"""A nightly report on cron, in a time zone: the night the clocks go back has one report too.

stepflow serve examples/nightly_report.py
stepflow trigger nightly-report --follow
"""

from __future__ import annotations

from typing import TypedDict

from stepflow import Context, Schedule, Stepflow

flow = Stepflow()


class Report(TypedDict):
    day: str
    sales: int


def count_sales(day: str) -> int:
    return sum(day.encode())


def mail(report: Report) -> None:
    print(f"  report of {report['day']}: {report['sales']} sales", flush=True)


@flow.workflow(
    "nightly-report",
    schedule=Schedule(cron="30 2 * * *", tz="Europe/Berlin", overlap="skip"),
    description="Yesterday's sales, by mail",
)
async def nightly_report(ctx: Context, _: None = None) -> Report:
    # Recorded, so a run that is cut at midnight goes on with the day it began with.
    day = ctx.now().date().isoformat()
    sales = await ctx.step("count", count_sales, day)
    report: Report = {"day": day, "sales": sales}
    await ctx.step("mail", mail, report)
    return report
