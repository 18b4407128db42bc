"""Secrets go by their names and by their looks; what is decoded from the rest stays what it was."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.errors import ExportedRunError
from stepflow.model.capsule import make_capsule, read_capsule
from stepflow.model.masking import Masking

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "Passwd",
        "api_key",
        "apiKey",
        "X-API-Key",
        "accessToken",
        "client-secret",
        "pin",
        "Authorization",
        "set-cookie",
        "PRIVATE_KEY",
        "cvc",
        "credentials",
        "db_password_2",
    ],
)
def test_a_secret_goes_by_its_name(name) -> None:
    masking = Masking()
    assert masking.value({name: "x", "deep": [{name: 7}]}) == {name: "***", "deep": [{name: 0}]}
    assert masking.count == 2


@pytest.mark.parametrize("name", ["pinned", "author", "id", "email", "key", "tax", "otpimal"])
def test_other_names_stay(name) -> None:
    masking = Masking()
    assert masking.value({name: "x"}) == {name: "x"}
    assert masking.count == 0


def test_further_names_are_secret_as_a_whole() -> None:
    masking = Masking(["IBAN", "", " date of birth "])
    assert masking.value({"iban": "DE1", "DateOfBirth": 1.5, "iban2": "x"}) == {
        "iban": "***",
        "DateOfBirth": 0.0,
        "iban2": "x",
    }


def test_what_a_model_has_counted_stays() -> None:
    usage = {"maxTokens": 100, "usage": {"tokens": {"in": 3}}, "tokens": ["abc"], "token": 4}
    assert Masking().value(usage) == {**usage, "tokens": ["***"], "token": 0}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("login failed: password=hunter2, user=ada", "login failed: password=***, user=ada"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ('{"api_key": "abc", "n": 1}', '{"api_key": ***, "n": 1}'),
        ("GET /runs?token=abc&x=1", "GET /runs?token=***&x=1"),
        ("the token is spent", "the token is spent"),
    ],
)
def test_a_secret_in_a_text_goes_by_its_looks(text, masked) -> None:
    masking = Masking()
    assert masking.value([text]) == [masked]
    assert masking.count == (text != masked)


@given(JSON)
def test_the_shape_stays_and_masking_twice_is_masking_once(value) -> None:
    once = Masking().value({"password": value, "plain": value})
    assert shape(once) == shape({"password": value, "plain": value})
    again = Masking()
    assert again.value(once) == once
    assert again.count == 0


def shape(value):
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value)


def line(*records: dict) -> bytes:
    return msgspec.json.encode({"k": "run", "id": "run_00000000", "lsn": 1, "records": records})


def test_a_line_without_records_makes_a_file_that_can_be_read() -> None:
    capsule = read_capsule(make_capsule(line()))
    assert (capsule.workflow, capsule.records, capsule.masked) == ("", (), 0)


def test_what_a_later_version_adds_is_left_alone() -> None:
    data = make_capsule(line({"t": "run.new-kind", "lsn": 1, "rs": 1, "r": "run_00000000"}))
    head, _, body = data.partition(b"\n")
    extended = head[:-1] + b',"more":[1]}\n' + body
    capsule = read_capsule(extended)
    assert capsule.state().rs == 1


def test_a_file_that_is_not_text_is_refused() -> None:
    with pytest.raises(ExportedRunError):
        read_capsule(b"\x00" * 40)
