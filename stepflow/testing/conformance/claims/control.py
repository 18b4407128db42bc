"""An operator holds a run, lets it go on, tries a failed one again, and forks it at a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from stepflow.errors import ConflictError, InvalidInputError
from stepflow.testing.conformance.claims.base import Claims, needs
from stepflow.testing.conformance.reading import decoded, fresh, until_waiting

if TYPE_CHECKING:
    from pathlib import Path

    from stepflow.testing.conformance.callers import Caller

__all__ = ["ControlClaims"]


class ControlClaims(Claims):
    """The claims."""

    @needs("control")
    async def test_a_paused_run_does_not_go_on_until_it_is_resumed(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-wait", order)
        await until_waiting(caller, run.id)
        paused = await caller.pause(run.id)
        assert (paused.status, paused.state) == ("running", "paused")
        # Its event is taken while it is held, and had when it goes on.
        await caller.notify(f"answer-{order}", "meanwhile")
        assert (await caller.get_run(run.id)).state == "paused"
        await caller.resume(run.id)
        assert decoded((await caller.wait(run.id)).result) == "meanwhile"

    @needs("control")
    async def test_a_run_is_paused_once_and_resumed_once(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-wait", fresh())
        await until_waiting(caller, run.id)
        await caller.pause(run.id)
        with pytest.raises(ConflictError):
            await caller.pause(run.id)
        await caller.resume(run.id)
        with pytest.raises(ConflictError):
            await caller.resume(run.id)

    @needs("control")
    async def test_a_paused_run_can_be_cancelled(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-wait", fresh())
        await until_waiting(caller, run.id)
        await caller.pause(run.id)
        await caller.cancel(run.id)
        assert (await caller.wait(run.id)).status == "cancelled"

    @needs("control")
    async def test_a_failed_run_goes_on_from_where_it_failed(
        self, caller: Caller, tmp_path: Path
    ) -> None:
        path = tmp_path / "there"
        run = await caller.trigger("conformance-mended", str(path))
        assert (await caller.wait(run.id)).status == "failed"
        path.touch()
        again = await caller.retry(run.id)
        assert again.id == run.id
        view = await caller.wait(run.id)
        assert (view.status, decoded(view.result)) == ("completed", "there")
        # What had been recorded was not run again.
        assert (tmp_path / "there.log").read_text() == "before\n"

    @needs("control")
    async def test_only_a_run_that_failed_or_was_cancelled_is_tried_again(
        self, caller: Caller
    ) -> None:
        live = await caller.trigger("conformance-wait", fresh())
        done = await caller.trigger("conformance-echo", 1)
        await caller.wait(done.id)
        for run in (live, done):
            with pytest.raises(ConflictError):
                await caller.retry(run.id)

    @needs("fork")
    async def test_a_fork_keeps_what_stood_before_its_step(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-count", {"id": fresh(), "count": 3})
        await caller.wait(run.id)
        view = await caller.get_run(run.id)
        assert not isinstance(view.steps, msgspec.UnsetType)
        second = view.steps[1].key
        fork = await caller.fork(run.id, second, results={view.steps[0].key: 10})
        assert fork.id != run.id
        assert decoded((await caller.wait(fork.id)).result) == 12
        assert decoded((await caller.wait(run.id)).result) == 3
        with pytest.raises(InvalidInputError):
            await caller.fork(run.id, "no-such-step")

    @needs("why")
    async def test_it_is_told_what_a_run_waits_for(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-wait", order)
        await until_waiting(caller, run.id)
        why = await caller.why(run.id)
        assert why.summary
        (reason,) = [each for each in why.waiting_for if each.kind == "event"]
        assert (reason.name, reason.event_id) == ("answer", f"answer-{order}")
