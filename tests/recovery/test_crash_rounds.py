"""kill -9 at random moments: nothing acknowledged is lost, nothing that was seen runs again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.recovery.reference_replayer import compare, replay_directory
from tests.served import doomed, end_group
from tools.ports import free_port

ROOT = Path(__file__).parents[2]
KEY = "crash-test-key-0123456789"
ROUNDS = int(os.environ.get("STEPFLOW_CRASH_ROUNDS", "4"))
IN_FLIGHT = 40
SUBSCRIBERS = 20


def start_server(
    port: int, data: Path, step_log: Path, slow_write_s: float = 0.0
) -> subprocess.Popen[bytes]:
    env = os.environ | {
        "STEPFLOW_DATA_DIR": str(data),
        "STEPFLOW_API_KEYS": KEY,
        "STEP_LOG": str(step_log),
        "SLOW_WRITE_S": str(slow_write_s),
        # A small bound, so that snapshots are written and cut short in the rounds too.
        "STEPFLOW_SNAPSHOT_WAL_BYTES": "200000",
    }
    command = [sys.executable, "-m", "tests.recovery.crash_app", str(port)]
    return subprocess.Popen(doomed(command), env=env, cwd=ROOT, start_new_session=True)


def until_ready(port: int, server: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 60:
        assert server.poll() is None, "the server did not come up"
        try:
            if httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    pytest.fail("the server did not get ready")


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.timeout(600)
def test_what_was_acknowledged_or_seen_survives_kill_9(tmp_path: Path) -> None:
    seed = int(os.environ.get("STEPFLOW_CRASH_SEED", str(random.randrange(10**6))))
    print(f"STEPFLOW_CRASH_SEED={seed}")  # noqa: T201  shown when the test fails
    rng = random.Random(seed)
    port, step_log, ledger = free_port(), tmp_path / "steps.log", tmp_path / "ledger"
    server = start_server(port, tmp_path / "data", step_log)
    until_ready(port, server)
    url = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "tests.recovery.checker", "live"),
        *("--url", url, "--key", KEY, "--seed", str(seed)),
        *("--ledger", str(ledger), "--step-log", str(step_log)),
        *("--in-flight", str(IN_FLIGHT), "--subscribers", str(SUBSCRIBERS)),
    ]
    checker = subprocess.Popen(
        doomed(command),
        cwd=ROOT,
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    racer = subprocess.Popen(
        doomed(
            [
                *(sys.executable, "-m", "tests.recovery.wgl_check", "--url", url, "--key", KEY),
                *("--rounds", str(10 * ROUNDS), "--seed", str(seed), "--limit-s", "300"),
            ]
        ),
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    try:
        for number in range(ROUNDS):
            # A moment that depends on progress, not on the clock: so many more steps have run.
            slow = number % 2
            target = lines(step_log) + rng.randint(1, 60 if slow else 400)
            while lines(step_log) < target:
                assert checker.poll() is None, "the checker gave up"
                assert server.poll() is None, "the server ended by itself"
                time.sleep(0.002)
            end_group(server)
            # Every other life writes late, so that the kill finds much that is not written.
            late = rng.choice([0.005, 0.02]) if number % 2 == 0 else 0.0
            server = start_server(port, tmp_path / "data", step_log, late)
            until_ready(port, server)
        out, _ = checker.communicate(timeout=300)
        raced, _ = racer.communicate(timeout=300)
        end_group(server)
        done = replay_directory(tmp_path / "data")
        server = start_server(port, tmp_path / "data", step_log)
        until_ready(port, server)
        differences = compare(done, url, KEY)
    finally:
        end_group(checker)
        end_group(racer)
        end_group(server)
    report = json.loads(out)
    print(report)  # noqa: T201  the figures of the round
    assert report["faults"] == []
    assert checker.returncode == 0
    assert report["runs"] >= IN_FLIGHT
    # A second reader of the format, and the calls that were raced on single runs.
    assert differences == []
    assert len(done.runs) >= report["runs"]
    races = json.loads(raced)
    print(races)  # noqa: T201
    assert races["faults"] == []
