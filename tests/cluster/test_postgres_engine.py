"""Every claim of the conformance suite holds for the PostgreSQL engine."""

from __future__ import annotations

import pytest
import pytest_asyncio

from stepflow import Stepflow
from stepflow.auth.handlers import allow_all
from stepflow.client import Client
from stepflow.engine.postgres import PostgresEngine
from stepflow.testing.conformance import EngineCaller, EngineConformance, register
from tests.served import served


def a_flow(url: str, data_dir: str | None = None) -> Stepflow:
    flow = Stepflow(data_dir, engine=PostgresEngine(url, claim_timeout_s=5))
    register(flow, lacks=())
    return flow


@pytest.fixture(scope="module")
def url(database, tmp_path_factory):
    flow = a_flow(database, str(tmp_path_factory.mktemp("credentials")))
    with served(flow, auth=allow_all) as url:
        yield url


class PostgresConformance(EngineConformance):
    """The claims; what it lacks is refused as it says."""

    engine = "PostgreSQL, one process"
    lacks = frozenset[str]()


@pytest.mark.asyncio
class TestPostgresEngine(PostgresConformance):
    @pytest_asyncio.fixture
    async def caller(self, database):
        async with a_flow(database) as flow:
            yield EngineCaller(flow.engine)


@pytest.mark.asyncio
class TestPostgresThroughHttp(PostgresConformance):
    @pytest_asyncio.fixture
    async def caller(self, url):
        async with Client(url) as client:
            yield client
