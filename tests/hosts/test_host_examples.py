"""Each example of a host starts on a real server, answers at home and runs its workflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from tests.hosts.hosts import KEY, Host, started

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES: Final = Path(__file__).parents[2] / "examples" / "hosts"
NAMES: Final = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.fixture(params=NAMES)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[httpx.Client]:
    text = (EXAMPLES / f"{request.param}.py").read_text()
    name = "application" if "\napplication = " in text else "app"
    assert f"uvicorn --app-dir examples/hosts {request.param}:{name}\n" in text
    host = Host(request.param, request.param, "", target=name, apps=EXAMPLES)
    with started(host, tmp_path / "data") as process:
        headers = {"X-API-Key": KEY}
        with httpx.Client(base_url=process.url, headers=headers, timeout=100) as client:
            yield client


def test_an_example_of_a_host_serves_its_own_page_and_the_api(example: httpx.Client) -> None:
    assert "Hello, you!" in example.get("/").text
    run = example.post("/api/stepflow/trigger/greet", json="Ada").json()["runId"]
    assert "Hello, Ada!" in example.get(f"/api/stepflow/runs/{run}/stream").text
    assert example.get("/api/stepflow/runs", headers={"X-API-Key": "x"}).status_code == 401
