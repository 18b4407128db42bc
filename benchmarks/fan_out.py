"""Events a second to 1,000 subscribers of one run, beside plain ASGI `send` of shared bytes.

Two shapes, each on both servers in turn, with events of the same size:

- **one by one**: the next event is caused when every subscriber has got the last one. A cause makes
  two events, which we may send together; it shows what one durable change costs.
- **a burst**: as many as there are at once. Our cursor takes what is new in one go; the yardstick
  sends each event by itself, as a fan-out by queues would.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.report import ROOT, arguments, data_directory, finish, ratios, spread
from benchmarks.servers import ask, product, yardstick

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS_A_TICK = 2


class Crowd:
    """The readers' process."""

    def __init__(self, port: int, path: str, count: int) -> None:
        command = [sys.executable, "-m", "benchmarks.subscribers", str(port), path, str(count)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _order(self, text: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the subscribers have ended")
        return answer

    def until(self, events: int) -> float:
        return float(self._order(f"until {events}"))

    def nbytes(self) -> int:
        return int(self._order("bytes"))

    def reset(self) -> None:
        self._order("reset")

    def close(self) -> None:
        self._process.communicate()


@contextmanager
def crowd(port: int, path: str, count: int) -> Iterator[Crowd]:
    readers = Crowd(port, path, count)
    try:
        yield readers
    finally:
        readers.close()


class Bench:
    """The two servers and how long the run is."""

    def __init__(
        self, product_port: int, plain_port: int, count: int, ticks: int, burst: int
    ) -> None:
        self._product = product_port
        self._plain = plain_port
        self._count = count
        self._ticks = ticks
        self._burst = burst
        self.event_bytes = 150

    def _post(self, port: int, path: str, body: bytes = b"") -> bytes:
        status, answer = ask(port, "POST", path, body)
        if status != 200:
            raise RuntimeError(f"{path} gives {status} {answer!r}")
        return answer

    def _trigger(self, workflow: str, body: int) -> str:
        answer = self._post(self._product, f"/trigger/{workflow}", b"%d" % body)
        return str(json.loads(answer)["runId"])

    def ours_one_by_one(self) -> tuple[float, float]:
        """Return delivered events a second, and milliseconds from the cause to the last reader."""
        run_id = self._trigger("ticker", self._ticks + 1)
        with crowd(self._product, f"/runs/{run_id}/stream", self._count) as readers:
            readers.until(2)  # it runs, and waits for the first tick
            readers.reset()
            began = time.perf_counter()
            for tick in range(1, self._ticks + 1):
                self._post(self._product, f"/notify/tick?runId={run_id}", b"{}")
                readers.until(EVENTS_A_TICK * tick)
            took = time.perf_counter() - began
            delivered = EVENTS_A_TICK * self._ticks * self._count
            self.event_bytes = round(readers.nbytes() / delivered)
        return delivered / took, took / self._ticks * 1e3

    def plain_one_by_one(self) -> tuple[float, float]:
        with crowd(self._plain, "/stream", self._count) as readers:
            readers.until(0)
            began = time.perf_counter()
            for tick in range(1, self._ticks + 1):
                self._publish(EVENTS_A_TICK)
                readers.until(EVENTS_A_TICK * tick)
            took = time.perf_counter() - began
        return EVENTS_A_TICK * self._ticks * self._count / took, took / self._ticks * 1e3

    def ours_burst(self) -> float:
        run_id = self._trigger("burst", self._burst)
        with crowd(self._product, f"/runs/{run_id}/stream", self._count) as readers:
            readers.until(2)
            readers.reset()
            began = time.perf_counter()
            self._post(self._product, f"/notify/go?runId={run_id}", b"{}")
            took = readers.until(2 * self._burst) - began
        return 2 * self._burst * self._count / took

    def plain_burst(self) -> float:
        with crowd(self._plain, "/stream", self._count) as readers:
            readers.until(0)
            began = time.perf_counter()
            self._publish(2 * self._burst)
            took = readers.until(2 * self._burst) - began
        return 2 * self._burst * self._count / took

    def _publish(self, count: int) -> None:
        # The chunk's own framing is some eight bytes.
        self._post(self._plain, f"/publish?count={count}&size={self.event_bytes - 8}")


def measure(bench: Bench, repeats: int) -> dict[str, Any]:
    one: list[float] = []
    one_ms: list[float] = []
    plain: list[float] = []
    plain_ms: list[float] = []
    burst: list[float] = []
    plain_burst: list[float] = []
    for _ in range(repeats):
        rate, last_ms = bench.ours_one_by_one()
        one.append(rate)
        one_ms.append(last_ms)
        rate, last_ms = bench.plain_one_by_one()
        plain.append(rate)
        plain_ms.append(last_ms)
        burst.append(bench.ours_burst())
        plain_burst.append(bench.plain_burst())
    return {
        "event_bytes": bench.event_bytes,
        "delivered_per_s": spread(one),
        "to_the_last_reader_ms": spread(one_ms, 1),
        "plain_delivered_per_s": spread(plain),
        "plain_to_the_last_reader_ms": spread(plain_ms, 1),
        "to_plain": ratios(one, plain),
        "burst_delivered_per_s": spread(burst),
        "plain_burst_delivered_per_s": spread(plain_burst),
        "burst_to_plain": ratios(burst, plain_burst),
    }


def main() -> None:
    options = arguments("Fan-out of one run's events beside plain ASGI")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536), most))
    count, ticks, burst = (200, 10, 20) if options.quick else (1000, 60, 100)
    with data_directory() as data, product(data) as port, yardstick("plain") as plain_port:
        figures = measure(Bench(port, plain_port, count, ticks, burst), options.repeats)
    facts: dict[str, Any] = {"subscribers": count, "ticks": ticks, "burst_events": 2 * burst}
    facts |= {"gc": "both servers: thresholds (100000, 20, 50), objects of the start frozen"}
    finish(facts | figures, options.json)


if __name__ == "__main__":
    main()
