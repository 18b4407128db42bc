"""Every claim of the conformance suite holds for the PostgreSQL engine."""

from __future__ import annotations

from contextlib import suppress

import pytest
import pytest_asyncio

from stepflow import Stepflow
from stepflow.auth.handlers import allow_all
from stepflow.client import Client
from stepflow.engine.postgres import PostgresEngine
from stepflow.errors import EventNotFoundError, NotSupportedError
from stepflow.testing.conformance import Caller, EngineCaller, EngineConformance, register
from stepflow.testing.conformance.reading import decoded, fresh, until_waiting
from tests.served import served


def a_flow(url: str, data_dir: str | None = None) -> Stepflow:
    flow = Stepflow(data_dir, engine=PostgresEngine(url, claim_timeout_s=5))
    register(flow)
    return flow


@pytest.fixture(scope="module")
def url(database, tmp_path_factory):
    flow = a_flow(database, str(tmp_path_factory.mktemp("credentials")))
    with served(flow, auth=allow_all) as url:
        yield url


class PostgresConformance(EngineConformance):
    """The claims, and in place of what the engine lacks how it says so."""

    async def test_a_fork_keeps_what_stood_before_its_step(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-echo", 1)
        with pytest.raises(NotSupportedError, match="fork"):
            await caller.fork(run.id, "before#1")

    async def test_a_payload_that_the_taker_refuses_is_refused_and_nothing_is_taken(
        self, caller: Caller
    ) -> None:
        """Without `event-types` the worker refuses it: the wait goes on all the same."""
        order = fresh()
        run = await caller.trigger("conformance-typed", {"id": order, "count": 1})
        await until_waiting(caller, run.id)
        await caller.notify(f"typed-{order}", "many")
        while True:
            # Until the refused one was read the next is kept, not taken.
            with suppress(EventNotFoundError):
                await caller.notify(f"typed-{order}", 7)
                break
        assert decoded((await caller.wait(run.id)).result) == 7


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
