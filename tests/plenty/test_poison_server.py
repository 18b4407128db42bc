"""A run that takes the process down whenever it wakes is set aside; all others go on."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli_kit import run_cli
from tests.plenty.kills_from_outside import killed
from tests.plenty.server import KEY, Served

if TYPE_CHECKING:
    from pathlib import Path

APP = "tests/plenty/poison_app.py"
WAYS = (
    ("leave", "body", 9),
    ("fall", "loop", -signal.SIGSEGV),
    ("shoot", "thread", -signal.SIGKILL),
    ("overflow", "body", -signal.SIGSEGV),
    ("starve", "thread", -signal.SIGABRT),
)


class Story:
    """One data directory, and the servers that live and die on it."""

    def __init__(self, place: Path, lives: ExitStack) -> None:
        self.place = place
        self.lives = lives
        self.env = {"MENDED": str(place / "mended"), "STEPFLOW_SNAPSHOT_WAL_BYTES": "20000"}
        self.server = self.start()

    def start(self) -> Served:
        self.server = self.lives.enter_context(Served(self.place, APP, env=self.env))
        return self.server

    def deaths_of(self, run_id: str) -> list[int]:
        """Start it again whenever it dies; return how, until the run is set aside."""
        deaths = [self.server.ended()]
        while len(deaths) < 6:
            if self.start().ready_or_dead() and self.state(run_id) == "quarantined":
                break
            deaths.append(self.server.ended())
        return deaths

    def state(self, run_id: str) -> str:
        """Return the run's state; a server that dies meanwhile has none to tell."""
        try:
            return str(self.server.get(f"/runs/{run_id}").get("state"))
        except httpx.HTTPError:
            return ""


@pytest.mark.timeout(600)
def test_whatever_way_a_run_kills_the_process_it_is_set_aside_and_all_others_go_on(
    tmp_path: Path,
) -> None:
    with ExitStack() as lives:
        story = Story(tmp_path, lives)
        good = story.server.ready().trigger("good")
        aside: list[str] = []
        for number, (way, where, status) in enumerate(WAYS, 1):
            run_id = story.server.trigger("poison", {"way": way, "where": where})
            assert story.deaths_of(run_id) == [status] * 3, way
            aside.append(run_id)
            server = story.server
            assert f"SFW402 run {run_id} set aside" in server.said
            # Whoever was set aside before is so still, and everybody else goes on.
            assert {story.state(each) for each in aside} == {"quarantined"}
            assert server.metric("stepflow_runs_quarantined") == number
            assert server.get("/ready")["degraded"]["quarantinedRuns"] == number
            assert server.result(server.trigger("echo", number)) == number
            assert server.get(f"/runs/{good}")["status"] == "running"
        # Kept for it, should it be counting at the moment.
        assert story.server.post("/notify/enough", "enough").status_code == 200
        assert story.server.result(good) > 0
        # Mended and released, one of them goes to its end; the rest stay where they are.
        (tmp_path / "mended").touch()
        env = {"STEPFLOW_URL": story.server.url, "STEPFLOW_API_KEY": KEY}
        done = run_cli("runs", "resume", aside[2], "--json", cwd=tmp_path, **env)
        assert done.code == 0, done.err
        assert json.loads(done.out)["id"] == aside[2]
        assert story.server.result(aside[2]) == "mended"
        assert story.server.post(f"/runs/{aside[2]}/resume").status_code == 409
        assert story.server.stop() == 0
        assert story.start().ready().metric("stepflow_runs_quarantined") == len(WAYS) - 1


@pytest.mark.timeout(300)
def test_kills_from_outside_set_nobody_aside_and_lose_nothing(tmp_path: Path) -> None:
    report = killed(tmp_path / "data", 30, seed=4, within_s=240)
    # Code was running at most of the deaths: there was somebody to suspect.
    assert report["named"] > report["kills"] / 2
    assert report["runs"] >= 12
    assert (report["aside"], report["wrong"]) == ([], [])
