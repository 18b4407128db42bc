"""The applications that `stepflow new --template` begins with; each is served as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["TEMPLATES", "Template"]


@dataclass(frozen=True, slots=True)
class Template:
    """`app` is app.py; `start` and `steps` are the commands that the README shows."""

    app: str
    start: str
    steps: tuple[str, ...]
    needs: tuple[str, ...] = ("stepflow[cli,fast,reload]",)


_SERVE: Final = "stepflow serve app.py --reload"

_SERVICE: Final = '''"""A workflow that greets, waits and asks: stepflow serve app.py --reload."""

from __future__ import annotations

from dataclasses import dataclass

from stepflow import Context, EventTimeoutError, Stepflow

flow = Stepflow()


@dataclass
class Guest:
    name: str


async def greet(name: str) -> str:
    # Whatever touches the world goes into a function like this one, run as a step: its result is
    # recorded once, and after that it never runs again.
    return f"Hello, {name}!"


@flow.workflow(events=["answer-{name}"])
async def hello(ctx: Context, guest: Guest) -> str:
    greeting = await ctx.step("greet", greet, guest.name)
    await ctx.sleep("a-moment", "5s")
    try:
        answer = await ctx.wait_for_event("answer", f"answer-{guest.name}", timeout="10m")
    except EventTimeoutError:
        return f"{greeting} (no answer)"
    return f"{greeting} {answer}"
'''

_FASTAPI: Final = '''"""A FastAPI application with durable workflows: uvicorn app:app --reload."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import FastAPI

from stepflow import Context, Stepflow

flow = Stepflow()
app = FastAPI()


@dataclass
class Order:
    id: str
    email: str


async def confirm(email: str) -> str:
    return f"wrote to {email}"  # your mail service


@flow.workflow(events=["paid-{id}"])
async def checkout(ctx: Context, order: Order) -> str:
    await ctx.wait_for_event("paid", f"paid-{order.id}", timeout="7d")
    return await ctx.step("confirm", confirm, order.email)


@app.post("/orders")
async def place(order: Order) -> dict[str, str]:
    """Start a run; the token lets the browser watch it, at /api/stepflow/runs/{run}/stream."""
    run = await flow.trigger(checkout, order, idempotency_key=order.id)
    return {"run": run.id, "token": run.public_access_token}


@app.post("/orders/{id}/paid")
async def paid(id: str) -> dict[str, bool]:
    await flow.notify(f"paid-{id}")
    return {"ok": True}


flow.mount(app, "/api/stepflow")  # its document, at /docs, includes the API
'''

_AGENT: Final = '''"""An agent that survives restarts: what the model and the tools said is kept."""

from __future__ import annotations

from typing import Any

from stepflow import Context, RetryPolicy, Stepflow, current_step

flow = Stepflow()
PATIENT = RetryPolicy(max_attempts=6, initial="2s", max_delay="1m")


async def ask_model(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the model's next word; put the call of your provider here."""
    if messages[-1]["role"] == "tool":
        text = f"It is {messages[-1]['content']}."
        for word in text.split():
            await current_step().emit({"token": word})  # live, to whoever watches the run
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "tool": "weather", "input": messages[-1]["content"]}


async def weather(place: str) -> str:
    return f"sunny in {place}"


TOOLS = {"weather": weather}


@flow.workflow()
async def agent(ctx: Context, question: str) -> str:
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    for _ in range(20):
        answer = await ctx.step("ask-model", ask_model, messages, retry=PATIENT)
        messages.append(answer)
        if "tool" not in answer:
            return str(answer["content"])
        found = await ctx.step(answer["tool"], TOOLS[answer["tool"]], answer["input"])
        messages.append({"role": "tool", "content": found})
    return "I give up."
'''

_CRON: Final = '''"""A job on a schedule: a run each night, also for nights that it was down."""

from __future__ import annotations

from stepflow import Context, Schedule, Stepflow

flow = Stepflow()


async def collect(day: str) -> list[int]:
    return [len(day), 32]  # your database


async def send(report: str) -> None:
    print(report, flush=True)  # your mail service


@flow.workflow(schedule=Schedule("0 3 * * *", tz="UTC"))
async def nightly_report(ctx: Context) -> int:
    moment = ctx.scheduled_at or ctx.now()
    day = moment.date().isoformat()
    numbers = await ctx.step("collect", collect, day)
    await ctx.step("send", send, f"{day}: {sum(numbers)}")
    return sum(numbers)
'''

TEMPLATES: Final = {
    "service": Template(
        _SERVICE,
        _SERVE,
        (
            """stepflow trigger hello '{"name":"Ada"}' --follow""",
            """stepflow notify answer-Ada '"Hello yourself!"'""",
        ),
    ),
    "fastapi": Template(
        _FASTAPI,
        "uvicorn app:app --reload",
        (
            """curl --json '{"id":"7","email":"ada@example.com"}' http://127.0.0.1:8000/orders""",
            "curl -X POST http://127.0.0.1:8000/orders/7/paid",
        ),
        ("stepflow[cli,fast,reload]", "fastapi>=0.120"),
    ),
    "agent": Template(_AGENT, _SERVE, ("""stepflow trigger agent '"Lisbon"' --follow""",)),
    "cron": Template(
        _CRON, _SERVE, ("stepflow schedules list", "stepflow schedules trigger nightly-report")
    ),
}
