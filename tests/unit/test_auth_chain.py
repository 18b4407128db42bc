"""Which credential decides, who is refused, and who is made to wait."""

from __future__ import annotations

import base64
import hmac
import json
from typing import TYPE_CHECKING

import pytest

from stepflow.auth.api_key import create_default_key
from stepflow.auth.chain import AuthChain, FailureLimiter
from stepflow.auth.handlers import AuthRequest
from stepflow.auth.keys_file import KeysFile
from stepflow.config import MEMORY, Settings
from stepflow.errors import ConfigurationError, RateLimitedError, UnauthorizedError

if TYPE_CHECKING:
    from pathlib import Path

    from stepflow.auth.principal import Principal
    from stepflow.clock import TimerHandle

NOW_S = 1_700_000_000
NOW_MS = NOW_S * 1000
KEY = "correct-horse-battery-staple"
SECRET = "a secret of 32 bytes or somewhat more"
RUN = "run_0123456789ABCDEFabcdef"
SETTINGS = Settings()
ENVIRON = {
    "STEPFLOW_API_KEYS": KEY,
    "STEPFLOW_JWT_SECRET": SECRET,
    "STEPFLOW_TOKEN_KEY": "ab" * 32,
}


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def wall_ms(self) -> int:
        return NOW_MS + int(self.now_s * 1000)

    def monotonic_s(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: object) -> TimerHandle:
        raise NotImplementedError


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def jwt_of(claims: dict[str, object]) -> str:
    start = b64(b'{"alg":"HS256"}') + "." + b64(json.dumps(claims).encode())
    return start + "." + b64(hmac.digest(SECRET.encode(), start.encode(), "sha256"))


JWT = jwt_of({"sub": "ann", "exp": NOW_S + 60})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def chain(clock: ManualClock) -> AuthChain:
    return AuthChain.from_env(ENVIRON, None, SETTINGS, clock)


@pytest.fixture
def token(chain: AuthChain) -> str:
    return chain.signer.sign_run(RUN, NOW_MS + 1000)


async def who(
    chain: AuthChain, headers: dict[str, str] | None = None, token: str | None = None
) -> Principal:
    return await chain.authenticate((headers or {}).get, token, "192.0.2.1")


class TestWhichDecides:
    @pytest.mark.asyncio
    async def test_each_credential_alone_is_good(self, chain, token):
        assert (await who(chain, {"x-api-key": KEY})).kind == "key"
        assert (await who(chain, {"authorization": f"Bearer {JWT}"})).name == "ann"
        assert (await who(chain, token=token)).run_ids == {RUN}

    @pytest.mark.asyncio
    async def test_a_public_token_is_good_as_a_bearer_too(self, chain, token):
        principal = await who(chain, {"authorization": f"Bearer {token}"})
        assert principal.kind == "token"
        assert principal.run_ids == {RUN}

    @pytest.mark.asyncio
    async def test_nothing_is_401(self, chain):
        with pytest.raises(UnauthorizedError):
            await who(chain)

    @pytest.mark.asyncio
    async def test_the_api_key_is_asked_first_then_the_header_then_the_query(self, chain, token):
        bearer = {"authorization": f"Bearer {JWT}"}
        assert (await who(chain, {"x-api-key": KEY, **bearer}, token)).kind == "key"
        assert (await who(chain, bearer, token)).kind == "jwt"

    @pytest.mark.asyncio
    @pytest.mark.parametrize("bad", ["", "wrong-wrong-wrong-wrong", JWT])
    async def test_a_bad_first_one_is_401_whatever_comes_after(self, chain, token, bad):
        good = {"authorization": f"Bearer {JWT}"}
        with pytest.raises(UnauthorizedError):
            await who(chain, {"x-api-key": bad, **good}, token)
        with pytest.raises(UnauthorizedError):
            await who(chain, {"authorization": bad}, token)

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "authorization",
        [
            "",
            "Bearer",
            "Bearer ",
            f"Bearer  {JWT}",
            f"Bearer {JWT} ",
            f"Bearer\t{JWT}",
            f"Basic {JWT}",
            f"Token {JWT}",
            JWT,
            f"Bearer {KEY}",
            f"Bearer {JWT}, Bearer {JWT}",
            "Bearer pat_",
            "Bearer " + jwt_of({"sub": "a" * 8192, "exp": NOW_S + 60}),
            "Bearer " + "a" * 10_000_000,
        ],
        ids=lambda text: text[:20],
    )
    async def test_what_is_no_bearer_credential_is_401(self, chain, authorization):
        with pytest.raises(UnauthorizedError):
            await who(chain, {"authorization": authorization})

    @pytest.mark.asyncio
    @pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
    async def test_the_schemes_name_may_have_any_case(self, chain, scheme):
        assert (await who(chain, {"authorization": f"{scheme} {JWT}"})).name == "ann"

    @pytest.mark.asyncio
    @pytest.mark.parametrize("token", ["", KEY, JWT, "pat_", "PAT_abc"])
    async def test_the_query_takes_public_tokens_alone(self, chain, token):
        with pytest.raises(UnauthorizedError):
            await who(chain, token=token)

    @pytest.mark.asyncio
    async def test_an_authorization_over_8_kib_is_not_decoded(self, chain, monkeypatch):
        monkeypatch.setattr("stepflow.auth.jwt_bearer.JwtBearer.verify", None)
        monkeypatch.setattr("stepflow.auth.public_token.TokenSigner.verify", None)
        for start in ("Bearer ", "Bearer pat_"):
            with pytest.raises(UnauthorizedError):
                await who(chain, {"authorization": start + "a" * 8192})

    @pytest.mark.asyncio
    async def test_every_refusal_reads_the_same(self, chain):
        answers = set()
        for headers in ({}, {"x-api-key": "wrong"}, {"authorization": "Bearer wrong"}):
            with pytest.raises(UnauthorizedError) as caught:
                await who(chain, headers)
            answers.add((caught.value.message, caught.value.code))
        assert answers == {("Unauthorized", "UNAUTHORIZED")}


class TestSources:
    @pytest.mark.asyncio
    async def test_with_nothing_set_nobody_comes_in(self, clock, tmp_path: Path):
        chain = AuthChain.from_env({}, tmp_path, SETTINGS, clock)
        assert not chain.configured
        for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {JWT}"}):
            with pytest.raises(UnauthorizedError):
                await who(chain, headers)

    @pytest.mark.parametrize("name", ["STEPFLOW_API_KEYS", "STEPFLOW_JWT_SECRET"])
    def test_a_key_or_a_jwt_setting_is_a_configuration(self, clock, name):
        assert AuthChain.from_env(
            {name: SECRET.replace(" ", "-")}, None, SETTINGS, clock
        ).configured

    @pytest.mark.asyncio
    async def test_a_key_made_while_the_server_runs_is_a_configuration_and_good(
        self, clock, tmp_path: Path
    ):
        chain = AuthChain.from_env({}, tmp_path, SETTINGS, clock)
        text, row = KeysFile(tmp_path / "keys.json").create("ci", ["trigger"], NOW_MS)
        clock.now_s = 0.5
        assert chain.configured
        principal = await who(chain, {"x-api-key": text})
        assert principal.name == "ci"
        assert principal.scopes == {"trigger"}
        KeysFile(tmp_path / "keys.json").revoke(row.id, NOW_MS)
        clock.now_s = 1.0
        with pytest.raises(UnauthorizedError):
            await who(chain, {"x-api-key": text})

    @pytest.mark.asyncio
    async def test_the_default_key_is_good_until_something_is_configured(
        self, clock, tmp_path: Path
    ):
        text = create_default_key(tmp_path / "api.key")
        alone = AuthChain.from_env({}, tmp_path, SETTINGS, clock)
        assert alone.configured
        assert (await who(alone, {"x-api-key": text})).has("admin")
        for environ in ({"STEPFLOW_API_KEYS": KEY}, {"STEPFLOW_JWT_SECRET": SECRET}):
            chain = AuthChain.from_env(environ, tmp_path, SETTINGS, clock)
            with pytest.raises(UnauthorizedError):
                await who(chain, {"x-api-key": text})

    def test_tokens_survive_a_restart_by_the_key_in_the_directory(self, clock, tmp_path: Path):
        first = AuthChain.from_env({}, tmp_path, SETTINGS, clock)
        token = first.signer.sign_run(RUN, NOW_MS + 1000)
        second = AuthChain.from_env({}, str(tmp_path), SETTINGS, clock)
        assert second.signer.verify(token, NOW_MS) is not None

    def test_the_environments_token_key_goes_before_the_directorys(self, clock, tmp_path: Path):
        environ = {"STEPFLOW_TOKEN_KEY": "ab" * 32}
        chain = AuthChain.from_env(environ, tmp_path, SETTINGS, clock)
        assert not (tmp_path / "token.key").exists()
        other = AuthChain.from_env(environ, None, SETTINGS, clock)
        assert other.signer.verify(chain.signer.sign_run(RUN, NOW_MS + 1), NOW_MS) is not None

    @pytest.mark.parametrize("data_dir", [None, MEMORY])
    def test_in_memory_nothing_is_written_and_tokens_end_with_the_process(
        self, clock, data_dir, tmp_path: Path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        one, two = (AuthChain.from_env({}, data_dir, SETTINGS, clock) for _ in range(2))
        assert two.signer.verify(one.signer.sign_run(RUN, NOW_MS + 1), NOW_MS) is None
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "environ",
        [
            {"STEPFLOW_API_KEYS": "short"},
            {"STEPFLOW_JWT_SECRET": "short"},
            {"STEPFLOW_TOKEN_KEY": "short"},
            {"STEPFLOW_JWT_JWKS": "/no/such/file"},
        ],
        ids=lambda environ: next(iter(environ)),
    )
    def test_a_bad_setting_refuses_the_start(self, clock, environ):
        with pytest.raises(ConfigurationError, match=next(iter(environ))):
            AuthChain.from_env(environ, None, SETTINGS, clock)


class TestAsHandler:
    @pytest.mark.asyncio
    async def test_a_chain_is_a_handler(self, chain, token):
        by_key = await chain(AuthRequest("GET", "/", {"x-api-key": KEY}, {}))
        assert by_key.ok
        assert by_key.principal.kind == "key"
        by_token = await chain(AuthRequest("GET", "/", {}, {"token": token}))
        assert by_token.principal.kind == "token"
        with pytest.raises(UnauthorizedError):
            await chain(AuthRequest("GET", "/", {}, {}))


class TestFailures:
    @pytest.mark.asyncio
    async def test_after_twenty_failures_at_once_an_address_hears_429(self, chain):
        bad = {"x-api-key": "wrong"}
        for _ in range(20):
            with pytest.raises(UnauthorizedError):
                await who(chain, bad)
        with pytest.raises(RateLimitedError) as caught:
            await who(chain, bad)
        assert caught.value.retry_after_s == 1

    @pytest.mark.asyncio
    async def test_good_credentials_are_never_locked_out(self, chain, token):
        for _ in range(100):
            with pytest.raises((UnauthorizedError, RateLimitedError)):
                await who(chain, {"x-api-key": "wrong"})
        assert (await who(chain, {"x-api-key": KEY})).kind == "key"
        assert (await who(chain, {"authorization": f"Bearer {JWT}"})).kind == "jwt"
        assert (await who(chain, token=token)).kind == "token"

    @pytest.mark.asyncio
    async def test_who_shows_no_credential_has_guessed_none(self, chain):
        for _ in range(100):
            with pytest.raises(UnauthorizedError):
                await who(chain)

    def test_ten_failures_a_second_may_go_on_for_ever(self, clock):
        limiter = FailureLimiter(clock, SETTINGS)
        for tick in range(1000):
            clock.now_s = tick / 10
            limiter.count("192.0.2.1")

    def test_a_rest_gives_the_burst_back_and_no_more(self, clock):
        limiter = FailureLimiter(clock, SETTINGS)
        for start_s in (0.0, 1000.0):
            clock.now_s = start_s
            for _ in range(20):
                limiter.count("192.0.2.1")
            with pytest.raises(RateLimitedError):
                limiter.count("192.0.2.1")

    def test_one_address_does_not_use_up_anothers(self, clock):
        limiter = FailureLimiter(clock, SETTINGS)
        for _ in range(20):
            limiter.count("192.0.2.1")
        limiter.count("192.0.2.2")
        limiter.count(None)

    def test_the_addresses_of_one_ipv6_network_are_one_caller(self, clock):
        limiter = FailureLimiter(clock, SETTINGS)
        for host in range(20):
            limiter.count(f"2001:db8:1:2::{host:x}")
        with pytest.raises(RateLimitedError):
            limiter.count("2001:db8:1:2:ffff::1")
        limiter.count("2001:db8:1:3::1")
        limiter.count("fe80::1%eth0")
        limiter.count("not:an:address")

    def test_memory_is_bounded_however_many_addresses_come(self, clock):
        limiter = FailureLimiter(clock, Settings(auth_hosts_max=100))
        for number in range(10_000):
            limiter.count(f"10.0.{number // 256}.{number % 256}")
        assert len(limiter) == 100


@pytest.mark.asyncio
async def test_no_secret_is_in_any_repr_error_or_log(clock, tmp_path: Path, caplog):
    caplog.set_level("DEBUG")
    chain = AuthChain.from_env(ENVIRON, tmp_path, SETTINGS, clock)
    made, _ = KeysFile(tmp_path / "keys.json").create("ci", ["read"], NOW_MS)
    clock.now_s = 0.5
    token = chain.signer.sign_run(RUN, NOW_MS + 1)
    seen = [repr(chain), repr(await who(chain, {"x-api-key": made}))]
    attempts: list[tuple[dict[str, str], str | None]] = [
        ({"x-api-key": KEY + "x"}, None),
        ({"x-api-key": made[:-1]}, None),
        ({"authorization": f"Bearer {JWT[:-1]}"}, None),
        ({}, token[:-1]),
    ]
    for headers, query in attempts:
        with pytest.raises(UnauthorizedError) as caught:
            await who(chain, headers, query)
        seen.append(repr(caught.value))
        seen.append(repr(AuthRequest("GET", "/", headers, {"token": query or ""})))
    text = "".join(seen) + caplog.text
    for secret in (KEY, made[12:50], JWT[-20:-1], token[-30:-1], SECRET, "ab" * 32):
        assert secret not in text
