"""API keys in the database: made on one node, good on all, refused everywhere when revoked."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

import httpx
import psycopg
import pytest
import pytest_asyncio

from stepflow import Stepflow
from stepflow.auth.keys_table import KeysTable
from stepflow.cli.main import main
from stepflow.config import Settings
from stepflow.engine.postgres import PostgresEngine, shared
from stepflow.engine.postgres.shared import PostgresTable
from stepflow.errors import ConfigurationError, OutcomeUnknownError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio

ROOT = "root-key-of-the-test-0123"
NOW_MS = 1_700_000_000_000


class Node:
    """An API node, asked over HTTP in the test's own process."""

    def __init__(self, url: str, data: Path, **settings: Any) -> None:
        self.engine = PostgresEngine(url, worker=False, poll_s=0.05)
        self.flow = Stepflow(
            str(data), engine=self.engine, settings=Settings(keys_check_s=0.0, **settings)
        )
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.flow.asgi()), base_url="http://node"
        )

    async def __aenter__(self) -> Self:
        await self.flow.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        await self.flow.__aexit__()

    async def ask(self, method: str, path: str, key: str = ROOT, **more: Any) -> httpx.Response:
        return await self.http.request(method, path, headers={"X-API-Key": key}, **more)

    async def until(self, key: str, status: int) -> None:
        """Return when the key is answered so: other nodes hear of a change in a moment."""
        while (await self.ask("GET", "/workflows", key)).status_code != status:
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _root(monkeypatch) -> None:
    monkeypatch.setenv("STEPFLOW_API_KEYS", ROOT)


@pytest_asyncio.fixture
async def nodes(url, tmp_path):
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Node(url, tmp_path / name)) for name in ("a", "b")]


async def test_a_key_is_good_on_every_node_and_a_revoked_one_on_none(nodes, url) -> None:
    one, other = nodes
    made = (await one.ask("POST", "/keys", json={"name": "deploy", "scopes": ["read"]})).json()
    # Where it was made it is good at once, and elsewhere a moment later.
    assert (await one.ask("GET", "/workflows", made["key"])).status_code == 200
    await other.until(made["key"], 200)
    for node in nodes:
        (row,) = (await node.ask("GET", "/keys")).json()["keys"]
        assert (row["id"], row["name"], row["scopes"]) == (made["id"], "deploy", ["read"])
        assert row["createdBy"].startswith("key:")
    assert (await one.ask("POST", "/notify/x", made["key"], json=1)).status_code == 403
    # Revoked on another node than it was made on.
    revoked = await other.ask("DELETE", f"/keys/{made['id']}")
    assert revoked.status_code == 200
    assert (await other.ask("GET", "/workflows", made["key"])).status_code == 401
    await one.until(made["key"], 401)
    assert (await other.ask("DELETE", "/keys/00000000")).status_code == 404
    acts = (await one.ask("GET", "/audit")).json()["audit"]
    assert [(act["action"], act["keyId"]) for act in acts] == [
        ("key-revoke", made["id"]),
        ("key-make", made["id"]),
    ]
    # Of the key itself nothing is in the database but its hash.
    with psycopg.connect(url) as conn:
        rows = conn.execute("select row::text from stepflow.api_keys").fetchall()
    assert len(rows) == 1
    assert made["key"].split("_")[2] not in rows[0][0]


async def test_without_a_notification_a_node_looks_by_itself(url, tmp_path) -> None:
    async with Node(url, tmp_path / "a") as node:
        node.engine.bell.on_keys = None
        text, row = KeysTable(PostgresTable(url, "api_keys")).create("deploy", ["read"], NOW_MS)
        await node.until(text, 200)
        KeysTable(PostgresTable(url, "api_keys")).revoke(row.id, NOW_MS)
        await node.until(text, 401)


async def test_keys_are_there_when_a_node_starts(url, tmp_path) -> None:
    async with Node(url, tmp_path / "a") as node:
        made = (await node.ask("POST", "/keys", json={"name": "deploy"})).json()
    async with Node(url, tmp_path / "b") as node:
        assert (await node.ask("GET", "/workflows", made["key"])).status_code == 200


async def test_changes_at_the_same_time_lose_none(nodes) -> None:
    answers = await asyncio.gather(
        *(nodes[n % 2].ask("POST", "/keys", json={"name": f"k{n}"}) for n in range(8))
    )
    assert [answer.status_code for answer in answers] == [200] * 8
    found = (await nodes[0].ask("GET", "/keys")).json()["keys"]
    assert {row["name"] for row in found} == {f"k{n}" for n in range(8)}


async def test_there_are_so_many_and_no_more(url, tmp_path) -> None:
    async with Node(url, tmp_path / "a", keys_max=1) as node:
        assert (await node.ask("POST", "/keys", json={"name": "a"})).status_code == 200
        refused = await node.ask("POST", "/keys", json={"name": "b"})
        assert (refused.status_code, refused.json()["code"]) == (409, "CONFLICT")


async def test_the_command_line_makes_lists_and_revokes_them(url, tmp_path, capsys) -> None:
    async with Node(url, tmp_path / "a") as node:

        async def cli(*words: str) -> str:
            # Its own connection: it may run anywhere.
            with pytest.raises(SystemExit) as caught:
                main(["keys", *words, "--database", url])
            assert not caught.value.code
            return capsys.readouterr().out.strip()

        text = await cli("create", "ci", "--scope", "read")
        await node.until(text, 200)
        key_id = text.split("_")[1]
        assert (await cli("list")).startswith(f"{key_id}  ci  read  good")
        assert (await cli("revoke", key_id)).startswith(f"revoked {key_id}")
        await node.until(text, 401)


async def test_what_the_database_does_not_do_is_said(url) -> None:
    table = KeysTable(PostgresTable(url, "api_keys"))
    with pytest.raises(ConfigurationError, match="start Stepflow on it once"):
        table.rows()
    with pytest.raises(UnavailableError):
        KeysTable(
            PostgresTable("postgresql://127.0.0.1:1/none?connect_timeout=1", "api_keys")
        ).rows()
    async with Stepflow(engine=PostgresEngine(url, worker=False)):
        pass
    known = PostgresTable(url, "api_keys")
    with pytest.raises(OutcomeUnknownError), known.turn() as rows:
        rows["x"] = b"{}"
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
    assert known.read() == {}


async def test_a_look_that_fails_is_tried_again(url, tmp_path, monkeypatch, caplog) -> None:
    async with Node(url, tmp_path / "a") as node:
        look, failed = shared.PostgresTable._look, asyncio.Event()

        async def failing(*_: object) -> None:
            failed.set()
            raise UnavailableError("The database cannot be reached", retry_after_s=1)

        monkeypatch.setattr(shared.PostgresTable, "_look", failing)
        await failed.wait()
        monkeypatch.setattr(shared.PostgresTable, "_look", look)
        text, _ = KeysTable(PostgresTable(url, "api_keys")).create("deploy", ["read"], NOW_MS)
        await node.until(text, 200)
        assert "could not be looked at" in caplog.text


async def test_a_stop_in_the_middle_of_a_look_ends_it(url, tmp_path, monkeypatch) -> None:
    async with Node(url, tmp_path / "a"):
        began = asyncio.Event()

        async def cut(*_: object) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                # As psycopg says it of a query that was cancelled.
                raise OutcomeUnknownError from None

        monkeypatch.setattr(shared.PostgresTable, "_look", cut)
        await began.wait()
