"""`keys.json`: made, listed, revoked, followed by a running server, and damaged."""

from __future__ import annotations

import json
import multiprocessing
import stat
from typing import TYPE_CHECKING

import pytest

from stepflow.auth.api_key import digest_of
from stepflow.auth.keys_file import KeyFollower, KeysFile
from stepflow.config import Settings
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from stepflow.clock import TimerHandle

NOW_MS = 1_700_000_000_000


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def wall_ms(self) -> int:
        return NOW_MS + int(self.now_s * 1000)

    def monotonic_s(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: object) -> TimerHandle:
        raise NotImplementedError


@pytest.fixture
def file(tmp_path: Path) -> KeysFile:
    return KeysFile(tmp_path / "keys.json")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class TestFile:
    def test_without_a_file_there_are_no_keys(self, file: KeysFile):
        assert file.rows() == []

    def test_a_made_key_is_listed_with_all_but_itself(self, file: KeysFile):
        text, row = file.create("deploy", ["trigger", "read"], NOW_MS, NOW_MS + 1000)
        assert file.rows() == [row]
        assert row.name == "deploy"
        assert row.scopes == {"trigger", "read"}
        assert row.created_ms == NOW_MS
        assert row.expires_ms == NOW_MS + 1000
        assert row.revoked_ms is None
        assert text.split("_")[1] == row.id
        assert row.sha256 == digest_of(text).hex()
        assert row.sha256 not in repr(row)

    def test_no_file_holds_the_key(self, file: KeysFile, tmp_path: Path):
        text, _ = file.create("deploy", ["read"], NOW_MS)
        secret = text.split("_")[2].encode()
        assert all(secret not in each.read_bytes() for each in tmp_path.iterdir())

    def test_file_and_lock_are_private_and_no_draft_is_left(self, file: KeysFile, tmp_path: Path):
        file.create("deploy", ["read"], NOW_MS)
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
        assert modes == {"keys.json": 0o600, "keys.lock": 0o600}

    def test_a_draft_left_by_a_crash_is_no_obstacle(self, file: KeysFile, tmp_path: Path):
        (tmp_path / "keys.json.new").write_text("half a fi")
        file.create("deploy", ["read"], NOW_MS)
        assert len(file.rows()) == 1

    def test_two_keys_may_have_one_name_so_that_they_can_be_changed_over(self, file: KeysFile):
        file.create("deploy", ["read"], NOW_MS)
        file.create("deploy", ["read"], NOW_MS)
        assert [row.name for row in file.rows()] == ["deploy", "deploy"]

    def test_revoking_says_when_and_a_second_time_changes_nothing(self, file: KeysFile):
        _, row = file.create("deploy", ["read"], NOW_MS)
        revoked = file.revoke(row.id, NOW_MS + 5)
        assert revoked is not None
        assert revoked.revoked_ms == NOW_MS + 5
        assert file.revoke(row.id, NOW_MS + 9) == revoked
        assert file.rows() == [revoked]

    def test_revoking_an_unknown_id_gives_none(self, file: KeysFile):
        assert file.revoke("00000000", NOW_MS) is None

    def test_revoking_one_key_leaves_the_others_alone(self, file: KeysFile):
        _, first = file.create("a", ["read"], NOW_MS)
        _, second = file.create("b", ["read"], NOW_MS)
        assert file.revoke(second.id, NOW_MS + 5) is not None
        assert [row.revoked_ms for row in file.rows()] == [None, NOW_MS + 5]
        assert file.rows()[0] == first

    def test_dead_keys_can_be_forgotten(self, file: KeysFile):
        _, revoked = file.create("a", ["read"], NOW_MS)
        file.create("b", ["read"], NOW_MS, NOW_MS + 1)
        _, live = file.create("c", ["read"], NOW_MS)
        file.revoke(revoked.id, NOW_MS)
        assert file.remove_dead(NOW_MS + 1) == 2
        assert file.rows() == [live]
        assert file.remove_dead(NOW_MS + 1) == 0

    def test_the_number_of_keys_is_bounded(self, tmp_path: Path):
        file = KeysFile(tmp_path / "keys.json", keys_max=2)
        file.create("a", ["read"], NOW_MS)
        file.create("b", ["read"], NOW_MS)
        with pytest.raises(ConfigurationError, match="holds 2 keys"):
            file.create("c", ["read"], NOW_MS)

    @pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\x1b[31m"])
    def test_a_name_is_short_and_printable(self, file: KeysFile, name):
        with pytest.raises(ConfigurationError, match="printable"):
            file.create(name, ["read"], NOW_MS)

    def test_two_processes_lose_no_key_of_each_other(self, file: KeysFile):
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=create_ten, args=(file, number)) for number in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
        assert len({row.id for row in file.rows()}) == 20


def create_ten(file: KeysFile, number: int) -> None:
    for _ in range(10):
        file.create(f"worker-{number}", ["read"], NOW_MS)


class TestDamage:
    def test_any_flipped_bit_is_either_refused_or_changes_nothing(self, file: KeysFile):
        file.create("deploy", ["read"], NOW_MS)
        rows = file.rows()
        good = file.path.read_bytes()
        for bit in range(8 * len(good)):
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << bit % 8
            file.path.write_bytes(bad)
            try:
                assert file.rows() == rows  # white space between the values
            except ConfigurationError:
                continue

    def test_every_piece_of_the_file_is_refused(self, file: KeysFile):
        file.create("deploy", ["read"], NOW_MS)
        good = file.path.read_bytes()
        for length in range(len(good) - 1):
            file.path.write_bytes(good[:length])
            with pytest.raises(ConfigurationError, match="damaged"):
                file.rows()

    def test_a_key_taken_in_by_hand_is_refused(self, file: KeysFile):
        file.create("deploy", ["read"], NOW_MS)
        document = json.loads(file.path.read_text())
        document["keys"][0]["scopes"].append("admin")
        file.path.write_text(json.dumps(document))
        with pytest.raises(ConfigurationError, match="put back a copy"):
            file.rows()

    def test_a_newer_format_is_named(self, file: KeysFile):
        file.create("deploy", ["read"], NOW_MS)
        file.path.write_text(file.path.read_text().replace('"format": 1', '"format": 2'))
        with pytest.raises(ConfigurationError, match="format 2"):
            file.rows()

    def test_a_damaged_file_is_not_overwritten(self, file: KeysFile):
        file.path.touch(0o600)
        file.path.write_text("{}")
        with pytest.raises(ConfigurationError):
            file.create("deploy", ["read"], NOW_MS)
        assert file.path.read_text() == "{}"

    def test_a_file_that_others_may_read_is_refused(self, file: KeysFile):
        file.create("deploy", ["read"], NOW_MS)
        file.path.chmod(0o604)
        with pytest.raises(ConfigurationError, match="chmod 600"):
            file.rows()


class TestFollower:
    def test_a_key_made_while_the_server_runs_is_good_within_a_second(self, file, clock):
        follower = KeyFollower(file, clock, Settings())
        text, row = file.create("late", ["read"], NOW_MS)
        clock.now_s = 0.5
        principal = follower.ring().find(text, NOW_MS)
        assert principal is not None
        assert (principal.name, principal.scopes) == ("late", {"read"})
        assert principal.key_id == row.id
        assert follower.ring().holds(row.id)

    def test_a_revocation_is_in_force_within_a_second(self, file, clock):
        text, row = file.create("deploy", ["read"], NOW_MS)
        follower = KeyFollower(file, clock, Settings())
        assert follower.ring().find(text, NOW_MS)
        file.revoke(row.id, NOW_MS)
        clock.now_s = 0.5
        assert follower.ring().find(text, NOW_MS) is None
        assert not follower.ring().holds(row.id)

    def test_the_first_use_after_a_long_rest_sees_the_revocation(self, file, clock):
        text, row = file.create("deploy", ["read"], NOW_MS)
        follower = KeyFollower(file, clock, Settings())
        file.revoke(row.id, NOW_MS)
        clock.now_s = 3600.0
        assert follower.ring().find(text, NOW_MS) is None

    def test_the_file_is_not_looked_at_more_often_than_said(self, file, clock, monkeypatch):
        follower = KeyFollower(file, clock, Settings())
        looks = []
        monkeypatch.setattr(KeyFollower, "_look", lambda self: looks.append(clock.now_s))
        for tick in range(21):
            clock.now_s = tick / 10
            follower.ring()
        assert looks == [0.5, 1.0, 1.5, 2.0]

    def test_a_removed_file_takes_all_made_keys_away(self, file, clock):
        text, _ = file.create("deploy", ["read"], NOW_MS)
        follower = KeyFollower(file, clock, Settings())
        file.path.unlink()
        clock.now_s = 1.0
        assert follower.ring().find(text, NOW_MS) is None

    def test_a_file_damaged_while_the_server_runs_lets_nobody_in_until_it_is_mended(
        self, file, clock, caplog
    ):
        text, _ = file.create("deploy", ["read"], NOW_MS)
        follower = KeyFollower(file, clock, Settings())
        good = file.path.read_bytes()
        file.path.write_bytes(good[:-9])
        clock.now_s = 1.0
        assert follower.ring().find(text, NOW_MS) is None
        assert "is damaged" in caplog.text
        clock.now_s = 2.0
        follower.ring()
        assert caplog.text.count("is damaged") == 1
        file.path.write_bytes(good)
        clock.now_s = 3.0
        assert follower.ring().find(text, NOW_MS) is not None

    def test_a_file_that_cannot_be_read_just_now_changes_nothing(
        self, file, clock, monkeypatch, caplog
    ):
        text, row = file.create("deploy", ["read"], NOW_MS)
        follower = KeyFollower(file, clock, Settings())
        file.revoke(row.id, NOW_MS)
        with monkeypatch.context() as patch:
            patch.setattr(KeysFile, "rows", raise_too_many_files)
            clock.now_s = 1.0
            assert follower.ring().find(text, NOW_MS) is not None
        assert "too many open files" in caplog.text
        clock.now_s = 2.0
        assert follower.ring().find(text, NOW_MS) is None

    def test_a_file_damaged_at_the_start_is_refused(self, file, clock):
        file.path.touch(0o600)
        file.path.write_text("not JSON")
        with pytest.raises(ConfigurationError, match="damaged"):
            KeyFollower(file, clock, Settings())


def raise_too_many_files(_: KeysFile) -> None:
    raise OSError("too many open files")
