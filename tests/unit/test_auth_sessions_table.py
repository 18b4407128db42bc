"""Sessions in a table that processes share: logged in at one is logged in at all, until it ends."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.auth.chain import AuthChain
from stepflow.auth.principal import ALL_SCOPES, Principal
from stepflow.auth.sessions import Sessions
from stepflow.auth.sessions_table import SessionsTable
from stepflow.config import Settings
from stepflow.errors import OutcomeUnknownError, UnavailableError
from tests.unit.test_auth_keys_table import ManualClock, Shared

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio

OPS = Principal("ops", "key", ALL_SCOPES, key_id=None)
MADE_UP = "ses_" + "A" * 43


class Late(Shared):
    """A table of which each process knows what it last read, and which may not answer."""

    def __init__(self, truth: Shared) -> None:
        super().__init__()
        self.truth = truth
        self.reads = 0
        self.error: Exception | None = None
        self.version = 0

    def read(self) -> dict[str, bytes]:
        self.reads += 1
        if self.error is not None:
            raise self.error
        self.hear()
        return dict(self.rows)

    def hear(self) -> None:
        """The word of what has changed has come."""
        self.rows, self.version = self.truth.rows, self.truth.version

    def turn(self) -> Any:
        if self.error is not None:
            raise self.error
        return self._turn_of_all()

    def _turn_of_all(self) -> Any:
        here, truth = self, self.truth

        class Turn:
            def __enter__(self) -> dict[str, bytes]:
                self.inner = truth.turn()
                return self.inner.__enter__()

            def __exit__(self, *how: object) -> None:
                self.inner.__exit__(*how)
                here.hear()

        return Turn()


class Process:
    def __init__(self, truth: Shared, **settings: Any) -> None:
        self.clock = ManualClock()
        self.table = Late(truth)
        self.sessions = SessionsTable(self.table, self.clock, Settings(**settings))


@pytest.fixture
def truth() -> Shared:
    return Shared()


async def test_who_is_logged_in_at_one_is_at_another_and_out_at_both(truth) -> None:
    one, other = Process(truth), Process(truth)
    text, session = await one.sessions.begin(OPS, "seal")
    found = await other.sessions.seek(text)
    assert found == session
    assert other.sessions.by_hash(session.sha256) == session
    await other.sessions.end(found)
    assert one.sessions.find(text) == session, "the word of it is on its way"
    one.table.hear()
    assert one.sessions.find(text) is None
    assert one.sessions.by_hash(session.sha256) is None
    assert truth.rows == {}
    assert text.encode() not in repr(truth.rows).encode()


async def test_ids_that_are_made_up_make_the_table_be_read_once_a_second(truth) -> None:
    process = Process(truth)
    assert [await process.sessions.seek(MADE_UP) for _ in range(20)] == [None] * 20
    assert process.table.reads == 1
    await asyncio.gather(*(process.sessions.seek(MADE_UP) for _ in range(5)))
    process.clock.now_s += 1
    await asyncio.gather(*(process.sessions.seek(MADE_UP) for _ in range(5)))
    assert process.table.reads == 2
    assert await process.sessions.seek("short") is None
    assert process.table.reads == 2


async def test_a_stream_hears_within_a_second_that_its_session_ended_elsewhere(truth) -> None:
    one, other = Process(truth), Process(truth)
    _, session = await one.sessions.begin(OPS)
    _, kept = await one.sessions.begin(OPS)
    heard: list[str] = []
    stops = [
        one.sessions.watch(each.sha256, lambda name=name: heard.append(name))
        for each, name in ((session, "ended"), (kept, "kept"))
    ]
    other.table.hear()
    await other.sessions.end(session)
    one.clock.advance(1.0)
    assert heard == []
    one.table.hear()
    one.clock.advance(1.0)
    assert heard == ["ended"]
    for stop in stops:
        stop()
    assert all(timer.callback is None for timer in one.clock.timers)


async def test_who_gives_up_waiting_for_the_table_leaves_no_trace(truth) -> None:
    process = Process(truth)
    asked, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def read() -> dict[str, bytes]:
        loop.call_soon_threadsafe(asked.set)
        go.wait(60)
        return {}

    process.table.read = read  # type: ignore[method-assign]
    seeking = asyncio.ensure_future(process.sessions.seek(MADE_UP))
    await asked.wait()
    seeking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await seeking
    again = asyncio.ensure_future(process.sessions.seek(MADE_UP))
    go.set()
    assert await again is None


@pytest.mark.parametrize("error", [UnavailableError("gone"), OutcomeUnknownError()])
async def test_a_table_that_does_not_answer_begins_none_and_finds_none(truth, error) -> None:
    one, other = Process(truth), Process(truth)
    text, session = await one.sessions.begin(OPS)
    one.table.error = other.table.error = error
    with pytest.raises(type(error)):
        await one.sessions.begin(OPS)
    assert len(one.sessions) == 1
    assert one.sessions.find(text) == session
    assert await other.sessions.seek(text) is None
    with pytest.raises(type(error)):
        await one.sessions.end(session)
    assert one.sessions.find(text) is None


async def test_what_is_over_or_too_much_goes_from_the_table(truth) -> None:
    one, other = Process(truth, sessions_max=2), Process(truth, sessions_max=2)
    first, _ = await one.sessions.begin(OPS)
    other.table.hear()
    await other.sessions.begin(OPS)
    await other.sessions.begin(OPS)
    assert len(truth.rows) == 2
    one.table.hear()
    assert one.sessions.find(first) is None
    one.clock.now_s = other.clock.now_s = 13 * 3600
    await one.sessions.begin(OPS)
    assert len(truth.rows) == 1


async def test_what_a_host_s_handler_let_in_stays_in_its_process(truth) -> None:
    one, other = Process(truth), Process(truth)
    text, session = await one.sessions.begin(OPS, credential={"x-api-key": "secret"})
    assert truth.rows == {}
    await other.sessions.begin(OPS)
    one.table.hear()
    assert one.sessions.find(text) is session
    assert await other.sessions.seek(text) is None


@pytest.mark.parametrize("row", [b"{", b"[]", b"{}", b'{"sha256":"another"}'])
async def test_a_damaged_row_lets_nobody_in_and_the_others_stay(truth, row) -> None:
    one = Process(truth)
    text, session = await one.sessions.begin(OPS)
    truth.rows = {**truth.rows, "ab" * 32: row}
    truth.version += 1
    one.table.hear()
    assert one.sessions.find(text) == session
    assert len(one.sessions) == 1
    # Under the hash of another id a row is none.
    truth.rows = {"cd" * 32: next(iter(truth.rows.values()))}
    truth.version += 1
    one.table.hear()
    assert one.sessions.find(text) is None


async def test_the_chain_keeps_them_where_it_is_told(truth, tmp_path: Path) -> None:
    clock = ManualClock()
    shared = AuthChain.from_env({}, tmp_path, Settings(), clock, logins=truth)
    assert isinstance(shared.sessions, SessionsTable)
    assert type(AuthChain.from_env({}, tmp_path, Settings(), clock).sessions) is Sessions
