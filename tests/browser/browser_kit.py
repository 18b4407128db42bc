"""A browser, a service and a site of pages, each a process or a thread of its own."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.served import doomed
from tools.ports import free_port

HERE = Path(__file__).parent
KEY = "browser-test-key-0123456789"
APP = HERE / "browser_app.py"
PAGES = HERE / "pages"

# (id, event, data) as the stream has it
Event = tuple[str, str, str]


class Browser:
    """A real Chromium with a profile of its own, through `driver.mjs`."""

    def __init__(self, node: str, chromium: str, profile: Path) -> None:
        self._driver = subprocess.Popen(
            doomed([node, str(HERE / "driver.mjs")]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE,
        )
        self.version = self.do("launch", executable=chromium, profile=str(profile))

    def do(self, name: str, **args: Any) -> Any:
        """Have the driver do one thing; return its answer."""
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(json.dumps({"do": name, **args}) + "\n")
        self._driver.stdin.flush()
        line = self._driver.stdout.readline()
        assert line, "the driver has ended"
        answer = json.loads(line)
        if "error" in answer:
            raise AssertionError(f"{name} {args}: {answer['error']}")
        return answer["value"]

    def open(self, url: str, **how: Any) -> Page:
        answer = self.do("open", url=url, **how)
        return Page(self, answer["page"], answer["status"])

    def memory_bytes(self) -> int:
        """Return what all the browser's processes hold, workers' too; what they share, once."""
        found = [self._driver.pid]
        for pid in found:
            tasks = Path(f"/proc/{pid}/task").glob("*/children")
            found += [int(child) for task in tasks for child in _text_of(task).split()]
        rolls = [_text_of(Path(f"/proc/{pid}/smaps_rollup")) for pid in found[1:]]
        lines = [line for roll in rolls for line in roll.splitlines()]
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))

    def network(self, *, there: bool) -> None:
        """Take the network away from all tabs, or give it back; each is told."""
        self.do("network", offline=not there)

    def close(self) -> None:
        """End the browser, then its driver."""
        self._driver.communicate()


class Page:
    """One tab."""

    def __init__(self, browser: Browser, number: int, status: int) -> None:
        self._browser = browser
        self._number = number
        self.status = status

    def _do(self, name: str, **args: Any) -> Any:
        return self._browser.do(name, page=self._number, **args)

    def eval(self, code: str) -> Any:
        """Return the value of an expression in the page."""
        return self._do("eval", code=code)

    def until(self, code: str) -> Any:
        """Return the value of an expression once it is true."""
        return self._do("until", code=code)

    def watch(self, name: str, url: str, **options: bool) -> None:
        """Open an `EventSource` in `watch.html`."""
        self.eval(f"watch({json.dumps(name)}, {json.dumps(url)}, {json.dumps(options)})")

    def diary(self, name: str) -> dict[str, Any]:
        """Return what the page has noted of that stream."""
        return self.eval(f"diary[{json.dumps(name)}]")

    def events(self, name: str) -> list[Event]:
        return [(row[0], row[1], row[2]) for row in self.diary(name)["events"]]

    def requests(self, *, ending: str = "") -> list[dict[str, Any]]:
        """Return the requests so far whose path ends so."""
        every: list[dict[str, Any]] = self._do("requests")
        return [seen for seen in every if httpx.URL(seen["url"]).path.endswith(ending)]

    def heard(self) -> dict[str, list[str]]:
        """Return the console's messages and the violations of the page's policy."""
        return self._do("heard")

    def press(self, key: str) -> None:
        """Press a key, `j` or `Enter` or `Shift+Tab`, wherever the focus is."""
        self._do("press", key=key)

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self._do("type", text=text)

    def run_script(self, path: Path) -> None:
        """Run a file in the page, as the browser's own tools do: no policy of the page stops it."""
        self._do("run_script", path=str(path))

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        self._do("screenshot", path=str(path), whole=whole)

    def metrics(self) -> dict[str, float]:
        """Collect garbage; return what the browser counts: `JSHeapUsedSize`, `Nodes` and more."""
        return self._do("metrics")

    def freeze(self) -> None:
        """Let no script of the page run, as of a tab in the background, until `thaw`."""
        self._do("lifecycle", state="frozen")

    def thaw(self) -> None:
        self._do("lifecycle", state="active")

    def shut(self) -> None:
        self._do("shut")


class Service:
    """`browser_app.py` as a process that can be killed and started again on the same data."""

    def __init__(
        self,
        data: Path,
        *more: str,
        serve: bool = False,
        app: Path = APP,
        base_path: str = "",
        **env: str,
    ) -> None:
        """`serve`, or another `app`: by `stepflow serve`, else a script with own pages."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}{base_path}"
        self._env = os.environ | {"STEPFLOW_DATA_DIR": str(data), "STEPFLOW_API_KEYS": KEY} | env
        self._command = [sys.executable, str(APP), str(self.port)]
        if serve or app != APP:
            cli = "from stepflow.cli.main import main; main()"
            options = ["serve", str(app), "--data", str(data), "--port", str(self.port)]
            options += ["--base-path", base_path, *more]
            self._command = [sys.executable, "-c", cli, *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=self.url, headers={"X-API-Key": KEY}, timeout=30)
        self.start()

    def start(self) -> None:
        """Start, and wait until it is ready."""
        process = self._process = subprocess.Popen(
            doomed(self._command), env=self._env, stdout=subprocess.DEVNULL
        )
        while not self._ready():
            assert process.poll() is None, "the service did not come up"
            time.sleep(0.02)

    def _ready(self) -> bool:
        try:
            return self.http.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """`kill -9`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        self.http.close()
        self.kill()

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def trigger(self, **plan: Any) -> Watched:
        """Start a run of `staged`."""
        told = self.post("/trigger/staged", plan)
        return Watched(told["runId"], told["publicAccessToken"])

    def open_gate(self, run: Watched, stage: int) -> None:
        """Let the run go on past a stage, whether or not it has come there."""
        self.post(f"/notify/gate-{stage}?runId={run.id}")

    def cut(self) -> int:
        """Drop the connection of every open stream; return how many there were."""
        cut: int = self.post("/_cut")["cut"]
        return cut

    def until_gate(self, run: Watched, stage: int) -> None:
        """Wait until the run waits at a stage."""
        name = f"gate-{stage}"
        while True:
            steps = self.http.get(f"/runs/{run.id}").json()["steps"]
            if any(step["name"] == name for step in steps):
                return
            time.sleep(0.01)

    def fresh_read(self, run: Watched) -> list[Event]:
        """Return a finished run's whole stream, read by something that is no browser."""
        with self.http.stream("GET", run.stream_path) as answer:
            assert answer.status_code == 200
            text = "".join(answer.iter_text())
        return [event for block in text.split("\n\n") if (event := _event(block))]


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        # The process has ended meanwhile.
        return ""


class Watched:
    """A run and the token that reads it."""

    def __init__(self, run_id: str, token: str) -> None:
        self.id = run_id
        self.token = token

    @property
    def stream_path(self) -> str:
        return f"/runs/{self.id}/stream?token={self.token}"


def _event(block: str) -> Event | None:
    found = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
    return (found["id"], found["event"], found["data"]) if "id" in found else None


class Site:
    """Pages on an origin of their own."""

    def __init__(self, directory: Path = PAGES) -> None:
        handler = functools.partial(_QuietHandler, directory=str(directory))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass
