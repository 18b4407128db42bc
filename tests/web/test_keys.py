"""`/keys`: made, listed and revoked over HTTP by who has the scope for it, at once in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from stepflow.auth.api_key import ApiKey, KeyRing, digest_of
from stepflow.auth.chain import KEYS_FILE, AuthChain
from stepflow.auth.handlers import api_key_auth
from stepflow.auth.keys_file import KeyFollower, KeysFile
from stepflow.errors import DiskFailedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

pytestmark = pytest.mark.asyncio

ADMIN = "test-key-0123456789"
NARROW = "narrow-admin-key-0123456789"


@pytest.fixture
def keys_file(tmp_path) -> KeysFile:
    return KeysFile(tmp_path / KEYS_FILE, keys_max=5)


@pytest.fixture
def chain(clock, settings, signer, keys_file) -> AuthChain:
    keys = KeyRing(
        [
            ApiKey("ops", digest_of(ADMIN)),
            ApiKey("narrow", digest_of(NARROW), frozenset({"read", "admin"})),
        ]
    )
    follower = KeyFollower(keys_file, clock, settings)
    return AuthChain(clock=clock, settings=settings, signer=signer, keys=keys, follower=follower)


@pytest_asyncio.fixture
async def narrow(app, call_with) -> AsyncIterator[httpx.AsyncClient]:
    async with call_with(app, NARROW) as client:
        yield client


async def make(client: httpx.AsyncClient, name: str = "deploy", **more: Any) -> dict[str, Any]:
    response = await client.post("/keys", json={"name": name, **more})
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_key_is_shown_once_and_is_good_at_once(client, stranger, call_with, app):
    made = await make(client, scopes=["read", "trigger"])
    text = made.pop("key")
    assert text.startswith(f"sf_{made['id']}_")
    assert made == {
        "id": made["id"],
        "name": "deploy",
        "scopes": ["trigger", "read"],
        "createdAt": "2024-01-15T10:30:00.000Z",
        "expiresAt": None,
        "revokedAt": None,
        "createdBy": "key:ops",
        "revokedBy": "",
    }
    user = call_with(app, text)
    assert (await user.get("/runs")).status_code == 200
    listed = await client.get("/keys")
    assert listed.json() == {"keys": [made]}
    assert text not in listed.text
    assert digest_of(text).hex() not in listed.text


async def test_a_revoked_key_is_refused_at_once_and_who_did_it_is_kept(client, call_with, app):
    made = await make(client)
    user = call_with(app, made["key"])
    assert (await user.get("/runs")).status_code == 200
    gone = (await client.delete(f"/keys/{made['id']}")).json()
    assert (gone["revokedAt"], gone["revokedBy"]) == ("2024-01-15T10:30:00.000Z", "key:ops")
    assert (await user.get("/runs")).status_code == 401
    assert (await client.delete(f"/keys/{made['id']}")).json() == gone
    assert (await client.get("/keys")).json()["keys"] == [gone]


async def test_who_made_and_revoked_a_key_is_told_once_and_without_its_secret(client, engine):
    made = await make(client)
    for _ in range(2):
        await client.delete(f"/keys/{made['id']}")
    assert engine.key_acts == [
        ("make", made["id"], "deploy", "key:ops"),
        ("revoke", made["id"], "deploy", "key:ops"),
    ]
    assert (await client.delete("/keys/Ab3dEf9h")).status_code == 404
    assert len(engine.key_acts) == 2


async def test_what_cannot_be_told_is_not_made_and_is_revoked_all_the_same(
    client, engine, keys_file, caplog
):
    made = await make(client)
    engine.raises = UnavailableError("The disk is full")
    refused = await client.post("/keys", json={"name": "more"})
    assert (refused.status_code, refused.json()["code"]) == (503, "UNAVAILABLE")
    assert [row.name for row in keys_file.rows()] == ["deploy"]
    gone = await client.delete(f"/keys/{made['id']}")
    assert gone.status_code == 200
    assert keys_file.rows()[0].revoked_by == "key:ops"
    assert "the audit does not tell" in caplog.text


async def test_a_session_ends_with_its_key(client, stranger):
    made = await make(client)
    assert (await stranger.post("/session", json={"key": made["key"]})).status_code == 200
    assert (await stranger.get("/runs")).status_code == 200
    await client.delete(f"/keys/{made['id']}")
    assert (await stranger.get("/runs")).status_code == 401


async def test_a_key_ends_with_its_time(client, call_with, app, clock):
    for ttl, text in ((60, "10:31:00"), ("2m", "10:32:00"), ("1h", "11:30:00")):
        assert text in (await make(client, ttl=ttl))["expiresAt"]
    user = call_with(app, (await make(client, ttl="1m"))["key"])
    assert (await user.get("/runs")).status_code == 200
    await clock.advance(60)
    assert (await user.get("/runs")).status_code == 401


async def test_nobody_gives_a_scope_that_they_have_not(client, narrow):
    assert (await make(client))["scopes"] == ["trigger", "read", "notify", "control"]
    assert (await make(narrow))["scopes"] == ["read"]
    assert (await make(narrow, scopes=["admin"]))["scopes"] == ["admin"]
    response = await narrow.post("/keys", json={"name": "x", "scopes": ["read", "trigger"]})
    assert (response.status_code, response.json()["code"]) == (403, "FORBIDDEN")
    assert "'trigger'" in response.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"name": ""},
        {"name": "x" * 65},
        {"name": "a\nb"},
        {"name": "a\u202eb"},
        {"name": 5},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["root"]},
        {"name": "x", "scopes": "read"},
        {"name": "x", "ttl": "soon"},
        {"name": "x", "ttl": 59},
        {"name": "x", "ttl": -1},
        {"name": "x", "ttl": 1e12},
        {"name": "x", "key": "mine"},
    ],
)
async def test_what_is_no_key_is_400(client, body, keys_file):
    response = await client.post("/keys", json=body)
    assert (response.status_code, response.json()["code"]) == (400, "INVALID_INPUT")
    assert keys_file.rows() == []


@pytest.mark.parametrize(
    "key", ["no", "Ab3dEf9", "Ab3dEf9hh", "..%2f..%2fx", "Ab3dEf9%0a", "ABCDEFGH"]
)
async def test_there_is_no_other_key(client, key):
    response = await client.delete(f"/keys/{key}")
    assert (response.status_code, response.json()["code"]) == (404, "NOT_FOUND")


async def test_all_of_it_is_for_admins(make_app, call_with, client, stranger, signer, clock):
    reader = call_with(make_app(), (await make(client, scopes=["read", "control"]))["key"])
    token = signer.sign_run("run_0123456789abcdef", clock.wall_ms() + 60_000)
    for method, path in (("GET", "/keys"), ("POST", "/keys"), ("DELETE", "/keys/Ab3dEf9h")):
        assert (await reader.request(method, path)).status_code == 403
        assert (await stranger.request(method, path)).status_code == 401
        assert (await stranger.request(method, f"{path}?token={token}")).status_code == 403


async def test_there_are_so_many_and_the_next_is_409(client):
    for _ in range(5):
        await make(client)
    response = await client.post("/keys", json={"name": "one more"})
    assert (response.status_code, response.json()["code"]) == (409, "CONFLICT")


async def test_without_a_file_there_are_no_keys_to_manage(make_app, call_with, chain):
    for app in (make_app(auth=api_key_auth(ADMIN)),):
        response = await call_with(app).get("/keys")
        assert (response.status_code, response.json()["code"]) == (409, "CONFLICT")
        assert "data directory" in response.json()["error"]


async def test_a_disk_that_takes_no_key_is_503_and_a_damaged_file_409(
    client, keys_file, monkeypatch
):
    keys_file.path.write_text("{")
    keys_file.path.chmod(0o600)
    assert (await client.get("/keys")).status_code == 409

    def refuse(*_: Any, **__: Any) -> None:
        raise DiskFailedError("no room at /secret/path")

    monkeypatch.setattr(KeysFile, "create", refuse)
    response = await client.post("/keys", json={"name": "x"})
    assert (response.status_code, response.json()["code"]) == (503, "UNAVAILABLE")
    assert "secret" not in response.text


async def test_the_log_says_who_and_never_the_key(client, caplog):
    caplog.set_level("INFO")
    made = await make(client)
    await client.delete(f"/keys/{made['id']}")
    assert f"{made['id']} (deploy) was made by key:ops" in caplog.text
    assert f"{made['id']} (deploy) was revoked by key:ops" in caplog.text
    assert made["key"] not in caplog.text
