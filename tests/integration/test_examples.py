"""Each example does what it says, served as its first lines say."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest

from tests.cli_kit import ROOT, Served, environment, run_cli, until
from tests.served import doomed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(180)

EXAMPLES = ROOT / "examples"
QUICK = {"WELCOME_PAUSE": "50ms", "SHOP_COOL_OFF": "50ms"}


class Api:
    """The served examples over HTTP."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60)
        self.close = self._http.close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def post(self, path: str, body: Any) -> httpx.Response:
        return self._http.post(path, json=body)

    def start(self, workflow: str, body: Any) -> str:
        return str(self.post(f"/trigger/{workflow}", body).json()["runId"])

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._http.get(f"/runs/{run_id}").json()
        return found

    def ended(self, run_id: str) -> dict[str, Any]:
        until(lambda: self.run(run_id)["status"] not in {"pending", "running"})
        return self.run(run_id)


def key_in(place: Path) -> str:
    return (place / "stepflow-data" / "api.key").read_text().strip()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Served(EXAMPLES / "app.py", cwd=tmp_path, **QUICK)
    api = Api(server.ready(), (tmp_path / "stepflow-data" / "api.key").read_text().strip())
    yield api
    api.close()
    server.kill()


def names(run: dict[str, Any]) -> list[str]:
    return [step["name"] for step in run["steps"]]


def test_the_welcome_mail_is_that_of_the_api_reference(api: Api) -> None:
    run = api.ended(api.start("welcome-user", {"userId": "u_1", "email": "ada@example.com"}))
    assert (run["status"], run["result"]) == ("completed", {"success": True})
    assert names(run) == ["send-welcome", "a-while", "send-followup"]
    assert run["steps"][0]["result"] == {"sent": True}


def test_a_checkout_waits_for_its_payment(api: Api) -> None:
    order = {"id": "1", "email": "ada@example.com", "items": ["tea", "cup"]}
    run_id = api.start("checkout", order)
    assert api.post("/notify/paid-1", {"amount": 99}).json() == {"success": True}
    run = api.ended(run_id)
    assert run["result"] == {"paid": True, "amount": 99, "reserved": ["shelf-14", "shelf-28"]}
    assert names(run) == ["charge", "reserve", "reserve", "payment", "cool-off"]


@pytest.mark.parametrize(
    ("amount", "decision", "result"),
    [
        (420, {"approved": True, "by": "Grace"}, {"paid": True, "by": "Grace"}),
        (420, {"approved": False, "by": "Grace"}, {"paid": False, "by": "Grace"}),
        (42, None, {"paid": True, "by": "policy"}),
    ],
)
def test_an_expense_is_paid_once_approved(api: Api, amount, decision, result) -> None:
    run_id = api.start("expense", {"id": "7", "employee": "Ada", "amount": amount})
    if decision is not None:
        until(lambda: api.run(run_id)["state"] == "waiting")
        assert api.post("/notify/decision-7", {"approved": "maybe"}).status_code == 400
        assert api.post("/notify/decision-7", decision).status_code == 200
    assert api.ended(run_id)["result"] == result


def test_a_thousand_items_are_counted_at_once(api: Api) -> None:
    run = api.ended(api.start("count-words", {"pages": 1000}))
    assert run["result"] == {
        "pages": 1000,
        "words": sum(200 + page * 7919 % 101 for page in range(1000)),
    }
    assert len(run["steps"]) == 1000


def shown(path: Path) -> list[list[str]]:
    """The client's commands in an example's first lines, as a shell splits them."""
    found = re.findall(r"^stepflow ((?:trigger|notify) .*)$", path.read_text(), re.MULTILINE)
    return [shlex.split(command.removesuffix(" --follow")) for command in found]


@pytest.mark.parametrize("name", ["approval", "fan_out", "shop", "welcome"])
def test_what_an_examples_first_lines_show_works(name: str, tmp_path: Path) -> None:
    commands = shown(EXAMPLES / f"{name}.py")
    assert f"stepflow serve examples/{name}.py" in (EXAMPLES / f"{name}.py").read_text()
    assert commands
    server = Served(EXAMPLES / f"{name}.py", cwd=tmp_path, **QUICK)
    url = server.ready()
    try:
        done = [run_cli(*words, cwd=tmp_path, STEPFLOW_URL=url) for words in commands]
        assert [each.code for each in done] == [0] * len(commands), done
        with Api(url, key_in(tmp_path)) as api:
            assert api.ended(done[0].out.strip())["status"] == "completed"
    finally:
        server.kill()


def test_the_embedding_example_starts_runs_for_its_visitors(tmp_path: Path) -> None:
    host = subprocess.Popen(
        doomed(
            [
                *(sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "embedded:app"),
                *("--port", "0"),
            ]
        ),
        cwd=tmp_path,
        env=environment(**QUICK),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert host.stderr is not None
        lines = iter(host.stderr)
        url = next(found[0] for line in lines if (found := re.search(r"http://[\w.:]+", line)))
        assert "EventSource" in httpx.get(f"{url}/").text
        order = {"id": "9", "email": "ada@example.com", "items": ["tea"]}
        run = httpx.post(f"{url}/order", json=order).json()
        assert httpx.post(f"{url}/pay/9", json={"amount": 5}).json() == {"ok": True}
        stream = f"{url}/api/stepflow/runs/{run['runId']}/stream?token={run['token']}"
        *_, data = [line for line in httpx.get(stream, timeout=60).text.splitlines() if line]
        assert json.loads(data.removeprefix("data: "))["result"]["amount"] == 5
        assert httpx.get(f"{url}/api/stepflow/runs").status_code == 401
    finally:
        host.terminate()
        host.communicate()
    assert host.returncode is not None
