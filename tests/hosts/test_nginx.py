"""Behind a real nginx with its defaults: the same checks, and streams that outlive its reload."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.client import SyncClient
from tests.hosts.checks import CHECKS, Api
from tests.hosts.front import Front, fronted
from tests.hosts.hosts import HOSTS, KEY, started
from tests.hosts.suite import absent, api_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.tool("nginx"), pytest.mark.xdist_group("nginx")]

CHOSEN = {"starlette_mount", "django_wrap", "litestar_plugin"}


@pytest.fixture(
    scope="module", params=[h for h in HOSTS if h.app in CHOSEN], ids=lambda host: host.app
)
def front(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[tuple[Front, Any]]:
    path: Path = tmp_path_factory.mktemp("front")
    host = request.param
    with (
        started(host, path / "told", "--root-path", "/gw") as told,
        started(host, path / "kept") as kept,
        fronted(path / "nginx", told=told.url, kept=kept.url) as nginx,
    ):
        yield nginx, host


@pytest.mark.parametrize("way", ["stripped", "kept"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_behind_nginx_a_host_keeps_every_promise(
    front: tuple[Front, Any], check: Callable[[Api], None], way: str
) -> None:
    nginx, host = front
    root = f"{nginx.url}/gw" if way == "stripped" else nginx.url
    assert absent(host, check.__doc__ or "", way=way) is None
    with closing(api_of(host, root, fronted=True)) as api:
        check(api)


def test_a_stream_goes_on_through_a_reload_with_nothing_missed_and_nothing_twice(
    front: tuple[Front, Any],
) -> None:
    nginx, host = front
    with closing(Api(nginx.url, host.prefix, KEY)) as api:
        run, say = api.talk()
        seen: list[int] = []
        done: list[str] = []
        with SyncClient(f"{nginx.url}{host.prefix}", KEY) as client:
            for event in client.stream(run):
                seen.append(event.id)
                data = json.loads(event.data)
                if event.event == "status" and str(data.get("stepName", "")).startswith("turn-"):
                    number = len(done)
                    if number == 1:
                        nginx.reload()  # this stream is open still, in the old worker
                    elif number == 3:
                        nginx.reload(" exited with code 0")  # and now it is cut
                    say("stop" if number == 5 else "go on")
                    done.append(data["stepName"])
        with api.client.stream("GET", f"/runs/{run}/stream") as answer:
            every = [int(line[3:]) for line in answer.iter_lines() if line.startswith("id:")]
    assert seen == every
    assert done == [f"turn-{number}" for number in range(6)]
    assert seen == sorted(set(seen))
