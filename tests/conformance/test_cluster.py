"""Every claim of the conformance suite on PostgreSQL: 2 workers, 2 API nodes, a balancer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import httpx
import pytest
import pytest_asyncio

from stepflow.client import Client
from stepflow.engine.postgres import PostgresEngine
from stepflow.engine.protocol import CAPABILITIES
from stepflow.testing.conformance import (
    Door,
    EngineConformance,
    HttpConformance,
    RestartConformance,
    SpareConformance,
)
from tests.conformance.local_server import APP, ENV, KEY
from tools.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.tool("postgres"),
    pytest.mark.tool("nginx"),
    pytest.mark.xdist_group("cluster"),
]
LACKS = frozenset(CAPABILITIES) - PostgresEngine.capabilities
PROCESSES = ("database", "worker-1", "worker-2", "api-1", "api-2", "balancer")
# `make conformance` kills each of them; else one of each kind that keeps something.
ALL = os.environ.get("STEPFLOW_CONFORMANCE") == "all"
ENGINE = "PostgreSQL, 2 workers and 2 API nodes"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    place = tmp_path_factory.mktemp("cluster")
    env = ENV | {"CONFORMANCE_LACKS": ",".join(LACKS)}
    with Cluster(place, APP, claim_timeout_s=1, api_key=KEY, env=env) as cluster:
        assert cluster.processes == PROCESSES
        yield cluster


@pytest.mark.asyncio
class TestClusterThroughHttp(EngineConformance):
    engine = ENGINE
    lacks = LACKS

    @pytest_asyncio.fixture
    async def caller(self, deployment):
        async with Client(deployment.url, deployment.api_key) as client:
            yield client


@pytest.mark.asyncio
class TestClusterHttp(HttpConformance):
    engine = ENGINE
    lacks = LACKS

    @pytest_asyncio.fixture
    async def door(self, deployment):
        urls = [*deployment.base_urls, deployment.url]
        async with Door(urls, deployment.api_key) as door:
            yield door


@pytest.mark.asyncio
class TestClusterRestarts(RestartConformance):
    engine = ENGINE
    lacks = LACKS
    processes = PROCESSES if ALL else ("database", "worker-1", "api-1")


@pytest.mark.asyncio
class TestClusterSpares(SpareConformance):
    engine = ENGINE
    lacks = LACKS
    spare = ("worker-1", "worker-2", "api-1", "api-2") if ALL else ("worker-2", "api-2")


def test_a_browser_stays_logged_in_behind_the_balancer(deployment: Cluster) -> None:
    page = {"Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=deployment.url, headers=page, timeout=60) as browser:
        for _ in range(2):
            # One after the other, each by itself.
            begun = browser.post("/session", json={"key": deployment.api_key})
            assert begun.status_code == 200, begun.text
            for path in ("/session", "/runs", "/system", "/workflows") * 3:
                assert browser.get(path).status_code == 200, path
            assert browser.delete("/session").status_code == 200
            assert browser.get("/runs").status_code == 401
