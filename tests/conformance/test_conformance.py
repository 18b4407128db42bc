"""Every claim of the conformance suite on the local engine: called, through HTTP, and killed."""

from __future__ import annotations

import pytest
import pytest_asyncio

from stepflow import MEMORY, Stepflow
from stepflow.client import Client
from stepflow.testing.conformance import (
    Door,
    EngineCaller,
    EngineConformance,
    HttpConformance,
    RestartConformance,
    register,
)
from tests.conformance.local_server import LocalServer


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    server = LocalServer(tmp_path_factory.mktemp("local"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.asyncio
class TestLocalEngine(EngineConformance):
    engine = "local, called"

    @pytest_asyncio.fixture
    async def caller(self):
        flow = Stepflow(MEMORY)
        register(flow)
        async with flow:
            yield EngineCaller(flow.engine)


@pytest.mark.asyncio
class TestThroughHttp(EngineConformance):
    engine = "local"

    @pytest_asyncio.fixture
    async def caller(self, deployment):
        async with Client(deployment.url, deployment.api_key) as client:
            yield client


@pytest.mark.asyncio
class TestHttp(HttpConformance):
    engine = "local"

    @pytest_asyncio.fixture
    async def door(self, deployment):
        async with Door(deployment.base_urls, deployment.api_key) as door:
            yield door


@pytest.mark.asyncio
@pytest.mark.xdist_group("conformance-restarts")
class TestRestarts(RestartConformance):
    engine = "local"
    processes = LocalServer.processes
