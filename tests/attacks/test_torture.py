"""The random attacks, for a moment: the long form is `python -m tests.attacks --torture`."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.attacks.door import Door
from tests.attacks.torture import crowd, forge, garble, queries, texts, torture
from tests.attacks.wire import Wire, on_a_socket

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with Door() as opened:
        yield opened


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with on_a_socket(header_deadline_s=0.5, body_deadline_s=0.5) as served:
        yield served


def test_no_changed_credential_opens_the_door(door: Door) -> None:
    assert forge(door, random.Random(1), 3000) == 3000


def test_no_path_query_or_body_is_answered_as_a_defect(door: Door) -> None:
    assert queries(door, random.Random(5), 3000) == 3000


def test_what_is_taken_as_json_is_json_and_comes_back(door: Door) -> None:
    assert texts(door, random.Random(2), 1500) == 1500


def test_garbled_requests_get_an_answer_or_none_and_the_next_client_is_served(wire: Wire) -> None:
    assert garble(wire, random.Random(3), 300) == 300


def test_a_crowd_that_does_nothing_good_is_closed_and_the_healthy_are_served(wire: Wire) -> None:
    assert crowd(wire, random.Random(4), 150) == 150


def test_a_forgery_that_opens_is_noticed(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def yes(*_macs: bytes) -> bool:
        return True

    monkeypatch.setattr("stepflow.auth.api_key.hmac.compare_digest", yes)
    with pytest.raises(AssertionError):
        forge(door, random.Random(1), 300)


def test_the_long_form_counts_what_it_did_and_ends_in_time() -> None:
    said: list[str] = []
    counts = torture(1, 1, said.append)
    assert counts["attacks"] > 2500
    assert counts["cases"] >= 2
    assert counts["violations"] == 0
    assert said
