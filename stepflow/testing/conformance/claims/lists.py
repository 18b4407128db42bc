"""Lists are newest first, in pages that hold each run once, and take what the filter takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from stepflow.errors import InvalidInputError
from stepflow.testing.conformance.claims.base import Claims
from stepflow.testing.conformance.reading import fresh

if TYPE_CHECKING:
    from stepflow.testing.conformance.callers import Caller

__all__ = ["ListClaims"]


class ListClaims(Claims):
    """The claims."""

    async def test_a_list_is_newest_first_and_its_pages_hold_each_run_once(
        self, caller: Caller
    ) -> None:
        started = [(await caller.trigger("conformance-echo", n)).id for n in range(7)]
        seen: list[str] = []
        cursor: str | None = None
        while not set(started) <= set(seen):
            page = await caller.list_runs(workflow_id="conformance-echo", limit=2, cursor=cursor)
            assert len(page.runs) <= 2
            assert all(isinstance(run.steps, msgspec.UnsetType) for run in page.runs)
            seen += [run.id for run in page.runs]
            cursor = page.next_cursor
            if cursor is None:
                break
            # What starts meanwhile is newer than every page to come.
            await caller.trigger("conformance-echo", "meanwhile")
        assert [run_id for run_id in seen if run_id in started] == started[::-1]
        assert len(set(seen)) == len(seen)

    async def test_a_list_is_filtered_by_status(self, caller: Caller) -> None:
        failed = await caller.trigger("conformance-fail")
        live = await caller.trigger("conformance-wait", fresh())
        await caller.wait(failed.id)
        page = await caller.list_runs(status=["failed"], limit=200)
        assert {run.status for run in page.runs} == {"failed"}
        assert failed.id in {run.id for run in page.runs}
        page = await caller.list_runs(status=["running", "failed"], limit=200)
        assert {failed.id, live.id} <= {run.id for run in page.runs}

    async def test_a_cursor_that_nobody_gave_is_refused(self, caller: Caller) -> None:
        with pytest.raises(InvalidInputError):
            await caller.list_runs(cursor="made-up")
