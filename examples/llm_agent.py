"""An agent: a model asks for tools until it has an answer, and its tokens stream as they come.

stepflow serve examples/llm_agent.py
stepflow trigger agent '"What is 6 times 7?"' --follow
"""

from __future__ import annotations

from typing import TypedDict

from stepflow import Context, Stepflow, current_step

flow = Stepflow()

TURNS_MAX = 5


class Message(TypedDict):
    role: str
    text: str


class Reply(TypedDict):
    tool: str
    text: str


async def model(messages: list[Message]) -> Reply:
    # A stand-in for a real one, which would stream from the network in the same way.
    if messages[-1]["role"] == "tool":
        reply: Reply = {"tool": "", "text": f"The answer is {messages[-1]['text']} ."}
    else:
        reply = {"tool": "multiply", "text": "6 7"}
    for token in reply["text"].split():
        await current_step().emit(token)
    return reply


def multiply(arguments: str) -> str:
    left, right = arguments.split()
    return str(int(left) * int(right))


TOOLS = {"multiply": multiply}


# What the model has said is recorded: a crash does not ask, or pay, for it again.
@flow.workflow("agent", description="Answer a question with the help of tools")
async def agent(ctx: Context, question: str) -> str:
    messages: list[Message] = [{"role": "user", "text": question}]
    for _ in range(TURNS_MAX):
        reply = await ctx.step("model", model, messages)
        if not reply["tool"]:
            return reply["text"]
        result = await ctx.step("tool", TOOLS[reply["tool"]], reply["text"])
        messages = [*messages, {"role": "tool", "text": result}]
    return "no answer"
