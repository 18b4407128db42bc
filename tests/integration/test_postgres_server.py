"""The PostgreSQL that tests have: their own, on loopback, killed and started again without loss."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools import processes
from tools.postgres import Postgres

pytestmark = [pytest.mark.tool("postgres"), pytest.mark.xdist_group("postgres")]


def test_it_runs_as_no_root_on_loopback_in_a_directory_of_its_own(postgres):
    assert postgres.query("show data_directory") == str(postgres.directory / "data")
    assert postgres.query("show listen_addresses") == "127.0.0.1"
    assert postgres.query("show unix_socket_directories") == ""
    # What it acknowledges is on disk: nothing is made faster for the tests.
    assert postgres.query("show fsync") == postgres.query("show synchronous_commit") == "on"
    if os.geteuid() == 0:
        assert Path(f"/proc/{postgres.pid}").stat().st_uid != 0


def test_each_test_has_a_database_of_its_own(postgres, database):
    name = database.rpartition("/")[2]
    postgres.query("create table t (n int)", name)
    assert postgres.query("select count(*) from t", name) == "0"
    with pytest.raises(RuntimeError, match="does not exist"):
        postgres.query("select count(*) from t")


def test_what_was_committed_is_there_after_kill_9(postgres, database):
    name = database.rpartition("/")[2]
    postgres.query("create table t (n int)", name)
    for number in range(3):
        postgres.query("insert into t values (0)", name)
        port, pid = postgres.port, postgres.pid
        below = processes.below(pid)
        postgres.kill()
        assert not postgres.alive
        assert not {each.pid for each in processes.below(1)} & {each.pid for each in below}
        postgres.start()
        assert (postgres.port, postgres.alive) == (port, True)
        assert postgres.pid != pid
        assert postgres.query("select count(*) from t", name) == str(number + 1)


def test_two_stand_side_by_side_and_leave_nothing(postgres):
    with Postgres() as other:
        assert other.port != postgres.port
        other.query("create table t (n int)")
        directory = other.directory
        assert directory.exists()
    assert not other.alive
    assert not directory.exists()


def test_a_directory_that_was_given_is_kept(tmp_path_factory):
    with Postgres() as first:
        place = first.directory.with_name(first.directory.name + "-kept")
    server = Postgres(place)
    server.start()
    server.query("create table t (n int)")
    server.close()
    again = Postgres(place)
    again.start()
    try:
        assert again.query("select count(*) from t") == "0"
    finally:
        again.close()
        assert place.exists()
        again._kept = False
        again.close()
