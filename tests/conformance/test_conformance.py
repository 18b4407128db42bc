"""Every claim of the conformance suite, called directly and through HTTP."""

from __future__ import annotations

import pytest
import pytest_asyncio

from stepflow import MEMORY, Stepflow
from stepflow.auth.handlers import allow_all
from stepflow.client import Client
from stepflow.testing.conformance import EngineCaller, EngineConformance, register
from tests.served import served


def a_flow() -> Stepflow:
    flow = Stepflow(MEMORY)
    register(flow)
    return flow


@pytest.fixture(scope="module")
def url():
    with served(a_flow(), auth=allow_all) as url:
        yield url


@pytest.mark.asyncio
class TestLocalEngine(EngineConformance):
    @pytest_asyncio.fixture
    async def caller(self):
        async with a_flow() as flow:
            yield EngineCaller(flow.engine)


@pytest.mark.asyncio
class TestThroughHttp(EngineConformance):
    @pytest_asyncio.fixture
    async def caller(self, url):
        async with Client(url) as client:
            yield client
