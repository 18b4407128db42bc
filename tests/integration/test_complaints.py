"""What users of other engines complain of, where no other test holds it (docs/complaints.md)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.engine_kit import service
from tests.harness import error_of, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio

NUL = "a\0b"


async def test_what_json_cannot_hold_is_an_argument_or_a_failure_at_once() -> None:
    ran: list[object] = []
    thing = object()
    async with service() as world:

        @world.flow.workflow("sends")
        async def sends(ctx: Context) -> None:
            await ctx.step("send", ran.append, {"to": [1, thing]})
            await ctx.call("echo", {"to": [1, thing]})

        run_id = await world.trigger("sends")
        view = await world.finished(run_id)
        assert ran == [{"to": [1, thing]}]
        assert view.status == "failed"
        error = error_of(view)
        assert error["type"] == "EncodingError"
        assert "to[1]" in error["message"]
        assert "object" in error["message"]
        # At once: nothing was tried again, nothing waits, no child is there.
        assert len(world.engine.sup.runs) == 1


async def test_a_null_character_stops_nothing_anywhere() -> None:
    async with service() as world:

        async def same(text: str) -> str:
            return text

        async def fails(text: str) -> None:
            raise ValueError(text)

        @world.flow.workflow("nul")
        async def nul(ctx: Context, given: dict[str, str]) -> list[Any]:
            result = await ctx.step("same", same, given[NUL], key=NUL)
            event = await ctx.wait_for_event("go")
            await ctx.emit("said", NUL)
            try:
                await ctx.step("fails", fails, NUL, retry=None)
            except Exception as error:  # noqa: BLE001  what it says is looked at
                return [result, event, str(error.message)]  # type: ignore[attr-defined]
            return []

        run_id = await world.trigger("nul", {NUL: NUL})
        await world.until(lambda: len(world.engine.sup.waiters))
        await world.durable()
        await world.crash()
        await world.start()
        await world.engine.notify("go", msgspec.json.encode(NUL))
        await world.finished(run_id)
        await world.crash()
        await world.start()
        view = await world.get(run_id)
        assert view.status == "completed"
        # The text of an error is for people: it shows what cannot be shown as a sign of that.
        assert result_of(view) == [NUL, NUL, NUL.replace("\0", "\ufffd")]
        assert b"\\u0000" in await world.stream_bytes(run_id)
        assert b"\0" not in await world.stream_bytes(run_id)


async def test_a_run_goes_on_when_all_who_watched_it_have_gone() -> None:
    async with service() as world:
        run_id = await world.trigger("gated")
        streams = [await world.engine.stream(run_id, None) for _ in range(3)]
        readers = [asyncio.ensure_future(stream.changed()) for stream in streams]
        await world.settle()
        for reader in readers:
            reader.cancel()
        for stream in streams:
            stream.close()
        await world.settle()
        world.gate.set()
        assert result_of(await world.finished(run_id)) == "through"
