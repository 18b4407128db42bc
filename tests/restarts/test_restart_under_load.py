"""A restart under load loses nothing; `make restart-load` is the same at full size."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.restarts.load import Load, restart_under

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.asyncio
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["socket", "port"])
async def test_streams_and_triggers_go_on_across_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    seen = await restart_under(Load(streams=50, triggers_per_s=20, beats=6, way=way), tmp_path)
    with capsys.disabled():
        sys.stdout.write(f"\n{seen.lines()}\n")
    assert seen.faults == []
    assert (seen.streams, seen.waits_for_the_lock) == (50, 1)
    # Of each a start, six timers, six steps, an event and the end.
    assert seen.events >= 50 * 14
    assert seen.triggers > 20
    parts = {"ended", "left", "ready", "reopened"} | ({"warm"} if way == "port" else set())
    assert [set(restart.at) for restart in seen.restarts] == [parts]
