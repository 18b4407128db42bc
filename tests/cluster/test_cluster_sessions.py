"""A login to the dashboard is good at every API process, and ended at all of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pytest_asyncio

from tests.cluster.test_cluster_keys import ROOT, Node

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.asyncio

PAGE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(autouse=True)
def _root(monkeypatch) -> None:
    monkeypatch.setenv("STEPFLOW_API_KEYS", ROOT)


@pytest_asyncio.fixture
async def nodes(url, tmp_path):
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Node(url, tmp_path / name)) for name in ("a", "b")]


async def ask(node: Node, method: str, path: str, cookie: str = "", **more: Any) -> httpx.Response:
    headers = PAGE | ({"Cookie": cookie} if cookie else {})
    return await node.http.request(method, path, headers=headers, **more)


async def log_in(node: Node, key: str = ROOT) -> str:
    begun = await ask(node, "POST", "/session", json={"key": key})
    assert begun.status_code == 200, begun.text
    node.http.cookies.clear()
    return begun.headers["set-cookie"].partition(";")[0]


async def test_a_login_is_good_at_every_node_at_once_and_ended_at_all(nodes, url) -> None:
    one, other = nodes
    for _ in range(5):
        cookie = await log_in(one)
        assert (await ask(other, "GET", "/runs", cookie)).status_code == 200
    assert (await ask(other, "DELETE", "/session", cookie)).status_code == 200
    assert (await ask(other, "GET", "/runs", cookie)).status_code == 401
    while (await ask(one, "GET", "/runs", cookie)).status_code != 401:
        await asyncio.sleep(0.01)
    with psycopg.connect(url) as conn:
        rows = conn.execute("select row::text from stepflow.sessions").fetchall()
    assert len(rows) == 4
    assert not any(cookie.partition("=")[2] in row or ROOT in row for (row,) in rows)


async def test_a_session_of_a_made_key_ends_with_it_on_every_node(nodes) -> None:
    one, other = nodes
    made = (await one.ask("POST", "/keys", json={"name": "deploy", "scopes": ["read"]})).json()
    cookie = await log_in(one, made["key"])
    await other.until(made["key"], 200)
    assert (await ask(other, "GET", "/runs", cookie)).status_code == 200
    await other.ask("DELETE", f"/keys/{made['id']}")
    for node in nodes:
        while (await ask(node, "GET", "/runs", cookie)).status_code != 401:
            await asyncio.sleep(0.01)


async def test_who_is_logged_in_stays_so_over_a_restart_of_every_node(url, tmp_path) -> None:
    async with Node(url, tmp_path / "a") as node:
        cookie = await log_in(node)
    async with Node(url, tmp_path / "b") as node:
        assert (await ask(node, "GET", "/session", cookie)).status_code == 200
