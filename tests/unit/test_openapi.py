"""The document: whole, valid, up to date, and readable by every YAML parser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import validate

from stepflow.web.app import ENDPOINTS
from stepflow.web.endpoints import openapi_yaml
from stepflow.web.openapi import document, main, to_yaml

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = json.loads(json.dumps(document()))


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]


def test_the_document_is_valid_openapi_3_1():
    assert DOCUMENT["openapi"].startswith("3.1")
    validate(DOCUMENT)


def test_the_committed_and_the_packaged_document_are_up_to_date():
    made = to_yaml(document())
    assert (ROOT / "openapi.yaml").read_bytes() == made, "run `make openapi`"
    assert openapi_yaml() == made, "run `make openapi`"


def test_the_yaml_reads_back_as_the_document():
    assert yaml.safe_load(to_yaml(document())) == DOCUMENT


def test_every_route_of_the_contract_is_in_it():
    described = {(method.upper(), path) for path, method, _ in operations()}
    served = {(kind.operation.method, kind.operation.path) for kind in ENDPOINTS}
    assert described == served - {("GET", "/"), ("GET", "/ui/{file}")}
    assert described >= {
        ("POST", "/trigger/{workflowId}"),
        ("GET", "/runs/{runId}"),
        ("GET", "/runs/{runId}/stream"),
        ("POST", "/notify/{eventId}"),
        ("GET", "/health"),
        ("GET", "/openapi.yaml"),
    }


def test_every_operation_has_a_name_of_its_own():
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in names)


def test_every_refusal_has_the_one_shape():
    for path, method, operation in operations():
        for status, response in operation["responses"].items():
            if status >= "400":
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}, (path, method, status)


def test_every_route_with_credentials_says_401_and_503():
    for _, _, operation in operations():
        if operation["security"]:
            assert {"401", "403", "503"} <= set(operation["responses"])


def test_every_reference_leads_somewhere():
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))
    assert names <= set(DOCUMENT["components"]["schemas"])


def test_every_json_body_has_an_example():
    for path, method, operation in operations():
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in contents:
            for media, part in content.get("content", {}).items():
                if media == "application/json":
                    assert "example" in part, (path, method)


def test_it_is_written_to_every_path_and_else_to_standard_output(tmp_path, capfdbinary):
    main([str(tmp_path / "a"), str(tmp_path / "b")])
    made = to_yaml(document())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == made
    main([])
    assert capfdbinary.readouterr().out == made


@pytest.mark.parametrize(
    "word",
    [
        *("no", "On", "yes", "null", "~", "y", "true", "1", "1e3", "0x1", "1_000", ".5", "=", "<<"),
        *("-", "", " ", "a ", "a: b", "a #b", "#", "@x", "`x`", "a\nb", "\u2028", "\ufeff", "'"),
        *("2024-01-15", "12:30:45", "!x", "&x", "*x", "? x", "- x", "%x", "{}", "[]", '"', ".inf"),
        *("\x7f", "\x85", "\x00", "a\\b", "é", "\U0001f600"),
    ],
)
def test_words_that_yaml_reads_otherwise_are_quoted(word):
    assert yaml.safe_load(to_yaml({"a": word, word: "a", "b": [word]})) == {
        "a": word,
        word: "a",
        "b": [word],
    }


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abcno:-# y1"), inner),
)


@given(JSON)
def test_any_json_value_reads_back_the_same(value):
    assert yaml.safe_load(to_yaml({"value": value})) == {"value": value}
