"""Sessions: an id stands for a credential while both are good, and nothing is kept of either."""

from __future__ import annotations

import asyncio
import json
import stat
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from stepflow.auth import sessions as module
from stepflow.auth.api_key import digest_of
from stepflow.auth.chain import KEYS_FILE, SESSIONS_FILE, AuthChain
from stepflow.auth.keys_file import KeysFile
from stepflow.auth.principal import ALL_SCOPES, Principal
from stepflow.auth.sessions import COOKIE, Sessions, cookie_of, jwt_seal
from stepflow.config import Settings
from stepflow.errors import DiskFailedError, RateLimitedError, UnauthorizedError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio

NOW_MS = 1_700_000_000_000
KEY = "environment-key-0123456789"
OTHER = "another-key-0123456789"
SECRET = "9f2c1d7be04a5c6833aa19d0f7b25e418c3d6a90b7e1f254"
OPS = Principal("ops", "key", ALL_SCOPES)


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def wall_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000

    def call_later(self, delay_s: float, callback: Any) -> Any:
        raise AssertionError


@pytest.fixture
def clock() -> Clock:
    return Clock()


def sessions_in(path: Path | None, clock: Clock, **settings: Any) -> Sessions:
    return Sessions(path, clock, Settings(**settings))


def chain_in(directory: Path, clock: Clock, **environ: str) -> AuthChain:
    names = {f"STEPFLOW_{name}": value for name, value in environ.items()}
    return AuthChain.from_env(names, directory, Settings(), clock)


def token(clock: Clock, *, life_s: int = 600, secret: str = SECRET, **claims: Any) -> str:
    now_s = clock.ms // 1000
    claims = {"sub": "ann", "iat": now_s, "exp": now_s + life_s, **claims}
    return jwt.encode(claims, secret, "HS256")


class TestIds:
    async def test_an_id_is_random_and_finds_its_session_alone(self, clock) -> None:
        sessions = sessions_in(None, clock)
        texts = [(await sessions.begin(OPS))[0] for _ in range(50)]
        assert len(set(texts)) == 50
        assert all(text.startswith("ses_") and len(text) == 47 for text in texts)
        for text in texts:
            found = sessions.find(text)
            assert found is not None
            assert found.principal == OPS

    @pytest.mark.parametrize("change", ["", "x", "A" * 47, "ses_", "\x00", "é" * 47, "\udcff" * 47])
    async def test_any_other_text_finds_none(self, clock, change) -> None:
        sessions = sessions_in(None, clock)
        text, _ = await sessions.begin(OPS)
        assert sessions.find(change) is None
        assert sessions.find(text + "A") is None
        for place in range(len(text)):
            other = "B" if text[place] != "B" else "C"
            assert sessions.find(text[:place] + other + text[place + 1 :]) is None

    async def test_it_ends_with_its_time_to_the_millisecond(self, clock) -> None:
        sessions = sessions_in(None, clock, session_ttl_s=60.0)
        text, session = await sessions.begin(OPS)
        assert session.expires_ms == NOW_MS + 60_000
        clock.ms = NOW_MS + 59_999
        assert sessions.find(text) is session
        clock.ms += 1
        assert sessions.find(text) is None

    async def test_it_never_outlives_the_credential(self, clock) -> None:
        sessions = sessions_in(None, clock, session_ttl_s=60.0)
        _, short = await sessions.begin(Principal("a", "jwt", ALL_SCOPES, expires_ms=NOW_MS + 5))
        _, long = await sessions.begin(Principal("a", "jwt", ALL_SCOPES, expires_ms=NOW_MS * 2))
        assert (short.expires_ms, long.expires_ms) == (NOW_MS + 5, NOW_MS + 60_000)

    async def test_it_ends_when_it_is_ended_and_its_watcher_hears_it(self, clock) -> None:
        sessions = sessions_in(None, clock)
        text, session = await sessions.begin(OPS)
        other, kept = await sessions.begin(OPS)
        heard: list[str] = []
        sessions.watch(session.sha256, lambda: heard.append("ended"))
        sessions.watch(kept.sha256, lambda: heard.append("other"))
        stop = sessions.watch(session.sha256, lambda: heard.append("stopped"))
        stop()
        await sessions.end(session)
        assert (sessions.find(text), sessions.find(other), heard) == (None, kept, ["ended"])
        assert sessions.by_hash(session.sha256) is None
        assert sessions.by_hash(kept.sha256) is kept
        assert sessions.by_hash(None) is None
        await sessions.end(session)

    async def test_there_are_so_many_and_the_oldest_of_who_has_most_makes_room(self, clock) -> None:
        sessions = sessions_in(None, clock, sessions_max=4)
        (quiet, _) = await sessions.begin(Principal("quiet", "key", ALL_SCOPES))
        texts = [(await sessions.begin(OPS))[0] for _ in range(9)]
        assert len(sessions) == 4
        assert sessions.find(quiet) is not None
        assert [sessions.find(text) is not None for text in texts] == [False] * 6 + [True] * 3

    async def test_those_that_are_over_make_room_first(self, clock) -> None:
        sessions = sessions_in(None, clock, sessions_max=2, session_ttl_s=10.0)
        await sessions.begin(OPS)
        clock.ms += 5_000
        kept, _ = await sessions.begin(OPS)
        clock.ms += 5_000
        await sessions.begin(OPS)
        assert sessions.find(kept) is not None

    async def test_a_limit_of_none_still_lets_one_in(self, clock) -> None:
        sessions = sessions_in(None, clock, sessions_max=0)
        await sessions.begin(OPS)
        text, _ = await sessions.begin(OPS)
        assert (len(sessions), sessions.find(text) is not None) == (1, True)


class TestFile:
    async def test_a_restart_keeps_who_is_logged_in_and_brings_nobody_back(
        self, clock, tmp_path
    ) -> None:
        path = tmp_path / SESSIONS_FILE
        before = sessions_in(path, clock)
        text, session = await before.begin(
            Principal("ci", "key", frozenset({"read"}), key_id="Ab3dEf9h"), "seal"
        )
        gone, ended = await before.begin(OPS)
        await before.end(ended)
        after = sessions_in(path, clock)
        found = after.find(text)
        assert found == session
        assert found is not None
        assert found.principal.key_id == "Ab3dEf9h"
        assert after.find(gone) is None

    async def test_the_file_is_private_and_holds_neither_id_nor_key(self, clock, tmp_path) -> None:
        chain = chain_in(tmp_path, clock, API_KEYS=KEY)
        text, _ = await chain.log_in(KEY, None)
        content = (tmp_path / SESSIONS_FILE).read_text()
        for secret in (text, text[4:], KEY, digest_of(KEY).hex()):
            assert secret not in content
        assert stat.S_IMODE((tmp_path / SESSIONS_FILE).stat().st_mode) == 0o600

    async def test_what_a_handler_let_in_is_not_on_disk(self, clock, tmp_path) -> None:
        path = tmp_path / SESSIONS_FILE
        sessions = sessions_in(path, clock)
        text, session = await sessions.begin(OPS, credential={"x-api-key": KEY})
        assert sessions.find(text) is session
        assert KEY not in path.read_text() + repr(session)
        assert sessions_in(path, clock).find(text) is None

    async def test_a_login_that_is_not_on_disk_is_none(self, clock, tmp_path, monkeypatch) -> None:
        sessions = sessions_in(tmp_path / SESSIONS_FILE, clock)

        def refuse(*_: Any) -> None:
            raise DiskFailedError("no room")

        monkeypatch.setattr(module, "write_secret", refuse)
        with pytest.raises(DiskFailedError):
            await sessions.begin(OPS)
        assert len(sessions) == 0

    async def test_logins_at_once_are_all_kept(self, clock, tmp_path) -> None:
        path = tmp_path / SESSIONS_FILE
        sessions = sessions_in(path, clock)
        begun = await asyncio.gather(*(sessions.begin(OPS) for _ in range(20)))
        after = sessions_in(path, clock)
        assert all(after.find(text) is not None for text, _ in begun)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda text: text[: len(text) // 2],
            lambda text: text.replace('"ops"', '"ann"'),
            lambda text: text.replace('"format": 1', '"format": 2'),
            lambda text: text.replace('"sessions"', '"session"'),
            lambda _: "null",
            lambda _: "[" * 100_000,
        ],
    )
    async def test_a_damaged_file_logs_everybody_out_and_stops_nobody(
        self, clock, tmp_path, damage, caplog
    ) -> None:
        path = tmp_path / SESSIONS_FILE
        text, _ = await sessions_in(path, clock).begin(OPS)
        path.write_text(damage(path.read_text()))
        after = sessions_in(path, clock)
        assert after.find(text) is None
        assert "nobody stays logged in" in caplog.text
        again, _ = await after.begin(OPS)
        assert sessions_in(path, clock).find(again) is not None

    async def test_a_kind_that_no_session_is_of_is_damage(self, clock, tmp_path) -> None:
        path = tmp_path / SESSIONS_FILE
        await sessions_in(path, clock).begin(Principal("x", "anonymous", ALL_SCOPES))
        assert len(sessions_in(path, clock)) == 0

    async def test_a_file_that_others_may_read_is_left_alone(self, clock, tmp_path, caplog) -> None:
        path = tmp_path / SESSIONS_FILE
        await sessions_in(path, clock).begin(OPS)
        path.chmod(0o644)
        assert len(sessions_in(path, clock)) == 0
        assert "chmod 600" in caplog.text


class TestCredential:
    async def test_a_key_logs_in_and_the_session_may_what_the_key_may(
        self, clock, tmp_path
    ) -> None:
        text, row = KeysFile(tmp_path / KEYS_FILE).create("ci", ["read"], NOW_MS)
        chain = chain_in(tmp_path, clock)
        begun, session = await chain.log_in(text, None)
        found = chain.principal_of(session)
        assert found is not None
        assert (found.id, found.scopes, found.key_id) == ("key:ci", {"read"}, row.id)
        assert (found.session, found.expires_ms) == (session.sha256, session.expires_ms)
        assert chain.sessions.find(begun) is session

    @pytest.mark.parametrize("restart", [False, True])
    async def test_it_ends_with_its_key(self, clock, tmp_path, restart) -> None:
        file = KeysFile(tmp_path / KEYS_FILE)
        text, row = file.create("ci", ["read"], NOW_MS)
        file.create("ci", ALL_SCOPES, NOW_MS)
        chain = chain_in(tmp_path, clock)
        begun, _ = await chain.log_in(text, None)
        file.revoke(row.id, NOW_MS)
        clock.ms += 1000
        chain = chain_in(tmp_path, clock) if restart else chain
        session = chain.sessions.find(begun)
        assert session is not None
        assert chain.principal_of(session) is None

    async def test_it_ends_with_its_keys_time(self, clock, tmp_path) -> None:
        file = KeysFile(tmp_path / KEYS_FILE)
        text, _ = file.create("ci", ["read"], NOW_MS, NOW_MS + 5000)
        chain = chain_in(tmp_path, clock)
        begun, session = await chain.log_in(text, None)
        assert session.expires_ms == NOW_MS + 5000
        clock.ms += 5000
        assert chain.sessions.find(begun) is None
        assert chain.principal_of(session) is None

    async def test_it_ends_when_the_environment_has_the_key_no_more(self, clock, tmp_path) -> None:
        begun, _ = await chain_in(tmp_path, clock, API_KEYS=f"{KEY},{OTHER}").log_in(KEY, None)
        for keys, is_good in ((f"{OTHER},{KEY}", True), (OTHER, False)):
            chain = chain_in(tmp_path, clock, API_KEYS=keys)
            session = chain.sessions.find(begun)
            assert session is not None
            assert (chain.principal_of(session) is not None) is is_good

    async def test_a_jwt_logs_in_until_it_ends(self, clock, tmp_path) -> None:
        chain = chain_in(tmp_path, clock, JWT_SECRET=SECRET)
        begun, session = await chain.log_in(token(clock, scope="read notify"), None)
        found = chain.principal_of(session)
        assert found is not None
        assert (found.id, found.scopes) == ("jwt:ann", {"read", "notify"})
        clock.ms += 630_000
        assert chain.sessions.find(begun) is None

    async def test_a_session_of_a_jwt_ends_with_the_settings_it_was_checked_with(
        self, clock, tmp_path
    ) -> None:
        chain = chain_in(tmp_path, clock, JWT_SECRET=SECRET)
        begun, _ = await chain.log_in(token(clock), None)
        for environ, is_good in (
            ({"JWT_SECRET": SECRET}, True),
            ({"JWT_SECRET": SECRET[::-1]}, False),
            ({"JWT_SECRET": SECRET, "JWT_ISSUER": "https://issuer"}, False),
            ({"JWT_SECRET": SECRET, "JWT_AUDIENCE": "us"}, False),
            ({"API_KEYS": KEY}, False),
        ):
            chain = chain_in(tmp_path, clock, **environ)
            session = chain.sessions.find(begun)
            assert session is not None
            assert (chain.principal_of(session) is not None) is is_good, environ

    async def test_a_key_that_looks_like_a_jwt_is_a_key(self, clock, tmp_path) -> None:
        key = "eyJhbGciOiJIUzI1NiJ9.key-of-ours"
        chain = chain_in(tmp_path, clock, API_KEYS=key)
        _, session = await chain.log_in(key, None)
        assert session.principal.kind == "key"

    async def test_a_bad_one_begins_none_and_is_counted(self, clock, tmp_path) -> None:
        chain = chain_in(tmp_path, clock, API_KEYS=KEY, JWT_SECRET=SECRET)
        public = chain.signer.sign_run("run_0123456789abcdef", NOW_MS * 2)
        bad = ["", KEY[:-1], public, token(clock, life_s=-60), f"Bearer {token(clock)}"]
        for text in (bad * 5)[:20]:
            with pytest.raises(UnauthorizedError):
                await chain.log_in(text, "192.0.2.1")
        with pytest.raises(RateLimitedError):
            await chain.log_in("eyJ.x.y", "192.0.2.1")
        assert len(chain.sessions) == 0
        # A good one is never counted.
        await chain.log_in(KEY, "192.0.2.1")

    async def test_what_a_handler_let_in_is_for_that_handler_to_judge(
        self, clock, tmp_path
    ) -> None:
        chain = chain_in(tmp_path, clock, API_KEYS=KEY)
        who = chain.find_key(KEY)
        assert who is not None
        _, session = await chain.sessions.begin(who, credential={"x-api-key": KEY})
        assert chain.principal_of(session) is None

    async def test_a_watch_hears_of_a_logout(self, clock, tmp_path) -> None:
        chain = chain_in(tmp_path, clock, API_KEYS=KEY)
        _, session = await chain.log_in(KEY, None)
        who = chain.principal_of(session)
        assert who is not None
        heard: list[int] = []
        stop = chain.watch(who, lambda: heard.append(1))
        await chain.sessions.end(session)
        assert heard == [1]
        stop()


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (f"{COOKIE}=a", "a"),
        (f"x=1; {COOKIE}=a; {COOKIE}=b", "a"),
        (f"  {COOKIE}=a=b ;", "a=b"),
        (f"x{COOKIE}=a", None),
        (f"{COOKIE.upper()}=a", None),
        (COOKIE, ""),
        ("", None),
        (f"x={COOKIE}=a", None),
    ],
)
async def test_the_cookie_is_read_by_its_whole_name(header, found) -> None:
    assert cookie_of(header) == found


async def test_the_seal_tells_settings_apart_and_shows_none() -> None:
    seals = {
        jwt_seal({}),
        jwt_seal({"STEPFLOW_JWT_SECRET": SECRET}),
        jwt_seal({"STEPFLOW_JWT_JWKS": SECRET}),
        jwt_seal({"STEPFLOW_JWT_SECRET": SECRET, "STEPFLOW_JWT_ISSUER": "x"}),
        jwt_seal({"STEPFLOW_JWT_SECRET": SECRET, "STEPFLOW_JWT_AUDIENCE": "x"}),
    }
    assert len(seals) == 5
    assert json.dumps(sorted(seals)).count(SECRET) == 0
