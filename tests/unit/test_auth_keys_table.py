"""Keys in a table that processes share: with the face of the file, beside the file."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from stepflow.auth.chain import AuthChain
from stepflow.auth.keys_file import KeyFollower, KeysFile
from stepflow.auth.keys_table import KeysTable
from stepflow.auth.principal import Principal
from stepflow.config import Settings
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

NOW_MS = 1_700_000_000_000


class _Timer:
    def __init__(self, due_s: float, callback: Callable[[], None]) -> None:
        self.due_s = due_s
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Time stands still until `advance`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[_Timer] = []

    def wall_ms(self) -> int:
        return NOW_MS + int(self.now_s * 1000)

    def monotonic_s(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> _Timer:
        self.timers.append(_Timer(self.now_s + delay_s, callback))
        return self.timers[-1]

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        due = [timer for timer in self.timers if timer.due_s <= self.now_s]
        self.timers = [timer for timer in self.timers if timer not in due]
        for timer in due:
            if timer.callback is not None:
                timer.callback()


class Shared:
    """A `SharedTable` that another process could change."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.version = 1

    def known(self) -> dict[str, bytes]:
        return self.rows

    def read(self) -> dict[str, bytes]:
        return dict(self.rows)

    @contextlib.contextmanager
    def turn(self) -> Generator[dict[str, bytes]]:
        rows = dict(self.rows)
        yield rows
        self.rows = rows
        self.version += 1


@pytest.fixture
def shared() -> Shared:
    return Shared()


@pytest.fixture
def keys(shared: Shared) -> KeysTable:
    return KeysTable(shared, keys_max=2)


def test_a_key_is_made_listed_revoked_and_forgotten(keys: KeysTable, shared: Shared) -> None:
    text, row = keys.create("deploy", ["read"], NOW_MS, by="key:ops")
    assert keys.rows() == keys.known() == [row]
    assert text.split("_")[2].encode() not in b"".join(shared.rows.values())
    _, older = keys.create("older", ["trigger"], NOW_MS - 1, NOW_MS)
    assert keys.rows() == [older, row], "oldest first"
    with pytest.raises(ConfigurationError, match="the database holds 2 keys"):
        keys.create("third", ["read"], NOW_MS)
    assert len(shared.rows) == 2
    revoked = keys.revoke(row.id, NOW_MS + 5, "key:ops")
    assert revoked is not None
    assert (revoked.revoked_ms, revoked.revoked_by) == (NOW_MS + 5, "key:ops")
    assert keys.rows() == [older, revoked]
    assert keys.revoke("00000000", NOW_MS) is None
    assert keys.remove_dead(NOW_MS + 9) == 2
    assert shared.rows == {}


@pytest.mark.parametrize("text", [b"{", b"{}", b"[]", b'{"id":1,"sha256":"zz"}'])
def test_a_damaged_row_is_named_and_lets_nobody_in(keys: KeysTable, shared: Shared, text) -> None:
    made, _ = keys.create("deploy", ["read"], NOW_MS)
    clock = ManualClock()
    follower = KeyFollower(keys, clock, Settings())
    assert follower.ring().find(made, NOW_MS) is not None
    shared.rows = {**shared.rows, "Ab3dEf9h": text}
    with pytest.raises(ConfigurationError, match="Ab3dEf9h"):
        keys.rows()
    shared.version += 1
    follower.look()
    assert follower.ring().find(made, NOW_MS) is None


def test_a_key_that_another_process_has_revoked_is_refused_at_the_next_look(
    keys: KeysTable, shared: Shared
) -> None:
    made, row = keys.create("deploy", ["read"], NOW_MS)
    clock, settings = ManualClock(), Settings()
    follower = KeyFollower(keys, clock, settings)
    other = KeysTable(shared)
    other.revoke(row.id, NOW_MS)
    clock.now_s += settings.keys_check_s
    assert follower.ring().find(made, NOW_MS) is None


class TestChain:
    def test_those_of_the_table_are_changed_over_http_and_those_of_the_file_are_as_good(
        self, shared: Shared, tmp_path: Path
    ) -> None:
        in_file, _ = KeysFile(tmp_path / "keys.json").create("old", ["read"], NOW_MS)
        chain = AuthChain.from_env({}, tmp_path, Settings(), ManualClock(), table=shared)
        assert chain.follower is not None
        in_table, row = chain.follower.file.create("new", ["read"], NOW_MS)
        chain.follower.look()
        assert [one.name for one in chain.follower.file.rows()] == ["new"]
        assert json.loads(shared.rows[row.id])["name"] == "new"
        for text, name in ((in_file, "old"), (in_table, "new")):
            found = chain.find_key(text)
            assert found is not None
            assert found.name == name
        assert chain.find_key("x" * 40) is None

    def test_a_table_alone_is_enough(self, shared: Shared) -> None:
        chain = AuthChain.from_env({}, None, Settings(), ManualClock(), table=shared)
        assert not chain.configured
        assert chain.follower is not None
        text, _ = chain.follower.file.create("new", ["read"], NOW_MS)
        chain.follower.look()
        assert chain.configured
        assert chain.find_key(text) is not None

    def test_a_session_ends_with_its_key_wherever_that_is_kept(
        self, shared: Shared, tmp_path: Path
    ) -> None:
        _, in_file = KeysFile(tmp_path / "keys.json").create("old", ["read"], NOW_MS)
        chain = AuthChain.from_env({}, tmp_path, Settings(), ManualClock(), table=shared)
        assert chain.follower is not None
        _, in_table = chain.follower.file.create("new", ["read"], NOW_MS)
        chain.follower.look()
        for row in (in_file, in_table):
            who = Principal(row.name, "key", row.scopes, key_id=row.id)
            assert chain._named(who) is not None
        gone = Principal("gone", "key", frozenset(), key_id="00000000")
        assert chain._named(gone) is None

    def test_a_stream_is_told_of_the_end_of_its_key(self, shared: Shared, tmp_path: Path) -> None:
        clock, settings = ManualClock(), Settings()
        file = KeysFile(tmp_path / "keys.json")
        _, in_file = file.create("old", ["read"], NOW_MS)
        chain = AuthChain.from_env({}, tmp_path, settings, clock, table=shared)
        assert chain.follower is not None
        _, in_table = chain.follower.file.create("new", ["read"], NOW_MS)
        chain.follower.look()
        told: list[str] = []

        def watch(key_id: str) -> None:
            chain.watch(
                Principal("x", "key", frozenset(), key_id=key_id), lambda: told.append(key_id)
            )

        for key_id in (in_file.id, in_table.id, "00000000"):
            watch(key_id)
        clock.advance(settings.keys_check_s)
        assert told == ["00000000"]
        file.revoke(in_file.id, NOW_MS)
        KeysTable(shared).revoke(in_table.id, NOW_MS)
        clock.advance(settings.keys_check_s)
        assert set(told) == {"00000000", in_file.id, in_table.id}
