"""`/session`: the dashboard's cookie, on whose requests it counts, and when it ends."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from web_harness import Call, rest

from stepflow.auth.handlers import AuthRequest, AuthResult, allow_all, any_of, api_key_auth
from stepflow.auth.principal import Principal
from stepflow.config import Settings
from stepflow.errors import UnauthorizedError
from stepflow.web.policy import Policy

if TYPE_CHECKING:
    from starlette.applications import Starlette

pytestmark = pytest.mark.asyncio

KEY = "test-key-0123456789"
READER = "reader-key-0123456789"
RUN = "run_0123456789abcdefABCDEF"
OURS = {"Sec-Fetch-Site": "same-origin"}
ALL = ["trigger", "read", "notify", "control", "admin"]


async def log_in(client: httpx.AsyncClient, key: str = KEY, **headers: str) -> httpx.Response:
    return await client.post("/session", json={"key": key}, headers=headers)


def cookie_in(response: httpx.Response) -> str:
    return response.headers["set-cookie"].partition(";")[0].partition("=")[2]


# ---------------------------------------------------------------- in, who, out


async def test_a_key_becomes_a_cookie_that_no_script_reads_and_no_other_site_sends(stranger):
    response = await log_in(stranger)
    assert response.status_code == 200
    name, *attributes = response.headers["set-cookie"].split("; ")
    assert name.startswith("stepflow_session=ses_")
    assert attributes == ["HttpOnly", "SameSite=Strict"]
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert (body["name"], body["kind"], body["scopes"], body["session"]) == (
        "ops",
        "key",
        ALL,
        True,
    )
    assert KEY not in response.text


@pytest.mark.parametrize(
    ("base", "origin", "secure"),
    [
        ("https://stepflow", None, True),
        ("http://stepflow", "https://stepflow", True),
        ("http://stepflow", "http://stepflow", False),
    ],
)
async def test_by_https_the_cookie_goes_by_https_alone(app, base, origin, secure):
    headers = {} if origin is None else {"Origin": origin}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as client:
        response = await client.post("/session", json={"key": KEY}, headers=headers)
    assert ("Secure" in response.headers["set-cookie"].split("; ")) is secure


async def test_the_session_says_who_and_may_what_its_key_may(stranger):
    await log_in(stranger, READER)
    body = (await stranger.get("/session")).json()
    assert body == {
        "name": "reader",
        "kind": "key",
        "scopes": ["read"],
        "session": True,
        "expiresAt": "2024-01-15T22:30:00.000Z",
    }
    assert (await stranger.get("/runs")).status_code == 200
    response = await stranger.post("/trigger/checkout", headers=OURS)
    assert (response.status_code, response.json()["code"]) == (403, "FORBIDDEN")


async def test_a_header_says_who_without_a_session(client, stranger):
    body = (await client.get("/session")).json()
    assert (body["name"], body["session"], body["expiresAt"]) == ("ops", False, None)
    assert (await stranger.get("/session")).status_code == 401


async def test_without_authentication_the_session_is_everybodys(make_app, call_with):
    body = (await call_with(make_app(auth=allow_all), None).get("/session")).json()
    assert (body["kind"], body["scopes"], body["session"]) == ("anonymous", ALL, False)


async def test_logging_out_ends_it_here_and_for_whoever_has_copied_the_cookie(stranger):
    text = cookie_in(await log_in(stranger))
    response = await stranger.delete("/session", headers=OURS)
    assert (response.status_code, response.json()) == (200, {"success": True})
    assert "Max-Age=0" in response.headers["set-cookie"]
    assert not stranger.cookies
    response = await stranger.get("/runs", headers={"Cookie": f"stepflow_session={text}"})
    assert response.status_code == 401


async def test_logging_out_with_a_header_ends_nothing(client, stranger):
    await log_in(stranger)
    assert (await client.delete("/session")).status_code == 200
    assert (await stranger.get("/session")).status_code == 200
    assert (await stranger.delete("/session", headers={"Cookie": ""})).status_code == 401


async def test_a_public_token_has_no_session(stranger, engine, signer, clock):
    token = signer.sign_run(RUN, clock.wall_ms() + 60_000)
    for method in ("GET", "DELETE"):
        response = await stranger.request(method, f"/session?token={token}")
        assert (response.status_code, response.json()["code"]) == (403, "FORBIDDEN")
    assert (await log_in(stranger, token)).status_code == 401


# ---------------------------------------------------------------- bad logins


@pytest.mark.parametrize("key", ["wrong-key-0123456789", KEY[:-1], KEY + "x", "eyJ.eyJ.x", "ses_x"])
async def test_a_wrong_key_sets_no_cookie_and_reads_like_any_other(stranger, key):
    response = await log_in(stranger, key)
    assert (response.status_code, response.content) == (
        401,
        b'{"error":"Unauthorized","code":"UNAUTHORIZED"}',
    )
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b'{"key":""}',
        b'{"key":5}',
        b'{"key":"a","x":1}',
        b"[",
        b'"key"',
        b'{"key":"' + b"k" * 8193 + b'"}',
        b"\xff",
    ],
)
async def test_what_is_no_login_is_400_and_shows_nothing_of_it(stranger, body):
    response = await stranger.post("/session", content=body)
    assert (response.status_code, response.json()["code"]) == (400, "INVALID_INPUT")
    assert "kkk" not in response.text


async def test_a_login_of_a_form_or_beyond_any_size_is_refused(stranger):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await stranger.post("/session", content=b"key=x", headers=form)).status_code == 400
    assert (await stranger.post("/session", content=b"x" * 20_000)).status_code == 413


async def test_too_many_wrong_keys_have_to_wait_and_a_good_one_does_not(stranger):
    statuses = [(await log_in(stranger, f"wrong-{i:020}")).status_code for i in range(25)]
    assert statuses == [401] * 20 + [429] * 5
    assert (await log_in(stranger)).status_code == 200


async def test_while_the_engine_starts_nobody_logs_in(stranger, engine):
    engine.state = "starting"
    assert (await log_in(stranger)).status_code == 503


async def test_a_disk_that_takes_no_session_is_503(make_app, call_with, chain, monkeypatch):
    from stepflow.errors import DiskFailedError

    async def refuse(*_: Any, **__: Any) -> None:
        raise DiskFailedError("no room at /secret/path")

    client = call_with(make_app(), None)
    await log_in(client)
    monkeypatch.setattr(type(chain.sessions), "begin", refuse)
    monkeypatch.setattr(type(chain.sessions), "end", refuse)
    for response in (await log_in(client), await client.delete("/session", headers=OURS)):
        assert (response.status_code, response.json()["code"]) == (503, "UNAVAILABLE")
        assert "secret" not in response.text


# ---------------------------------------------------------------- when it counts


async def test_the_cookie_is_looked_at_last(stranger, signer, clock, engine):
    engine.begin(RUN)
    await log_in(stranger)
    token = signer.sign_run(RUN, clock.wall_ms() + 60_000)
    bad = {"X-API-Key": "wrong-key-0123456789"}
    assert (await stranger.get("/runs", headers=bad)).status_code == 401
    assert (await stranger.get("/runs", headers={"Authorization": "Bearer x"})).status_code == 401
    assert (await stranger.get("/runs", headers={"Authorization": ""})).status_code == 401
    assert (await stranger.get("/runs?token=pat_bad")).status_code == 401
    assert (await stranger.get("/runs?token=")).status_code == 401
    assert (await stranger.get(f"/runs?token={token}")).status_code == 403
    reader = {"X-API-Key": READER}
    assert (await stranger.get("/session", headers=reader)).json()["name"] == "reader"


@pytest.mark.parametrize(
    ("headers", "reads", "writes"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://elsewhere"}, 200, 200),
        ({"Sec-Fetch-Site": "none"}, 200, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://stepflow"}, 403, 403),
        ({"Sec-Fetch-Site": "SAME-ORIGIN"}, 403, 403),
        ({"Sec-Fetch-Site": ""}, 403, 403),
        ({"Origin": "http://stepflow"}, 200, 200),
        ({"Origin": "https://stepflow"}, 200, 200),
        ({"Origin": "http://stepflow:81"}, 403, 403),
        ({"Origin": "http://stepflow.evil.example"}, 403, 403),
        ({"Origin": "http://evil.example"}, 403, 403),
        ({"Origin": "null"}, 403, 403),
        ({"Origin": ""}, 403, 403),
        ({"Origin": "", "Host": ""}, 403, 403),
        ({}, 200, 403),
    ],
)
async def test_a_session_counts_for_our_own_pages(stranger, engine, headers, reads, writes):
    await log_in(stranger)
    assert (await stranger.get("/runs", headers=headers)).status_code == reads
    response = await stranger.post("/trigger/checkout", headers=headers)
    assert response.status_code == writes
    assert bool(engine.runs) == (writes == 200)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://stepflow"}, 200),
        ({}, 200),
    ],
)
async def test_a_page_of_another_site_logs_nobody_in(stranger, headers, status):
    response = await log_in(stranger, **headers)
    assert (response.status_code, "set-cookie" in response.headers) == (status, status == 200)


async def test_a_login_makes_a_new_id_and_ends_the_one_before(stranger, call_with, app):
    first = cookie_in(await log_in(stranger))
    second = cookie_in(await log_in(stranger, READER))
    assert first != second
    other = call_with(app, None)
    for text, status in ((first, 401), (second, 200)):
        headers = {"Cookie": f"stepflow_session={text}"}
        assert (await other.get("/session", headers=headers)).status_code == status


@pytest.mark.parametrize("planted", ["ses_" + "A" * 43, "x", "", "ses_", "\x7f" * 47, "A" * 5000])
async def test_an_id_that_was_planted_is_never_taken_over(app, call_with, planted):
    client = call_with(app, None)
    headers = {"Cookie": f"stepflow_session={planted}"}
    assert (await client.get("/session", headers=headers)).status_code == 401
    response = await client.post("/session", json={"key": KEY}, headers=headers)
    assert cookie_in(response) != planted
    assert (await client.get("/session", headers=headers)).status_code == 401


async def test_of_several_cookies_the_first_counts(app, call_with, stranger):
    text = cookie_in(await log_in(stranger))
    client = call_with(app, None)
    for cookie, status in (
        (f"a=b; stepflow_session={text}; stepflow_session=x", 200),
        (f"stepflow_session=x; stepflow_session={text}", 401),
    ):
        assert (await client.get("/session", headers={"Cookie": cookie})).status_code == status


# ---------------------------------------------------------------- when it ends


async def test_it_ends_with_its_time(stranger, clock):
    await log_in(stranger)
    await clock.advance(12 * 3600 - 1)
    assert (await stranger.get("/session")).status_code == 200
    await clock.advance(1)
    assert (await stranger.get("/session")).status_code == 401


async def test_a_bad_cookie_is_never_counted_as_an_attempt(stranger, clock):
    await log_in(stranger)
    await clock.advance(12 * 3600)
    assert {(await stranger.get("/runs")).status_code for _ in range(50)} == {401}
    assert (await log_in(stranger)).status_code == 200


@pytest.mark.parametrize("how", ["logout", "time"])
async def test_a_stream_that_it_opened_ends_with_it(app, stranger, engine, clock, how):
    engine.begin(RUN)
    text = cookie_in(await log_in(stranger))
    await clock.advance(12 * 3600 - 60)
    cookie = {"Cookie": f"stepflow_session={text}"}
    call = await Call(app, f"/runs/{RUN}/stream", headers=cookie).start()
    assert (call.status, call.ended) == (200, False)
    if how == "logout":
        assert (await stranger.delete("/session", headers=OURS)).status_code == 200
    else:
        await clock.advance(60)
    await rest()
    assert b"event: expired" in call.body
    await call.end()


# ---------------------------------------------------------------- hosts


async def test_without_pages_for_people_there_is_no_login_and_no_cookie_counts(
    engine, chain, settings, clock, call_with, stranger
):
    from stepflow.web.app import build_app

    text = cookie_in(await log_in(stranger))
    policy = Policy(lambda: chain, clock, cookies=False)
    client = call_with(build_app(engine, policy, settings, clock, ui=False), None)
    assert (await log_in(client)).status_code == 404
    headers = {"Cookie": f"stepflow_session={text}"}
    assert (await client.get("/runs", headers=headers)).status_code == 401


async def test_a_hosts_own_handler_is_asked_at_the_login_and_at_each_request(make_app, call_with):
    good = {"handlers-key-0123456789"}
    seen: list[str] = []

    def handler(request: AuthRequest) -> AuthResult:
        seen.append(request.path)
        key = request.headers.get("x-api-key")
        who = Principal("host", "key", frozenset({"read"}))
        return AuthResult(ok=key in good, principal=who)

    client = call_with(make_app(auth=handler), None)
    assert (await log_in(client, "wrong")).status_code == 401
    assert (await log_in(client, "handlers-key-0123456789")).json()["name"] == "host"
    assert (await client.get("/session")).json()["session"] is True
    assert (await client.get("/runs")).status_code == 200
    assert (await client.post("/trigger/checkout")).status_code == 403
    assert (await client.post("/trigger/checkout", headers=OURS)).status_code == 403
    assert seen == ["/session", "/session", "/session", "/runs", "/trigger/checkout"]
    good.clear()
    assert (await client.get("/runs")).status_code == 401
    assert (await client.delete("/session", headers=OURS)).status_code == 401


async def test_a_handler_of_ours_and_one_that_wants_a_bearer_are_logged_in_to(make_app, call_with):
    def bearer(request: AuthRequest) -> bool:
        return request.headers.get("authorization") in {"Bearer opaque", "Bearer eyJ.x"}

    client = call_with(make_app(auth=any_of(api_key_auth(KEY), bearer)), None)
    for key, status in ((KEY, 200), ("opaque", 200), ("eyJ.x", 200), ("other", 401)):
        client.cookies.clear()
        assert (await log_in(client, key)).status_code == status
        assert (await client.get("/runs")).status_code == status
    await log_in(client)
    assert (await client.delete("/session", headers=OURS)).status_code == 200
    assert (await client.get("/runs")).status_code == 401


async def test_wrong_logins_at_a_hosts_own_handler_have_to_wait_too(make_app, call_with):
    client = call_with(make_app(auth=api_key_auth(KEY)), None)
    statuses = [(await log_in(client, f"wrong-{i:020}")).status_code for i in range(22)]
    assert statuses == [401] * 20 + [429] * 2


async def test_the_hosts_hook_hears_of_a_wrong_login(make_app, call_with):
    heard: list[tuple[str, str]] = []

    def hook(request: AuthRequest, error: Exception) -> None:
        assert isinstance(error, UnauthorizedError)
        heard.append((request.method, request.path))

    for auth in (None, api_key_auth(KEY)):
        client = call_with(make_app(auth=auth, on_auth_failure=hook), None)
        await log_in(client, "wrong")
    assert heard == [("POST", "/session")] * 2


async def test_two_applications_of_one_flow_do_not_take_each_others_sessions(make_app, call_with):
    """What a handler let in is no credential where keys are asked for, and the other way."""
    host: Starlette = make_app(auth=lambda request: request.headers.get("x-api-key") == "magic")
    own, other = call_with(host, None), call_with(make_app(), None)
    text = cookie_in(await log_in(own, "magic"))
    headers = {"Cookie": f"stepflow_session={text}"}
    assert (await own.get("/runs", headers=headers)).status_code == 200
    assert (await other.get("/runs", headers=headers)).status_code == 401
    text = cookie_in(await log_in(other))
    headers = {"Cookie": f"stepflow_session={text}"}
    assert (await other.get("/runs", headers=headers)).status_code == 200
    assert (await own.get("/runs", headers=headers)).status_code == 401


async def test_cors_never_lets_another_origin_use_the_cookie(make_app, call_with):
    client = call_with(make_app(cors=["https://app.example.com"]), None)
    await log_in(client)
    headers = {"Origin": "https://app.example.com", "Sec-Fetch-Site": "cross-site"}
    for response in (await client.get("/runs", headers=headers),):
        assert response.status_code == 403
        assert "access-control-allow-credentials" not in response.headers


async def test_no_id_is_in_a_log(stranger, caplog):
    caplog.set_level("DEBUG")
    text = cookie_in(await log_in(stranger))
    await log_in(stranger, "wrong-key-0123456789")
    await stranger.get("/session")
    assert text not in caplog.text
    assert KEY not in caplog.text
    assert "wrong-key" not in caplog.text


async def test_the_lifetime_is_a_setting(make_app, call_with, engine, signer, clock):
    from stepflow.auth.chain import AuthChain
    from stepflow.web.app import build_app

    settings = Settings(session_ttl_s=60.0)
    chain = AuthChain(clock=clock, settings=settings, signer=signer)
    policy = Policy(lambda: chain, clock, auth=api_key_auth(KEY))
    client = call_with(build_app(engine, policy, settings, clock), None)
    assert (await log_in(client)).json()["expiresAt"] == "2024-01-15T10:31:00.000Z"
    assert len(base64.urlsafe_b64decode(client.cookies["stepflow_session"][4:] + "=")) == 32


async def test_a_hosts_own_user_is_told_who_they_are(make_app, call_with):
    client = call_with(make_app(auth=lambda _request: Principal("ada")), None)
    body = (await client.get("/session")).json()
    assert (body["name"], body["kind"], body["session"]) == ("ada", "user", False)
