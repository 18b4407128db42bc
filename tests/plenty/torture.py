"""Poison and plenty for as long as wanted: `make torture`.

Three parts share the time: kills from outside, at random moments, which must set nobody aside; very
many live runs that are woken after a kill; and floods of all kinds at once on one server with small
bounds, some of them by a thousand connections that never read. Whatever was acknowledged must be
there, the server must live, and its memory must stay within what its bounds allow.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from tests.plenty.kills_from_outside import killed
from tests.plenty.ramp import climb, per_run
from tests.plenty.server import MIB, Served, request, until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["torture"]

FLOOD_APP: Final = "tests/plenty/flood_app.py"
BOUND: Final = 48 * MIB
BOUNDS: Final = {
    "STEPFLOW_LIVE_BYTES_MAX": BOUND,
    "STEPFLOW_FINISHED_BYTES_MAX": 16 * MIB,
    "STEPFLOW_BODIES_BYTES_MAX": 16 * MIB,
    "STEPFLOW_ANSWERS_BYTES_MAX": 16 * MIB,
    "STEPFLOW_STREAM_BLOCKED_S": 5,
    "STEPFLOW_CANCEL_GRACE_S": 1,
}
KILLS: Final = 100
RUNS: Final = 200_000
DEAF: Final = 1000
KILL_S: Final = 1.0
"""A life takes no longer than this on a crowded machine."""
REFUSALS: Final = {404, 409, 413, 429, 503}


def torture(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int]:
    """Work for about so long; return the counts. Raises `AssertionError` for any violation."""
    ends = time.monotonic() + seconds
    names = ("kills", "lives", "recoveries", "acknowledged", "attacks", "cases", "lost")
    counts: dict[str, int] = dict.fromkeys(names, 0)
    with tempfile.TemporaryDirectory(prefix="stepflow-plenty-") as place:
        for part in (_kills, _ramp):
            folder = Path(place) / part.__name__
            folder.mkdir()
            _add(counts, part(folder, seconds * 0.3, seed, say))
        folder = Path(place) / "floods"
        folder.mkdir()
        _add(counts, _floods(folder, max(5.0, ends - time.monotonic() - 10), seed, say))
    return counts


def _add(counts: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        counts[name] += count


def _kills(place: Path, seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int]:
    kills = max(3, min(KILLS, int(seconds / KILL_S)))
    report = killed(place / "data", kills, seed, within_s=120 + kills * 5)
    again = f"again: python -m tests.plenty.kills DATA {kills} {seed}"
    assert not report["aside"], f"set aside by kills from outside: {report['aside']}; {again}"
    assert not report["wrong"], f"ended wrongly: {report['wrong']}; {again}"
    say(f"{kills} kills from outside set nobody aside; {report['named']} left marks")
    return {
        "kills": kills,
        "lives": kills + 1,
        "recoveries": kills,
        "acknowledged": report["runs"],
    }


def _ramp(place: Path, seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int]:
    del seed  # nothing in it is random
    busy = max(200, min(5000, int(seconds * 50)))
    ramp = climb(place, busy=busy, asleep=RUNS - busy, rate=1000, fill_s=seconds * 0.5, say=say)
    assert per_run(ramp) < 20, f"{per_run(ramp):.1f} KiB a run"
    say(
        f"{ramp.runs} live runs after a kill: {busy} woken in {ramp.seconds:.1f} s, "
        f"{ramp.answered} triggers answered meanwhile, {ramp.resident_bytes // MIB} MiB"
    )
    return {"kills": 1, "lives": 2, "recoveries": 1, "acknowledged": ramp.runs + ramp.samples}


# ---------------------------------------------------------------- floods


class _Flood:
    """What one caller does to the server, and what it was told."""

    def __init__(self, server: Served, dice: random.Random, ends: float) -> None:
        self._server = server
        self._dice = dice
        self._ends = ends
        self._client = httpx.Client(headers=dict(server.client.headers), timeout=60)
        self.requests = 0
        self.taken: list[str] = []
        """Runs that were acknowledged and live until they are told that it is over."""
        self.failure = ""

    def run(self) -> None:
        try:
            while time.monotonic() < self._ends and not self.failure:
                self._one()
        except Exception as error:  # noqa: BLE001  told by whoever waits for the thread
            self.failure = repr(error)
        finally:
            self._client.close()

    def _one(self) -> None:
        dice = self._dice
        size = dice.choice((10, 1000, 100_000, MIB - 64, MIB + 64))
        text = "x" * size
        match dice.randrange(8):
            case 0 | 1:
                told = self._ask("POST", "/trigger/waits", {"id": dice.random(), "text": text})
                if told is not None:
                    self.taken.append(told["runId"])
            case 2:
                self._ask("POST", "/trigger/echo", text)
            case 3:
                self._ask("POST", "/trigger/returns", size + dice.randrange(3))
            case 4:
                self._ask("POST", f"/notify/item-{dice.randrange(3)}", text)
            case 5:
                self._ask("GET", "/runs?limit=200", None)
            case 6:
                self._ask("POST", "/trigger/grows", {"steps": 4, "nbytes": min(size, MIB)})
            case _:
                self._ask("POST", "/trigger/emits", {"count": 20, "nbytes": min(size, MIB)})

    def _ask(self, method: str, path: str, body: Any) -> Any:
        answer = self._client.request(method, f"{self._server.url}{path}", json=body)
        self.requests += 1
        if answer.status_code == 200:
            return answer.json()
        assert answer.status_code in REFUSALS, f"{path}: {answer.status_code} {answer.text[:200]}"
        return None


def _floods(place: Path, seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int]:
    env = {name: str(value) for name, value in BOUNDS.items()}
    again = f"seed {seed}"
    with Served(place, FLOOD_APP, env=env, address_space=2048 * MIB) as server, ExitStack() as held:
        server.ready()
        ends = time.monotonic() + seconds
        callers = [_Flood(server, random.Random(seed * 10 + n), ends) for n in range(6)]
        threads = [threading.Thread(target=caller.run, daemon=True) for caller in callers]
        with server.grows_at_most(20 * BOUND):
            for thread in threads:
                thread.start()
            deaf = _deaf(server, held, min(DEAF, int(seconds * 20)))
            for thread in threads:
                thread.join(seconds + 120)
        failures = [caller.failure for caller in callers if caller.failure]
        assert not failures, f"{failures}; {again}; {server.said[-2000:]}"
        assert server.alive, f"the flood ended it; {again}; {server.said[-2000:]}"
        # All that was acknowledged, and lives until it is told, is there and ends.
        taken = {run_id for caller in callers for run_id in caller.taken}
        missing = [run_id for run_id in taken if server.status(f"/runs/{run_id}") != 200]
        assert not missing, f"acknowledged and lost: {missing}; {again}"
        until(lambda: _is_over(server), lambda: server.said)
        requests = sum(caller.requests for caller in callers)
        say(f"{requests} requests of six floods and {deaf} connections that never read")
        return {"attacks": deaf, "cases": requests, "acknowledged": len(taken), "lives": 1}


def _is_over(server: Served) -> bool:
    """Tell all that wait now; say whether nothing lives any more."""
    server.post("/notify/over", 1)
    return server.metric("stepflow_runs_live") == 0


def _deaf(server: Served, held: ExitStack, count: int) -> int:
    """Open so many streams and answers that are never read."""
    run_id = server.trigger("emits", {"count": 20, "nbytes": 100_000})
    for number in range(count):
        never_read: socket.socket = held.enter_context(server.socket())
        rest = "/stream" if number % 4 else ""
        never_read.sendall(request("GET", f"/runs/{run_id}{rest}"))
    return count
