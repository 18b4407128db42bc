"""A welcome mail now and a follow-up later: the workflow of the API reference.

stepflow serve examples/welcome.py
stepflow trigger welcome-user '{"userId":"u_1","email":"ada@example.com"}' --follow
"""

from __future__ import annotations

import os
from typing import TypedDict

from stepflow import Context, Stepflow

flow = Stepflow()

# Three days in a real shop; short here, so that you see the end.
PAUSE = os.environ.get("WELCOME_PAUSE", "20s")


class NewUser(TypedDict):
    userId: str
    email: str


class Sent(TypedDict):
    sent: bool


class Welcomed(TypedDict):
    success: bool


async def send_welcome(email: str) -> Sent:
    print(f"  mail to {email}: welcome!", flush=True)
    return {"sent": True}


async def send_followup(email: str) -> Sent:
    print(f"  mail to {email}: how is it going?", flush=True)
    return {"sent": True}


@flow.workflow(description="Welcome a new user, and ask again later")
async def welcome_user(ctx: Context, user: NewUser) -> Welcomed:
    await ctx.step("send-welcome", send_welcome, user["email"])
    await ctx.sleep("a-while", PAUSE)
    await ctx.step("send-followup", send_followup, user["email"])
    return {"success": True}
