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


def test_a_secret_uuid_stays_a_uuid_that_can_be_decoded() -> None:
    masking = Masking(["session"])
    value = {"session": "123e4567-e89b-12d3-a456-426614174000"}
    assert masking.value(value) == {"session": "00000000-0000-0000-0000-000000000000"}
    assert masking.count == 1


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


def test_a_file_of_another_version_or_that_was_changed_is_refused() -> None:
    data = make_capsule(line({"t": "run.new-kind", "lsn": 1, "rs": 1, "r": "run_00000000"}))
    newer = data.replace(b'"version":1', b'"version":99', 1)
    assert newer != data
    with pytest.raises(ExportedRunError, match="exported as version 99, known is 1"):
        read_capsule(newer)
    with pytest.raises(ExportedRunError, match="its checksum is another"):
        read_capsule(data.replace(b"run.new-kind", b"run.old-kind"))


def test_where_something_was_masked_the_arguments_marks_are_gone() -> None:
    started = {"t": "step.started", "lsn": 2, "rs": 2, "r": "run_00000000", "args": "abc"}
    for name, args in (("password", ""), ("plain", "abc")):
        first = {"t": "run.started", "lsn": 1, "rs": 1, "r": "run_00000000", "input": {name: "x"}}
        _, _, body = make_capsule(line(first, started)).partition(b"\n")
        assert msgspec.json.decode(body.splitlines()[1])["args"] == args
