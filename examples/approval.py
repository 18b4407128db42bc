"""A human in the loop: ask, wait for days if need be, act on the answer.

stepflow serve examples/approval.py
stepflow trigger expense '{"id":"7","employee":"Ada","amount":420}' --follow
stepflow notify decision-7 '{"approved":true,"by":"Grace"}'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from stepflow import Context, Stepflow

flow = Stepflow()

SMALL = 100


@dataclass
class Expense:
    id: str
    employee: str
    amount: int


@dataclass
class Decision:
    approved: bool
    by: str


class Settled(TypedDict):
    paid: bool
    by: str


async def ask(manager: str, expense_id: str) -> None:
    print(f"  {manager}, please decide on expense {expense_id}", flush=True)


async def pay(employee: str, amount: int) -> None:
    print(f"  paid {amount} to {employee}", flush=True)


# A declared event is kept even if it arrives before the run waits for it. An answer that is no
# Decision is refused with 400, and the run goes on waiting.
@flow.workflow("expense", events=["decision-{id}"], description="Pay an expense once approved")
async def expense(ctx: Context, claim: Expense) -> Settled:
    if claim.amount <= SMALL:
        await ctx.step("pay", pay, claim.employee, claim.amount)
        return {"paid": True, "by": "policy"}
    await ctx.step("ask", ask, "Grace", claim.id)
    decision = await ctx.wait_for_event(
        "decision",
        f"decision-{claim.id}",
        timeout="7d",
        type=Decision,
        default=Decision(approved=False, by="nobody"),
    )
    if decision.approved:
        await ctx.step("pay", pay, claim.employee, claim.amount)
    return {"paid": decision.approved, "by": decision.by}
