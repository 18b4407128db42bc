"""Who may: without credentials nothing is learnt, and a run's token reads that run and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from stepflow.testing.conformance.claims.base import Claims, needs
from stepflow.testing.conformance.claims.http.shapes import expect_problem, until_status
from stepflow.testing.conformance.reading import NO_RUN, fresh

if TYPE_CHECKING:
    from stepflow.testing.conformance.door import Door

__all__ = ["CredentialClaims"]

_WRONG: Final = "not-a-key-of-this-service-0123"
_ROUTES: Final = [
    ("POST", "/trigger/conformance-echo"),
    ("POST", "/trigger/no-such"),
    ("POST", "/trigger/conformance-echo/batch"),
    ("GET", f"/runs/{NO_RUN}"),
    ("GET", "/runs/nonsense"),
    ("GET", f"/runs/{NO_RUN}/stream"),
    ("GET", f"/runs/{NO_RUN}/why"),
    ("GET", f"/runs/{NO_RUN}/steps/x"),
    ("GET", f"/runs/{NO_RUN}/audit"),
    ("GET", f"/runs/{NO_RUN}/export"),
    ("POST", f"/runs/{NO_RUN}/cancel"),
    ("POST", f"/runs/{NO_RUN}/pause"),
    ("POST", f"/runs/{NO_RUN}/resume"),
    ("POST", f"/runs/{NO_RUN}/retry"),
    ("POST", f"/runs/{NO_RUN}/fork"),
    ("POST", f"/runs/{NO_RUN}/token"),
    ("DELETE", f"/runs/{NO_RUN}"),
    ("POST", "/notify/any"),
    ("POST", "/tokens"),
    ("POST", "/runs/bulk"),
    ("GET", "/runs"),
    ("GET", "/stream"),
    ("GET", "/workflows"),
    ("GET", "/workflows/no-such"),
    ("GET", "/events"),
    ("GET", "/schedules"),
    ("GET", "/audit"),
    ("GET", "/metrics"),
    ("GET", "/system"),
    ("GET", "/keys"),
]


class CredentialClaims(Claims):
    """The claims."""

    @pytest.mark.parametrize(("method", "path"), _ROUTES)
    async def test_without_credentials_every_route_is_401(
        self, door: Door, method: str, path: str
    ) -> None:
        for headers in ({}, {"X-API-Key": _WRONG}, {"Authorization": f"Bearer {_WRONG}"}):
            answer = await door.ask(method, path, key=None, headers=headers)
            expect_problem(answer, 401, "UNAUTHORIZED")

    async def test_the_first_credential_decides_and_a_bad_one_is_401(self, door: Door) -> None:
        run_id, token = await door.trigger("conformance-echo", 1)
        path = f"/runs/{run_id}?token={token}"
        assert (await door.get(path, key=None)).status_code == 200
        expect_problem(await door.get(path, key=_WRONG), 401, "UNAUTHORIZED")
        bad = {"Authorization": f"Bearer {_WRONG}"}
        expect_problem(await door.get(path, key=None, headers=bad), 401, "UNAUTHORIZED")
        wrong = f"/runs/{run_id}?token=pat_wrong"
        expect_problem(await door.get(wrong, key=None), 401, "UNAUTHORIZED")
        assert (await door.get(wrong)).status_code == 200, "the key comes first"

    async def test_a_runs_token_reads_it_at_every_node_and_nothing_else(self, door: Door) -> None:
        run_id, token = await door.trigger("conformance-wait", fresh())
        other, _ = await door.trigger("conformance-wait", fresh())
        for node in door.nodes:
            mine = await door.get(f"/runs/{run_id}?token={token}", key=None, node=node)
            assert mine.json()["id"] == run_id
            foreign = await door.get(f"/runs/{other}?token={token}", key=None, node=node)
            expect_problem(foreign, 404, "RUN_NOT_FOUND")
            stream = f"/runs/{other}/stream?token={token}"
            expect_problem(await door.get(stream, key=None, node=node), 404, "RUN_NOT_FOUND")
        for method, path in (
            ("POST", "/trigger/conformance-echo"),
            ("POST", "/notify/any"),
            ("POST", f"/runs/{run_id}/cancel"),
            ("DELETE", f"/runs/{run_id}"),
            ("GET", "/runs"),
            ("GET", "/workflows"),
            ("GET", "/events"),
            ("GET", "/metrics"),
            ("GET", "/stream"),
        ):
            answer = await door.ask(method, f"{path}?token={token}", key=None)
            expect_problem(answer, 403, "FORBIDDEN")

    async def test_a_token_can_be_made_anew_and_has_its_time(self, door: Door) -> None:
        run_id, _ = await door.trigger("conformance-echo", 1)
        made = await door.post(f"/runs/{run_id}/token", {"ttl": 60})
        assert list(made.json()) == ["publicAccessToken", "expiresAt"]
        token = made.json()["publicAccessToken"]
        for node in door.nodes:
            answer = await door.get(f"/runs/{run_id}?token={token}", key=None, node=node)
            assert answer.status_code == 200
        expect_problem(await door.post(f"/runs/{run_id}/token", {"ttl": 1}), 400, "INVALID_INPUT")

    async def test_a_token_for_several_runs_reads_these_and_no_other(self, door: Door) -> None:
        runs = [(await door.trigger("conformance-echo", n))[0] for n in range(3)]
        made = await door.post("/tokens", {"runIds": runs[:2]})
        assert made.status_code == 200, made.text
        token = made.json()["publicAccessToken"]
        statuses = [
            (await door.get(f"/runs/{run_id}?token={token}", key=None)).status_code
            for run_id in runs
        ]
        assert statuses == [200, 200, 404]
        expect_problem(await door.post("/tokens", {}), 400, "INVALID_INPUT")

    async def test_the_key_says_who_it_is(self, door: Door) -> None:
        found = await door.json("/session")
        assert found["kind"] == "key"
        assert {"trigger", "read", "notify", "control"} <= set(found["scopes"])

    @needs("audit")
    async def test_a_key_made_at_one_node_is_good_at_all_until_it_is_revoked(
        self, door: Door
    ) -> None:
        wanted = {"name": f"claim {fresh()}", "scopes": ["read"]}
        made = await door.post("/keys", wanted)
        assert made.status_code == 200, made.text
        key, key_id = made.json()["key"], made.json()["id"]
        for node in door.nodes:
            await until_status(door, "/workflows", 200, key=key, node=node)
        refused = await door.post("/notify/any", 1, key=key)
        expect_problem(refused, 403, "FORBIDDEN")
        assert key_id in {row["id"] for row in (await door.json("/keys"))["keys"]}
        assert (await door.ask("DELETE", f"/keys/{key_id}")).status_code == 200
        for node in door.nodes:
            await until_status(door, "/workflows", 401, key=key, node=node)
        acts = (await door.json("/audit"))["audit"]
        told = [act["action"] for act in acts if act.get("keyId") == key_id]
        assert told == ["key-revoke", "key-make"]
