"""A tab that is left open on the list of many runs while more come: `make dashboard-soak`.

Prints, minute by minute, what the page cost its browser. `Tab` and `Feed` are the test's, too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table

from tests.browser.browser_kit import Browser
from tests.browser.dashboard_kit import dashboard_service, sign_in
from tests.conftest import find_tool

if TYPE_CHECKING:
    from tests.browser.browser_kit import Page, Service

STEPS = 10
BATCH = 500
TICK_S = 0.2
TOP = "document.querySelector('[aria-rowindex=\"2\"] [data-key]')?.dataset.key"
TOTAL = "Number(document.querySelector('.long')?.getAttribute('aria-rowcount')) - 1"
# Once a second the page notes whether another run has come to the top.
WATCH = f"""(() => {{
  const seen = (globalThis.soak = {{ tasks: [], seconds: 0, moved: 0, top: '' }});
  new PerformanceObserver((list) => {{
    for (const task of list.getEntries()) seen.tasks.push(task.duration);
  }}).observe({{ type: 'longtask' }});
  setInterval(() => {{
    const top = {TOP};
    seen.seconds += 1;
    seen.moved += top !== seen.top;
    seen.top = top;
  }}, 1000);
}})()"""
TAKE = """(() => {
  const { tasks, seconds, moved } = soak;
  Object.assign(soak, { tasks: [], seconds: 0, moved: 0 });
  return { tasks, seconds, moved };
})()"""


class Cost(NamedTuple):
    """What the page has cost since it was asked before."""

    tasks: list[float]
    seconds: int
    moved: int
    heap_bytes: int
    browser_bytes: int
    nodes: int
    elements: int
    rows: int
    total: int


class Tab:
    """The list of runs in a tab, and what it costs."""

    def __init__(self, browser: Browser, service: Service) -> None:
        self._browser = browser
        self.page: Page = sign_in(browser, service, "#/runs").page
        self.page.until(f"{TOTAL} > 0")
        self.page.eval(WATCH)

    def load(self, rows: int) -> None:
        """Scroll down until so many rows are loaded, then back to the top."""
        self.page.eval(
            "(async () => { const box = document.querySelector('.long');"
            f" while ({TOTAL} < {rows}) {{ box.scrollTop = box.scrollHeight;"
            " await new Promise((done) => setTimeout(done, 10)); } box.scrollTop = 0; })()"
        )
        self.page.until(TOP)

    def shows_on_top(self, run_id: str) -> None:
        """Wait until the list is as new as that."""
        self.page.until(f"{TOP} === '{run_id}'")

    def cost(self) -> Cost:
        seen: dict[str, Any] = self.page.eval(TAKE)
        told = self.page.metrics()
        return Cost(
            **seen,
            heap_bytes=int(told["JSHeapUsedSize"]),
            browser_bytes=self._browser.memory_bytes(),
            nodes=int(told["Nodes"]),
            elements=self.page.eval("document.getElementsByTagName('*').length"),
            rows=self.page.eval("document.querySelectorAll('.run-row').length"),
            total=self.page.eval(TOTAL),
        )


class Feed:
    """Starts runs, many at once."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def start(self, count: int, steps: int = STEPS) -> str:
        """Start so many runs; return the newest."""
        plans = [{"steps": steps}] * count
        newest = ""
        for at in range(0, count, BATCH):
            told = self._service.post("/trigger/quick/batch", plans[at : at + BATCH])
            newest = told[-1]["runId"]
        return newest

    def until_done(self, run_id: str) -> dict[str, Any]:
        while True:
            run: dict[str, Any] = self._service.http.get(f"/runs/{run_id}").json()
            if run["status"] == "completed":
                return run
            time.sleep(0.02)

    def events_a_run(self) -> int:
        """Return how many events one run puts on the stream."""
        told = self._service.post("/trigger/quick", {"steps": STEPS})
        token = told["publicAccessToken"]
        path = f"/runs/{told['runId']}/stream?token={token}"
        with self._service.http.stream("GET", path) as answer:
            return "".join(answer.iter_text()).count("\nevent: ") + 1


class Load(threading.Thread):
    """So many events a second, in ticks; what a tick came late is made up for by the next."""

    def __init__(self, feed: Feed, events_a_second: float, events_a_run: int) -> None:
        super().__init__(daemon=True)
        self._feed = feed
        self._rate = events_a_second / events_a_run
        self._ended = threading.Event()
        self.started = 0
        self.newest = ""
        self.error: Exception | None = None

    def run(self) -> None:
        began = time.monotonic()
        try:
            while not self._ended.wait(TICK_S):
                due = int((time.monotonic() - began) * self._rate) - self.started
                if due > 0:
                    self.newest = self._feed.start(due)
                    self.started += due
        except Exception as error:  # noqa: BLE001  raised by `stop`, in the main thread
            self.error = error

    def stop(self) -> str:
        """End it; return the newest run."""
        self._ended.set()
        self.join()
        if self.error:
            raise self.error
        return self.newest


def table(costs: list[Cost]) -> Table:
    """Draw the first minute, the last one, and the worst of all between."""
    drawn = Table(title="A tab left open")
    for title in ("", "first minute", "last minute", "most of all"):
        drawn.add_column(title, justify="right" if title else "left")

    def row(name: str, of: Any, form: str = "{:,}") -> None:
        values = [of(each) for each in costs]
        drawn.add_row(name, *(form.format(v) for v in (values[0], values[-1], max(values))))

    row("long tasks (over 50 ms)", lambda each: len(each.tasks))
    row("… all together, ms", lambda each: round(sum(each.tasks)))
    row("… the longest, ms", lambda each: round(max(each.tasks, default=0)))
    row("JS heap after a collection, MiB", lambda each: each.heap_bytes / 2**20, "{:.1f}")
    row("all the browser's processes, MiB", lambda each: each.browser_bytes / 2**20, "{:.0f}")
    row("DOM nodes, detached ones too", lambda each: each.nodes)
    row("elements in the document", lambda each: each.elements)
    row("rows drawn", lambda each: each.rows)
    row("rows in the list", lambda each: each.total)
    row(
        "seconds with a new run on top, %",
        lambda each: round(100 * each.moved / max(1, each.seconds)),
    )
    return drawn


def soak(runs: int, events: int, minutes: int) -> None:
    """Fill, load, look each minute; print."""
    node, chromium = find_tool("node"), find_tool("chromium")
    if node is None or chromium is None:
        sys.exit("needs node and Chromium: make system-deps node-deps")
    console = Console()
    with tempfile.TemporaryDirectory() as name, dashboard_service(Path(name) / "data") as service:
        feed = Feed(service)
        console.print(f"{runs:,} runs …")
        feed.until_done(feed.start(runs, steps=0))
        events_a_run = feed.events_a_run()
        browser = Browser(node, chromium, Path(name) / "profile")
        try:
            tab = Tab(browser, service)
            tab.load(runs)
            tab.cost()
            load = Load(feed, events, events_a_run)
            load.start()
            began = time.monotonic()
            costs = []
            for minute in range(minutes):
                time.sleep(max(0.0, began + 60 * (minute + 1) - time.monotonic()))
                costs.append(tab.cost())
                console.print(f"minute {minute + 1}: {costs[-1].total:,} rows")
            took = time.monotonic() - began
            newest = load.stop()
            tab.shows_on_top(newest)
        finally:
            browser.close()
    console.print(table(costs))
    rate = load.started * events_a_run / took
    console.print(
        f"{rate:,.0f} events a second in {took / 60:.1f} minutes; the list came to its end."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=500, help="a second")
    parser.add_argument("--minutes", type=int, default=10)
    args = parser.parse_args()
    soak(args.runs, args.events, args.minutes)


if __name__ == "__main__":
    main()
