"""SIGTERM, SIGINT and SIGSTOP under load: the status says what happened, no promise is broken."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.kills import Lives
from tests.faults.ledger import until
from tests.faults.processes import Load, Served

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_end_under_load_is_clean_and_loses_nothing(
    number: signal.Signals, tmp_path: Path
) -> None:
    with Load(tmp_path) as load:
        lives = Lives(tmp_path, load)
        for _ in range(2):
            with lives.begin() as server:
                load.more(150, server.ready())
                server.signal(number)
                assert server.ended() == 0, server.said
                lives.over(server)
        told = lives.judge()
    assert told["acknowledged"] > 300
    last = (tmp_path / "said-002.txt").read_text()
    assert "recovered clean" in last, last


def test_a_second_sigterm_ends_at_once_and_records_no_failure(tmp_path: Path) -> None:
    with Served(tmp_path / "data", tmp_path) as server:
        run = server.ready().trigger("slow", 5)
        until(lambda: "dawdle" in _steps(tmp_path))
        server.signal(signal.SIGTERM)
        time.sleep(0.1)
        server.signal(signal.SIGTERM)
        status = server.ended()
        assert status == 0, (status, server.said)
    with Served(tmp_path / "data", tmp_path) as server:
        server.ready()
        # Cut in its step, it goes on: the end of the host is no failure of the run.
        assert server.get(f"/runs/{run}")["status"] == "running"
        assert server.result(run) is True
    assert _steps(tmp_path).count("dawdle") == 2


def test_a_stopped_process_goes_on_and_its_timers_are_late_never_early(tmp_path: Path) -> None:
    with Load(tmp_path) as load:
        lives = Lives(tmp_path, load)
        with lives.begin() as server:
            server.ready()
            began = time.monotonic()
            naps = [server.trigger("nap", seconds) for seconds in (0.2, 0.6, 1.5)]
            load.more(50, server)
            server.signal(signal.SIGSTOP)
            time.sleep(1.2)
            server.signal(signal.SIGCONT)
            load.more(50, server)
            assert [server.result(nap) for nap in naps] == [2, 2, 2]
            server.kill()
            lives.over(server)
        woke = _awake(tmp_path / "steps-0001.log")
        for nap, seconds in zip(naps, (0.2, 0.6, 1.5), strict=True):
            assert woke[nap] >= began + seconds
        lives.judge()


def _awake(step_log: Path) -> dict[str, float]:
    """Return when each napping run woke, on the monotonic clock."""
    rows = [line.split(" ") for line in step_log.read_text().splitlines()]
    return {run: float(at) for at, _, run, key, _ in rows if "awake" in key}


def _steps(folder: Path) -> str:
    log = folder / "steps.log"
    return log.read_text() if log.exists() else ""
