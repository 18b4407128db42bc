"""System calls on the journal fail, lie or take long: the process says so and loses nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.errors import fail_at_random
from tests.faults.kills import Lives
from tests.faults.ledger import check, until
from tests.faults.processes import Load, Served, strace

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.timeout(400), pytest.mark.tool("strace")]
DISK_FAILED = 74
DAMAGED = 65


@pytest.mark.parametrize(
    "fault",
    [
        "fdatasync:error=EIO:when=20",
        "fdatasync:error=ENOSPC:when=20",
        "pwrite64:error=EIO:when=30",
        "pwrite64:error=EROFS:when=30",
    ],
)
def test_an_error_that_leaves_the_file_unknown_ends_with_74_and_loses_nothing(
    fault: str, tmp_path: Path
) -> None:
    with Load(tmp_path) as load:
        lives = Lives(tmp_path, load)
        with lives.begin(strace(fault)) as server:
            server.ready()
            assert server.ended() == DISK_FAILED, server.said
            assert "CRITICAL" in server.said
            # A failed disk is no fault of the life: it ended as it must.
            server.close()
        assert load.ledger().acknowledged > 5
        lives.judge()


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT"])
def test_a_full_disk_makes_it_read_only_until_there_is_room(error: str, tmp_path: Path) -> None:
    # The writer's calls 30 to 33: each is tried again after a second.
    fault = f"pwrite64:error={error}:when=30..33"
    with Load(tmp_path) as load:
        lives = Lives(tmp_path, load)
        with lives.begin(strace(fault)) as server:
            server.ready()
            until(lambda: "disk full" in server.said or not server.alive, lambda: server.said)
            refused = server.post("/trigger/tiny", 1, **{"Idempotency-Key": "while-full"})
            # It waits for the outcome, or is refused before anything was decided.
            assert refused.status_code in {200, 503}, refused.text
            until(lambda: "the disk has room again" in server.said, lambda: server.said)
            load.more(50, server)
            assert server.alive, server.said
            server.kill()
            lives.over(server)
        lives.judge()


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_an_interrupted_call_is_made_again(call: str, tmp_path: Path) -> None:
    with Load(tmp_path) as load:
        lives = Lives(tmp_path, load)
        with lives.begin(strace(f"{call}:error=EINTR:when=5+3")) as server:
            load.more(100, server.ready())
            assert server.alive, server.said
            server.kill()
            lives.over(server)
        lives.judge()


def test_a_write_that_lies_is_found_at_the_next_start_and_said(tmp_path: Path) -> None:
    # The disk says that it wrote ten bytes, and wrote none of them.
    with Served(tmp_path / "data", tmp_path, wrap=strace("pwrite64:retval=10:when=30")) as server:
        server.ready()
        for number in range(40):
            assert server.result(server.trigger("tiny", number)) == number * 4
        server.kill()
    with Served(tmp_path / "data", tmp_path) as server:
        assert server.ended() == DAMAGED, server.said
        assert "SFW203" in server.said or "SFW204" in server.said, server.said
        assert "stepflow repair" in server.said


def test_whatever_call_fails_it_serves_refuses_or_ends_with_74(tmp_path: Path) -> None:
    told = fail_at_random(tmp_path, lives=4, rng=random.Random(1))
    assert told["cases"] == 4


def test_a_slow_disk_is_said_and_only_slow(tmp_path: Path) -> None:
    fault = "fdatasync:delay_enter=400000:when=5+7"
    with Load(tmp_path) as load:
        with Served(
            tmp_path / "data",
            tmp_path,
            wrap=strace(fault),
            env={"STEPFLOW_SYNC_SLOW_S": "0.2"},
            url_file=load.url_file,
        ) as server:
            load.more(60, server.ready())
            assert "slow disk" in server.said
            assert not check(load.stop(), server.url)


def test_a_disk_that_hangs_is_said_refused_and_left(tmp_path: Path) -> None:
    env = {
        "STEPFLOW_SYNC_SLOW_S": "0.2",
        "STEPFLOW_SYNC_STALLED_S": "1",
        "STEPFLOW_SYNC_DEAD_S": "3",
    }
    # For longer than the process shall wait. strace gives its status when the delay is over.
    wrap = strace("fdatasync:delay_enter=12000000:when=20")
    with Load(tmp_path) as load:
        lives = Lives(tmp_path, load)
        with Served(
            tmp_path / "data", tmp_path, wrap=wrap, env=env, url_file=load.url_file
        ) as server:
            server.ready()
            until(lambda: server.status("/ready") == 503, lambda: server.said)
            assert server.ended() == DISK_FAILED, server.said
            assert "the disk hangs" in server.said
        lives.judge()


@pytest.mark.parametrize("fault", ["fsync:error=EIO:when=2", "rename:error=ENOSPC:when=1"])
def test_a_first_start_that_cannot_keep_its_keys_ends_with_74(fault: str, tmp_path: Path) -> None:
    with Served(tmp_path / "data", tmp_path, wrap=strace(fault)) as server:
        assert server.ended() == DISK_FAILED, server.said
        assert "token.key" in server.said
        assert "Traceback" not in server.said
    with Served(tmp_path / "data", tmp_path) as server:
        assert server.ready().result(server.trigger("tiny", 1)) == 4
