"""What a principal may do."""

from __future__ import annotations

import dataclasses

import pytest

from stepflow.auth.principal import (
    ALL_SCOPES,
    DEFAULT_SCOPES,
    READ_ONLY,
    Principal,
    known_scopes,
)

RUN = "run_0123456789ABCDEFabcdef"


def test_there_are_five_scopes_and_admin_is_given_only_by_name():
    assert sorted(ALL_SCOPES) == ["admin", "control", "notify", "read", "trigger"]
    assert sorted(ALL_SCOPES - DEFAULT_SCOPES) == ["admin"]


def test_no_scope_implies_another():
    for scope in ALL_SCOPES:
        principal = Principal("a", "key", frozenset({scope}))
        assert [each for each in ALL_SCOPES if principal.has(each)] == [scope]


def test_who_is_narrowed_to_nothing_reads_every_run():
    principal = Principal("a", "key", READ_ONLY)
    assert principal.reads_everything
    assert principal.may_read(RUN)


def test_without_the_scope_no_run_may_be_read():
    assert not Principal("a", "key", frozenset({"trigger"})).may_read(RUN)
    assert not Principal("a", "key", frozenset(), frozenset({RUN})).may_read(RUN)


def test_runs_and_tag_narrow_what_may_be_read():
    by_run = Principal("a", "token", READ_ONLY, frozenset({RUN}))
    assert by_run.may_read(RUN)
    assert not by_run.may_read(RUN + "x")
    by_tag = Principal("a", "token", READ_ONLY, tag="blue")
    assert by_tag.may_read(RUN, {"blue", "red"})
    assert not by_tag.may_read(RUN, {"red"})
    assert not by_run.reads_everything
    assert not by_tag.reads_everything


def test_equal_names_of_two_kinds_are_two_ids():
    assert Principal("a", "key", READ_ONLY).id != Principal("a", "jwt", READ_ONLY).id


def test_names_that_are_no_scopes_give_nothing():
    assert known_scopes(["read", "Read", "write", "", "*", "admin "]) == {"read"}


def test_a_principal_cannot_be_changed():
    principal = Principal("a", "key", READ_ONLY)
    with pytest.raises(dataclasses.FrozenInstanceError):
        principal.scopes = ALL_SCOPES  # type: ignore[misc]
