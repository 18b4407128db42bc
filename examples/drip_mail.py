"""Drip mail: three letters over ten days, until the customer buys or has had enough.

stepflow serve examples/drip_mail.py
stepflow trigger drip '{"id":"7","email":"ada@example.com"}'
stepflow notify stop-7 '"bought"'
"""

from __future__ import annotations

from dataclasses import dataclass

from stepflow import Context, Stepflow

flow = Stepflow()

LETTERS = [("hello", "1d"), ("what-it-can-do", "3d"), ("discount", "6d")]


@dataclass
class Customer:
    id: str
    email: str


async def send(email: str, letter: str) -> None:
    print(f"  {letter} to {email}", flush=True)


# The event is declared, so it is kept even if it comes between two waits.
@flow.workflow("drip", events=["stop-{id}"], description="Three letters in ten days")
async def drip(ctx: Context, customer: Customer) -> str:
    for letter, pause in LETTERS:
        await ctx.step(letter, send, customer.email, letter)
        why: str = await ctx.wait_for_event(
            f"after-{letter}", f"stop-{customer.id}", timeout=pause, type=str, default=""
        )
        if why:
            return why
    return "no answer"
