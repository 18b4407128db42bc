"""`@stepflow/client` in a real Chromium: element, React hook, both transports."""

from __future__ import annotations

import functools
import gzip
import json
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.browser.browser_kit import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.browser.browser_kit import Browser, Page, Watched

PACKAGE = Path(__file__).parents[2] / "clients" / "js"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src http://127.0.0.1:*; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
SCRIPTS = {"element": "stepflow-run.js", "react": "react.js", "follow": "follow.js"}
SHADOW = "document.querySelector('stepflow-run').shadowRoot"


class StrictPages(SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Pages of another origin under the strictest policy; yields the origin."""
    if not (PACKAGE / "node_modules").is_dir():
        pytest.skip("no node_modules in clients/js: make node-deps")
    root = tmp_path_factory.mktemp("pages")
    # A tree of its own: another worker may be building the package.
    copy = root / "js"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("node_modules", "dist", "build"))
    (copy / "node_modules").symlink_to(PACKAGE / "node_modules")
    subprocess.run(["node", "tools/build.mjs"], cwd=copy, check=True)
    for name, script in SCRIPTS.items():
        found = copy / ("dist" if name == "element" else "build/pages") / script
        shutil.copy(found, root / script)
        page = f"<!doctype html><title>{name}</title><script type=module src={script}></script>"
        (root / f"{name}.html").write_text(page)
    handler = functools.partial(StrictPages, directory=str(root))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def service(tmp_path: Path, pages: str) -> Iterator[Service]:
    service = Service(tmp_path / "data", serve=True, STEPFLOW_CORS_ORIGINS=pages)
    yield service
    service.close()


def show(browser: Browser, pages: str, service: Service, run: Watched) -> Page:
    page = browser.open(f"{pages}/element.html")
    attributes = json.dumps({"url": service.url, "run-id": run.id, "token": run.token})
    page.eval(
        "(() => { const shown = document.createElement('stepflow-run');"
        f" for (const [key, value] of Object.entries({attributes})) shown.setAttribute(key, value);"
        " document.body.append(shown) })()"
    )
    return page


def unheard(page: Page) -> None:
    """Nothing broke the policy, and nothing but broken connections was said."""
    heard = page.heard()
    assert heard["violations"] == []
    # React says that it has tools; a page without an icon is 404; a killed server is net::ERR.
    expected = ("info: ", "net::ERR", "404")
    said = [line for line in heard["console"] if not any(text in line for text in expected)]
    assert said == []


def test_the_element_is_a_few_kilobytes(pages: str, tmp_path: Path) -> None:
    import httpx

    assert len(gzip.compress(httpx.get(f"{pages}/stepflow-run.js").content, 9)) <= 9_000


def test_the_element_shows_a_run_from_trigger_to_result(
    browser: Browser, pages: str, service: Service
) -> None:
    run = service.trigger(stages=2, steps=1)
    page = show(browser, pages, service, run)
    page.until(f"{SHADOW}?.textContent.includes('gate-0')")
    assert page.eval(f"{SHADOW}.querySelector('[role=status]').textContent") == "running"
    service.open_gate(run, 0)
    page.until(f"{SHADOW}.textContent.includes('gate-1')")
    service.kill()
    page.until(f"{SHADOW}.textContent.includes('reconnecting')")
    service.start()
    service.open_gate(run, 1)
    page.until(f"{SHADOW}.querySelector('[role=status]').textContent === 'completed'")
    shown = page.eval(
        f"[...{SHADOW}.querySelectorAll('li')].map((row) =>"
        " [row.querySelector('.name').textContent, row.querySelector('[role=img]').ariaLabel])"
    )
    steps = service.http.get(f"/runs/{run.id}").json()["steps"]
    assert shown == [[step["name"], step["status"]] for step in steps]
    assert json.loads(page.eval(f"{SHADOW}.querySelector('pre').textContent")) == {"stages": 2}
    unheard(page)


def test_the_element_shows_why_a_run_failed_and_runs_no_script_of_it(
    browser: Browser, pages: str, service: Service
) -> None:
    run = service.trigger(stages=1, steps=1, fails=True)
    page = show(browser, pages, service, run)
    service.open_gate(run, 0)
    page.until(f"{SHADOW}?.querySelector('[role=alert]')")
    assert "the card was refused" in page.eval(
        f"{SHADOW}.querySelector('[role=alert]').textContent"
    )
    page.eval("document.querySelector('stepflow-run').setAttribute('token', 'pat_wrong')")
    page.until(f"{SHADOW}.querySelector('[role=alert]')?.textContent.includes('Unauthorized')")
    assert page.heard()["violations"] == []


def test_the_element_is_light_and_dark_and_ends_its_stream_when_it_goes(
    browser: Browser, pages: str, service: Service
) -> None:
    run = service.trigger(stages=1, steps=1)
    page = show(browser, pages, service, run)
    page.until(f"{SHADOW}?.textContent.includes('gate-0')")
    color = "getComputedStyle(document.querySelector('stepflow-run')).backgroundColor"
    assert page.eval(color) == "rgb(255, 255, 255)"
    dark = browser.open(f"{pages}/element.html", scheme="dark")
    dark.eval("document.body.append(document.createElement('stepflow-run'))")
    assert dark.until(color) == "rgb(13, 17, 23)"
    page.eval("document.querySelector('stepflow-run').remove()")
    until_streams(service, 0)


def test_use_run_follows_in_strict_mode_with_one_stream(
    browser: Browser, pages: str, service: Service
) -> None:
    run = service.trigger(stages=1, steps=1)
    query = urlencode({"url": service.url, "run": run.id, "token": run.token})
    page = browser.open(f"{pages}/react.html?{query}")
    page.until("document.body.textContent.includes('gate-0#1 pending')")
    assert streams(service) == 1
    assert len([seen for seen in page.requests(ending="/stream") if seen["method"] == "GET"]) == 1
    page.eval("document.querySelector('button').click()")
    until_streams(service, 0)
    page.eval("document.querySelector('button').click()")
    page.until("document.body.textContent.includes('gate-0#1 pending')")
    service.open_gate(run, 0)
    page.until("document.querySelector('#status').textContent === 'completed'")
    assert page.eval("document.querySelector('#result').textContent") == '{"stages":1}'
    unheard(page)


@pytest.mark.parametrize("transport", ["fetch", "eventsource"])
def test_both_transports_resume_while_the_server_is_killed(
    browser: Browser, pages: str, service: Service, transport: str
) -> None:
    run = service.trigger(stages=2, steps=2)
    page = browser.open(f"{pages}/follow.html")
    page.until("globalThis.follow")
    told = ", ".join(json.dumps(each) for each in (service.url, run.id, run.token, transport))
    page.eval(f"follow('run', {told})")
    for stage in range(2):
        page.until(f"diary.run.events.some(([, , data]) => data.includes('\"gate-{stage}\"'))")
        service.kill()
        page.until("diary.run.states.at(-1) === 'waiting'")
        service.start()
        service.open_gate(run, stage)
    assert page.until("diary.run.over") == "ended"
    events = [(row[0], row[1], json.loads(row[2])) for row in page.eval("diary.run.events")]
    assert events == [(row[0], row[1], json.loads(row[2])) for row in service.fresh_read(run)]
    # A page that comes late to what it has seen is told to stay away.
    page.eval(f"follow('late', {told})")
    assert page.until("diary.late.over") == "ended"
    page.eval(f"follow('wrong', {told.replace(run.token, 'pat_wrong')})")
    assert page.until("diary.wrong.over") == "UnauthorizedError: Unauthorized"


def streams(service: Service) -> int:
    for line in service.http.get("/metrics").text.splitlines():
        if line.startswith("stepflow_stream_subscribers"):
            return int(float(line.rpartition(" ")[2]))
    raise AssertionError("no figure")


def until_streams(service: Service, wanted: int) -> None:
    while streams(service) != wanted:
        pass
