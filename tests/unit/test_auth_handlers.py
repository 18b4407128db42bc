"""The host's own handlers: what they may answer, how they combine, who hears of a refusal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepflow.auth.handlers import (
    AuthRequest,
    AuthResult,
    RouteAuth,
    allow_all,
    any_of,
    api_key_auth,
    deny_all,
    same_site,
)
from stepflow.auth.principal import ALL_SCOPES, ANONYMOUS, READ_ONLY, Principal
from stepflow.errors import (
    ApiError,
    ConfigurationError,
    ForbiddenError,
    InternalError,
    UnauthorizedError,
)

KEY = "correct-horse-battery-staple"
OTHER = "another-key-of-some-length"
ANN = Principal("ann", "jwt", READ_ONLY)


def request(**headers: str) -> AuthRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return AuthRequest("POST", "/trigger/a", named, {}, "192.0.2.1", extra="the host's request")


async def who(handler: Any, **headers: str) -> Principal:
    return await RouteAuth(handler).authenticate("trigger", request(**headers))


class TestAnswers:
    @pytest.mark.asyncio
    async def test_allow_all_lets_everyone_in_with_all_scopes(self):
        assert await who(allow_all) == ANONYMOUS
        assert ANONYMOUS.scopes == ALL_SCOPES

    @pytest.mark.asyncio
    async def test_deny_all_lets_nobody_in(self):
        with pytest.raises(UnauthorizedError):
            await who(deny_all)

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (True, ANONYMOUS),
            (AuthResult(ok=True), ANONYMOUS),
            (AuthResult(ok=True, principal=ANN), ANN),
            (ANN, ANN),
        ],
    )
    async def test_a_handler_may_be_sync_or_async(self, answer, expected):
        async def later(_: AuthRequest) -> Any:
            await asyncio.sleep(0)
            return answer

        assert await who(lambda _: answer) == expected
        assert await who(later) == expected

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "answer",
        [
            False,
            None,
            1,
            "yes",
            {"ok": True},
            [ANN],
            pytest.param(object(), id="object"),
            AuthResult(ok=False, principal=ANN),
        ],
        ids=repr,
    )
    async def test_whatever_else_a_handler_answers_lets_nobody_in(self, answer):
        with pytest.raises(UnauthorizedError):
            await who(lambda _: answer)

    @pytest.mark.asyncio
    async def test_a_handler_may_say_which_refusal_it_is(self):
        refusal = ForbiddenError("not on Sundays")
        with pytest.raises(ForbiddenError, match="Sundays"):
            await who(lambda _: AuthResult(ok=False, error=refusal))

    @pytest.mark.asyncio
    async def test_a_handler_may_raise_its_refusal(self):
        def handler(_: AuthRequest) -> bool:
            raise ForbiddenError

        with pytest.raises(ForbiddenError):
            await who(handler)

    @pytest.mark.asyncio
    async def test_a_broken_handler_lets_nobody_in_and_is_logged(self, caplog):
        def handler(_: AuthRequest) -> bool:
            raise KeyError("session")

        with pytest.raises(InternalError) as caught:
            await who(handler)
        assert "session" not in str(caught.value)
        assert "KeyError" in caplog.text

    @pytest.mark.asyncio
    async def test_a_handler_sees_the_request_and_the_hosts_own_object(self):
        seen: list[AuthRequest] = []

        def handler(given: AuthRequest) -> bool:
            seen.append(given)
            return True

        await who(handler, x_team="a")
        assert seen[0].method == "POST"
        assert seen[0].path == "/trigger/a"
        assert seen[0].headers == {"x-team": "a"}
        assert seen[0].client == "192.0.2.1"
        assert seen[0].extra == "the host's request"


class TestHelpers:
    @pytest.mark.asyncio
    async def test_api_key_auth_wants_one_of_its_keys(self):
        handler = api_key_auth(KEY, OTHER)
        assert (await who(handler, x_api_key=OTHER)).kind == "key"
        for headers in ({}, {"x_api_key": "wrong"}, {"x_api_key": ""}):
            with pytest.raises(UnauthorizedError):
                await who(handler, **headers)

    @pytest.mark.parametrize("keys", [(), ("short",), (KEY, "")])
    def test_api_key_auth_wants_real_keys(self, keys):
        with pytest.raises(ConfigurationError, match="api_key_auth"):
            api_key_auth(*keys)

    @pytest.mark.asyncio
    async def test_any_of_takes_the_first_who_allows(self):
        handler = any_of(deny_all, api_key_auth(KEY), lambda _: ANN, allow_all)
        assert (await who(handler, x_api_key=KEY)).kind == "key"
        assert await who(handler) == ANN

    @pytest.mark.asyncio
    async def test_any_of_gives_the_last_refusal(self):
        def forbid(_: AuthRequest) -> bool:
            raise ForbiddenError

        with pytest.raises(ForbiddenError):
            await who(any_of(deny_all, forbid))
        with pytest.raises(UnauthorizedError):
            await who(any_of(forbid, deny_all))
        with pytest.raises(UnauthorizedError):
            await who(any_of())


class TestRoutes:
    @pytest.mark.asyncio
    async def test_an_override_replaces_the_global_handler(self):
        auth = RouteAuth({"global": api_key_auth(KEY), "health": allow_all, "notify": deny_all})
        with pytest.raises(UnauthorizedError):
            await auth.authenticate("trigger", request())
        assert (await auth.authenticate("trigger", request(x_api_key=KEY))).kind == "key"
        assert await auth.authenticate("health", request()) == ANONYMOUS
        with pytest.raises(UnauthorizedError):
            await auth.authenticate("notify", request(x_api_key=KEY))

    @pytest.mark.asyncio
    async def test_without_global_the_endpoints_not_named_are_shut(self):
        auth = RouteAuth({"health": allow_all})
        with pytest.raises(UnauthorizedError):
            await auth.authenticate("trigger", request(x_api_key=KEY))


class TestFailureHook:
    @pytest.mark.asyncio
    @pytest.mark.parametrize("is_async", [False, True])
    async def test_the_hook_hears_request_and_refusal(self, is_async):
        heard: list[tuple[str, str]] = []

        def note(given: AuthRequest, error: ApiError) -> None:
            heard.append((given.path, error.code))

        async def note_later(given: AuthRequest, error: ApiError) -> None:
            await asyncio.sleep(0)
            note(given, error)

        auth = RouteAuth(deny_all, note_later if is_async else note)
        with pytest.raises(UnauthorizedError):
            await auth.authenticate("trigger", request())
        assert heard == [("/trigger/a", "UNAUTHORIZED")]

    @pytest.mark.asyncio
    async def test_the_hook_hears_nothing_of_good_requests(self):
        heard: list[Any] = []
        auth = RouteAuth(allow_all, lambda *given: heard.append(given))
        await auth.authenticate("trigger", request())
        assert heard == []

    @pytest.mark.asyncio
    async def test_what_the_hook_raises_is_logged_and_changes_nothing(self, caplog):
        def broken(_: AuthRequest, error: ApiError) -> None:
            raise RuntimeError("the hook's own mistake")

        with pytest.raises(UnauthorizedError):
            await RouteAuth(deny_all, broken).authenticate("trigger", request())
        assert "the hook's own mistake" in caplog.text


class TestSameSite:
    """A session's cookie comes along from any page; who sent it is told by other headers."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "shop.example"},  # a program
            {"host": "shop.example", "origin": "https://shop.example"},
            {"host": "Shop.Example:8443", "origin": "http://shop.example:8443"},
            {"host": "shop.example", "sec_fetch_site": "same-origin"},
            {"host": "shop.example", "sec_fetch_site": "none"},  # typed into the address bar
        ],
    )
    async def test_this_sites_own_pages_are_asked_who_they_are(self, headers):
        assert await who(same_site(lambda _: ANN), **headers) == ANN

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "shop.example", "origin": "https://evil.example"},
            {"host": "shop.example", "origin": "null"},
            {"host": "shop.example", "origin": ""},
            {"origin": "https://shop.example"},
            {"host": "shop.example", "origin": "https://shop.example.evil.example"},
            {"host": "shop.example", "sec_fetch_site": "cross-site"},
        ],
    )
    async def test_a_page_of_another_site_is_refused_before_its_cookie_is_looked_at(self, headers):
        def never(_: AuthRequest) -> bool:
            raise AssertionError

        with pytest.raises(ForbiddenError):
            await who(same_site(never), **headers)
