"""Events a second to 1,000 and to 5,000 subscribers, beside the least and a library.

Once to the subscribers of one run's stream, and once (under `all`) to those of `/stream`, which
tells of all runs.

The least is plain ASGI: one `send` of shared bytes an event and subscriber. The library is
sse-starlette, once as its documentation shows it and once yielding shared bytes (`make sse-env`;
without it these figures are left out, and that is said). Two shapes, each on all servers in turn,
with events of the same size:

- **one by one**: the next event is caused when every subscriber has got the last one. A cause makes
  two events, which we may send together; it shows what one durable change costs.
- **a burst**: as many as there are at once. Our cursor takes what is new in one go; the others send
  each event by itself, as a fan-out by queues does.

`…_cpu_us` is the server's processor time for each delivered event of the first shape: the readers'
process shares the machine, and on two cores it is often they who are the slower.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.report import ROOT, arguments, data_directory, finish, ratios, spread
from benchmarks.servers import SSE_PYTHON, ask, cpu_s, product, sse_starlette, yardstick

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


@dataclass(frozen=True)
class Seen:
    """One shape on one server."""

    rate: float
    ms: float
    cpu_us: float


class Bench:
    """The servers and how long the run is."""

    def __init__(
        self, product_port: int, count: int, ticks: int, burst: int, *, of_all: bool = False
    ) -> None:
        self._product = product_port
        self._of_all = of_all
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

    @contextmanager
    def _readers(self, run_id: str) -> Iterator[Crowd]:
        """Yield readers that have all that the run, which waits, has told so far."""
        while b'"state":"waiting"' not in ask(self._product, "GET", f"/runs/{run_id}")[1]:
            time.sleep(0.01)
        path = "/stream" if self._of_all else f"/runs/{run_id}/stream"
        with crowd(self._product, path, self._count) as readers:
            # Of a run: that it runs and waits. Of all: where the stream begins.
            readers.until(1 if self._of_all else 2)
            readers.reset()
            yield readers

    def ours_one_by_one(self) -> Seen:
        run_id = self._trigger("ticker", self._ticks + 1)
        with self._readers(run_id) as readers:
            before_s, began = cpu_s(self._product), time.perf_counter()
            for tick in range(1, self._ticks + 1):
                self._post(self._product, f"/notify/tick?runId={run_id}", b"{}")
                readers.until(EVENTS_A_TICK * tick)
            seen = self._seen(self._product, before_s, time.perf_counter() - began)
            delivered = EVENTS_A_TICK * self._ticks * self._count
            self.event_bytes = round(readers.nbytes() / delivered)
        return seen

    def one_by_one(self, port: int) -> Seen:
        with crowd(port, "/stream", self._count) as readers:
            readers.until(0)
            before_s, began = cpu_s(port), time.perf_counter()
            for tick in range(1, self._ticks + 1):
                self._publish(port, EVENTS_A_TICK)
                readers.until(EVENTS_A_TICK * tick)
            return self._seen(port, before_s, time.perf_counter() - began)

    def _seen(self, port: int, before_s: float, took_s: float) -> Seen:
        delivered = EVENTS_A_TICK * self._ticks * self._count
        used_s = cpu_s(port) - before_s
        return Seen(delivered / took_s, took_s / self._ticks * 1e3, used_s / delivered * 1e6)

    def ours_burst(self) -> float:
        run_id = self._trigger("burst", self._burst)
        with self._readers(run_id) as readers:
            began = time.perf_counter()
            self._post(self._product, f"/notify/go?runId={run_id}", b"{}")
            took = readers.until(2 * self._burst) - began
        return 2 * self._burst * self._count / took

    def burst(self, port: int) -> float:
        with crowd(port, "/stream", self._count) as readers:
            readers.until(0)
            began = time.perf_counter()
            self._publish(port, 2 * self._burst)
            took = readers.until(2 * self._burst) - began
        return 2 * self._burst * self._count / took

    def _publish(self, port: int, count: int) -> None:
        # The chunk's own framing is some eight bytes.
        self._post(port, f"/publish?count={count}&size={self.event_bytes - 8}")


def measure(bench: Bench, ports: dict[str, int], repeats: int) -> dict[str, Any]:
    """Return the figures; `ports` are the others' by name, and all take turns."""
    seen: dict[str, list[Seen]] = {name: [] for name in ("", *ports)}
    bursts: dict[str, list[float]] = {name: [] for name in ("", *ports)}
    for _ in range(repeats):
        seen[""].append(bench.ours_one_by_one())
        bursts[""].append(bench.ours_burst())
        for name, port in ports.items():
            seen[name].append(bench.one_by_one(port))
            bursts[name].append(bench.burst(port))
    figures: dict[str, Any] = {"event_bytes": bench.event_bytes}
    for name, rows in seen.items():
        first = f"{name}_" if name else ""
        figures[f"{first}delivered_per_s"] = spread([row.rate for row in rows])
        figures[f"{first}to_the_last_reader_ms"] = spread([row.ms for row in rows], 1)
        figures[f"{first}cpu_us"] = spread([row.cpu_us for row in rows], 2)
        figures[f"{first}burst_delivered_per_s"] = spread(bursts[name])
        if name:
            ours = [row.rate for row in seen[""]]
            figures[f"to_{name}"] = ratios(ours, [row.rate for row in rows])
            figures[f"burst_to_{name}"] = ratios(bursts[""], bursts[name])
            # The other way round: how much more of the processor theirs takes.
            cpu = [row.cpu_us for row in seen[""]]
            figures[f"{name}_cpu_to_ours"] = ratios([row.cpu_us for row in rows], cpu)
    return figures


def main() -> None:
    options = arguments("Fan-out of one run's events beside plain ASGI and sse-starlette")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536), most))
    counts, ticks, burst = ((200,), 10, 20) if options.quick else ((1000, 5000), 40, 50)
    facts: dict[str, Any] = {
        "subscribers": counts[0],
        "burst_events": 2 * burst,
        "gc": "all servers: thresholds (100000, 20, 50), objects of the start frozen",
    }
    if not SSE_PYTHON.exists():
        facts["left_out"] = "sse-starlette is not installed: make sse-env"
    for count in counts:
        with ExitStack() as servers:
            port = servers.enter_context(product(servers.enter_context(data_directory())))
            ports = {"plain": servers.enter_context(yardstick("plain"))}
            if SSE_PYTHON.exists():
                for way in ("dict", "bytes"):
                    name = "sse" if way == "dict" else "sse_bytes"
                    ports[name] = servers.enter_context(sse_starlette(way))
            some = max(5, ticks * counts[0] // count)
            figures = measure(Bench(port, count, some, burst), ports, options.repeats)
            bench = Bench(port, count, some, burst, of_all=True)
            figures["all"] = measure(bench, ports, options.repeats)
        facts |= figures if count == counts[0] else {f"at_{count}": figures}
    finish(facts, options.json)


if __name__ == "__main__":
    main()
