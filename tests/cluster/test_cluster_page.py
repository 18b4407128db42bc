"""docs/cluster.md says of each capability what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stepflow import MEMORY, Stepflow
from stepflow.engine.postgres import PostgresEngine
from stepflow.engine.protocol import CAPABILITIES
from stepflow.errors import ConfigurationError

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()


def test_the_table_of_capabilities_is_that_of_the_code() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (yes|no) \|", PAGE, re.MULTILINE))
    assert rows == {
        name: "yes" if name in PostgresEngine.capabilities else "no" for name in CAPABILITIES
    }


def test_both_engines_have_all_of_them() -> None:
    assert Stepflow(MEMORY).engine.capabilities == frozenset(CAPABILITIES)
    assert PostgresEngine("postgresql://nowhere/none").capabilities == frozenset(CAPABILITIES)


@pytest.mark.asyncio
async def test_a_database_that_is_not_there_refuses_the_start_and_says_so() -> None:
    flow = Stepflow(engine=PostgresEngine("postgresql://127.0.0.1:1/none?connect_timeout=1"))
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1.*cannot be reached"):
        async with flow:
            pass
