"""Bodies: any JSON value within the limits comes back as it was sent; all else is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from stepflow.testing.conformance.claims.base import Claims
from stepflow.testing.conformance.claims.http.shapes import expect, expect_problem
from stepflow.testing.conformance.reading import fresh

if TYPE_CHECKING:
    from stepflow.testing.conformance.door import Door

__all__ = ["BodyClaims"]

_MIB: Final = 1024 * 1024
_ECHO: Final = "/trigger/conformance-echo"


class BodyClaims(Claims):
    """The claims."""

    @pytest.mark.parametrize(
        "text",
        [
            *("null", "true", "0", "-1.5e3", '""', '"\\u2603 \\ud83d\\ude00"', "[]", "{}"),
            *('{"a":{"b":[null,{"c":""}]}}', "18446744073709551615", "-9223372036854775808"),
            # A key of text that a database might not take: a NUL, a lone backslash.
            *('"\\u0000"', '{"\\u0000":"\\\\"}', "[" * 64 + "]" * 64),
        ],
    )
    async def test_any_json_value_comes_back_as_it_was_sent(self, door: Door, text: str) -> None:
        answer = await door.ask(
            "POST", _ECHO, content=text.encode(), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 200, answer.text
        run = await door.ended(answer.json()["runId"])
        assert run["input"] == run["result"] == json.loads(text)

    async def test_an_empty_body_is_null(self, door: Door) -> None:
        answer = await door.ask("POST", _ECHO)
        run = await door.ended(answer.json()["runId"])
        assert (run["status"], run["input"], run["result"]) == ("completed", None, None)

    async def test_an_event_may_have_any_payload(self, door: Door) -> None:
        payloads: list[Any] = [None, False, "\x00", ["☃"], {"a": {"b": 1.5}}]
        for payload in payloads:
            order = fresh()
            run_id, _ = await door.trigger("conformance-keep", {"id": order, "count": 1})
            expect(await door.post(f"/notify/kept-{order}", payload), 200, '{"success":true}')
            await door.post(f"/notify/go-{order}?runId={run_id}")
            assert (await door.ended(run_id))["result"] == [payload]

    @pytest.mark.parametrize(
        "text",
        [
            *("{", "nul", "[1,]", '{"a":1', "'x'", "NaN", "[1] [2]", "\ufeff{}"),
            "18446744073709551616",
            pytest.param("[" * 65 + "]" * 65, id="65 deep"),
            pytest.param("[" * 100_000, id="100,000 deep"),
            pytest.param("1" + "0" * 400, id="a large integer"),
        ],
    )
    @pytest.mark.parametrize("path", [_ECHO, "/notify/answer"])
    async def test_what_is_not_such_json_is_400(self, door: Door, path: str, text: str) -> None:
        headers = {"Content-Type": "application/json"}
        if path == "/notify/answer":
            order = fresh()
            await door.trigger("conformance-keep", {"id": order, "count": 1})
            path = f"/notify/kept-{order}"
        answer = await door.ask("POST", path, content=text.encode(), headers=headers)
        expect_problem(answer, 400, "INVALID_INPUT")

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
    async def test_a_content_type_that_is_not_json_is_400(self, door: Door, kind: str) -> None:
        answer = await door.ask("POST", _ECHO, content=b"{}", headers={"Content-Type": kind})
        expect_problem(answer, 400, "INVALID_INPUT")

    @pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/a+json"])
    async def test_a_json_type_may_have_parameters_and_a_suffix(
        self, door: Door, kind: str
    ) -> None:
        answer = await door.ask("POST", _ECHO, content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 200

    async def test_a_mebibyte_is_taken_and_a_byte_more_is_413(self, door: Door) -> None:
        whole = b'"%b"' % (b"x" * (_MIB - 2))
        headers = {"Content-Type": "application/json"}
        answer = await door.ask("POST", _ECHO, content=whole, headers=headers)
        assert answer.status_code == 200
        run = await door.ended(answer.json()["runId"])
        assert len(run["result"]) == _MIB - 2
        refused = await door.ask("POST", _ECHO, content=whole + b" ", headers=headers)
        expect_problem(refused, 413, "PAYLOAD_TOO_LARGE")

    async def test_a_batch_answers_each_in_order(self, door: Door) -> None:
        inputs = [{"id": "a", "count": 2}, {"id": "b"}, {"id": "c", "count": 1}]
        answer = await door.post("/trigger/conformance-count/batch", inputs)
        expect(
            answer,
            200,
            '[{"runId":"RUN","publicAccessToken":"TOKEN"},'
            '{"error":"count: a required field is missing","code":"INVALID_INPUT"},'
            '{"runId":"RUN","publicAccessToken":"TOKEN"}]',
        )
        first, _, third = answer.json()
        assert (await door.ended(first["runId"]))["result"] == 2
        assert (await door.ended(third["runId"]))["result"] == 1

    async def test_a_batch_is_a_list_of_at_most_a_thousand(self, door: Door) -> None:
        refused = await door.post("/trigger/conformance-echo/batch", {"not": "a list"})
        expect_problem(refused, 400, "INVALID_INPUT")
        answer = await door.post("/trigger/conformance-echo/batch", [None] * 1001)
        assert answer.status_code in {400, 413}, answer.text
        assert (await door.post("/trigger/conformance-echo/batch", [])).json() == []
        expect_problem(await door.post("/trigger/no/batch", [1]), 404, "WORKFLOW_NOT_FOUND")
