"""A queue that is fair among tenants: one who sends ten thousand jobs holds nobody else up.

stepflow serve examples/fair_queue.py
stepflow trigger job '{"tenant":"acme","name":"thumbnail"}'
stepflow trigger job '{"tenant":"tiny","name":"thumbnail"}'
"""

from __future__ import annotations

from dataclasses import dataclass

from stepflow import Concurrency, Context, Stepflow

flow = Stepflow()


@dataclass
class Job:
    tenant: str
    name: str


def work(tenant: str, name: str) -> str:
    return f"{name} of {tenant}"


# Two at once for each tenant, four in all; tenants take turns.
@flow.workflow(
    "job",
    concurrency=[Concurrency(4), Concurrency(2, key="input.tenant")],
    description="One job of one tenant",
)
async def job(ctx: Context, job: Job) -> str:
    await ctx.sleep("busy", "1m")
    return await ctx.step("work", work, job.tenant, job.name)
