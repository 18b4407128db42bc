"""Make docs/images from real runs: a terminal and a page that follow one, the dashboard.

Starts the examples, triggers, and looks at them while they wait for their payment. The pages need
Chromium, `make node-deps` and the `plots` group of dependencies. Arguments choose: `terminal`,
`page`, `dashboard`.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from stepflow.cli.live import picture
from stepflow.cli.watching import RunWatch
from stepflow.client import SyncClient
from stepflow.clock import SystemClock

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "browser")]

from browser_kit import Browser  # noqa: E402  the path is set above
from dashboard_pictures import draw_dashboard  # noqa: E402

from tests.conftest import find_tool  # noqa: E402
from tools.ports import free_port  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Generator

IMAGES: Final = ROOT / "docs" / "images"
KEY: Final = "a-key-that-is-for-pictures-only"
ORDER: Final[dict[str, Any]] = {
    "id": "1042",
    "email": "ada@example.com",
    "items": ["tea", "cup", "kettle"],
}
COMMAND: Final = "$ stepflow trigger checkout @order.json --follow"
# The fonts would be fetched from another host; the viewer's own monospace does as well.
_FONTS: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


@contextmanager
def running(command: list[str], data: Path) -> Generator[None]:
    """Run a process of the examples, with a data directory of its own."""
    env = os.environ | {
        "STEPFLOW_DATA_DIR": str(data),
        "STEPFLOW_API_KEYS": KEY,
        "PYTHONPATH": str(ROOT),
    }
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=env, stdout=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def draw_terminal(directory: Path) -> None:
    """Follow a checkout until it waits for its payment."""
    port = free_port()
    serve = ["-m", "stepflow.cli.main", "serve", "examples/app.py", "--port", str(port)]
    with running(serve, directory / "served"):
        client = SyncClient(f"http://127.0.0.1:{port}", KEY, tries=20)
        run = client.trigger("checkout", ORDER)
        watch = RunWatch(run.id, "checkout", SystemClock().wall_ms())
        console = Console(record=True, width=100, force_terminal=True, file=io.StringIO())
        console.print(Text(COMMAND, style="bold"), soft_wrap=True)
        for event in client.stream(run.id):
            watch.apply(event, SystemClock().wall_ms())
            if b'"stepName":"payment"' in event.data:
                break
        console.print(picture(watch, SystemClock().wall_ms() + 2600, width=100))
    svg = _FONTS.sub("", console.export_svg(title="stepflow"))
    (IMAGES / "terminal.svg").write_text(svg, encoding="utf-8")


def draw_page(browser: Browser, directory: Path) -> None:
    """Place an order on the page of the embedding example, and look at it while it waits."""
    port = free_port()
    host = ["-m", "uvicorn", "--app-dir", "examples", "embedded:app", "--port", str(port)]
    with running(host, directory / "embedded"):
        SyncClient(f"http://127.0.0.1:{port}/api/stepflow", KEY, tries=20).list_runs()
        page = browser.open(f"http://127.0.0.1:{port}/", width=760, height=520)
        page.eval("document.getElementById('buy').click()")
        page.until("document.body.textContent.includes('waiting for event')")
        page.screenshot(IMAGES / "monitor.png")


def main() -> None:
    """Draw all pictures, or those that the arguments name."""
    node, chromium = find_tool("node"), find_tool("chromium")
    if node is None or chromium is None:
        sys.exit("needs node and Chromium: make system-deps node-deps")
    wanted = set(sys.argv[1:]) or {"terminal", "page", "dashboard"}
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if "terminal" in wanted:
            draw_terminal(directory)
        browser = Browser(node, chromium, directory / "profile")
        try:
            if "page" in wanted:
                draw_page(browser, directory)
            if "dashboard" in wanted:
                draw_dashboard(browser, directory, IMAGES)
        finally:
            browser.close()


if __name__ == "__main__":
    main()
