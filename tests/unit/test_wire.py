"""The client's pure core: what is sent, what an answer means, how a stream goes on."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.client import sse, wire
from stepflow.client.sse import ServerSentEvent, SseParser
from stepflow.client.watch import PAUSE_S_MAX, Watch
from stepflow.client.wire import (
    Attempts,
    Credentials,
    Got,
    Lost,
    Pause,
    Request,
    Response,
    RetryRule,
)
from stepflow.errors import (
    ApiError,
    ConfigurationError,
    ConflictError,
    InternalError,
    InvalidInputError,
    NotFoundError,
    OutcomeUnknownError,
    RateLimitedError,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    UnauthorizedError,
    UnavailableError,
    api_error,
)
from stepflow.model.views import RunView
from stepflow.web.event_stream import COME_BACK

RUN = "run_4fXo2bKq9TzW1mYc7RdE5h"
RULE = RetryRule()
REFUSED = Lost("connection refused", sent=False)
CUT = Lost("the server hung up", sent=True)


def events_of(*chunks: bytes) -> list[ServerSentEvent]:
    parser = SseParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def answer(status: int, body: Any = None, **headers: str) -> Response:
    return Response(status, headers, b"" if body is None else msgspec.json.encode(body))


def problem(code: str, message: str = "no", **headers: str) -> Response:
    return answer(api_error(code).status, {"error": message, "code": code}, **headers)


def run_json(status: str = "running", **more: Any) -> dict[str, Any]:
    times = {"createdAt": "2024-01-15T10:30:00.000Z", "updatedAt": "2024-01-15T10:30:00.000Z"}
    return {"id": RUN, "workflowId": "w", "status": status, "input": None, **times, **more}


# ---------------------------------------------------------------- server-sent events

STREAM = (
    b"\xef\xbb\xbfretry: 1000\n\n"
    b": a comment\n"
    b"id: 1\r\nevent: status\r\ndata: {}\r\n\r\n"
    b"id: 2\revent: step\rdata: one\rdata:two\rdata:  three\r\r"
    b"data: no event name, no id\n\n"
    b"data\n\n"
    b"id: 7\n\n"
    b"data: gr\xc3\xbc\xc3\x9fe \xe2\x98\x83\n\n"
)
PARSED = [
    ServerSentEvent("status", "{}", "1"),
    ServerSentEvent("step", "one\ntwo\n three", "2"),
    ServerSentEvent("message", "no event name, no id"),
    ServerSentEvent("message", ""),
    ServerSentEvent("message", "grüße ☃"),
]


def test_a_stream_is_read_by_the_rules_of_html() -> None:
    parser = SseParser()
    assert parser.feed(STREAM) == PARSED
    assert parser.retry_ms == 1000
    assert parser.last_event_id == "7"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_it_does_not_matter_where_the_bytes_are_cut(size) -> None:
    chunks = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert events_of(*chunks) == PARSED


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_no_cut_changes_what_is_read(cuts) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:stop] for start, stop in pairwise(edges)]
    assert events_of(*chunks) == PARSED


@given(st.lists(st.sampled_from([b"data: x", b"id: 1", b":c", b"\n", b"\r\n", b"\r"])))
def test_every_kind_of_line_end_means_the_same(pieces) -> None:
    text = b"".join(pieces)
    assert events_of(text) == events_of(text.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))


@given(st.binary(max_size=400))
def test_no_bytes_make_the_parser_fail(data) -> None:
    whole = events_of(data)
    assert events_of(*(bytes([byte]) for byte in data)) == whole


def test_an_event_does_not_wait_for_the_line_feed_after_its_last_carriage_return() -> None:
    parser = SseParser()
    assert parser.feed(b"data: now\r\n\r") == [ServerSentEvent("message", "now")]
    assert parser.feed(b"\ndata: next\n\n") == [ServerSentEvent("message", "next")]


@pytest.mark.parametrize(
    ("sent", "event"),
    [
        (b"id: a\0b\ndata: x\n\n", ServerSentEvent("message", "x")),
        (b"id\ndata: x\n\n", ServerSentEvent("message", "x", "")),
        (b"retry: 1s\ndata: x\n\n", ServerSentEvent("message", "x")),
        (b"nonsense: y\ndata: x\n\n", ServerSentEvent("message", "x")),
        (b"event: a\nevent: b\ndata: x\n\n", ServerSentEvent("b", "x")),
        (b"data: \xff\n\n", ServerSentEvent("message", "\ufffd")),
        (b"data:\xef\xbb\xbfx\n\n", ServerSentEvent("message", "\ufeffx")),
    ],
)
def test_odd_lines_are_read_as_html_says(sent, event) -> None:
    assert events_of(sent) == [event]


@pytest.mark.parametrize("sent", [b"event: step\n\n", b"data: cut\n", b": comment\n\n", b"\n\n"])
def test_what_has_no_data_or_no_end_is_no_event(sent) -> None:
    assert events_of(sent) == []


def test_an_id_holds_until_another_one_comes_and_an_empty_one_clears_it() -> None:
    parser = SseParser("5")
    parser.feed(b"data: x\n\n")
    assert parser.last_event_id == "5"
    parser.feed(b"id\ndata: x\n\n")
    assert parser.last_event_id == ""


def test_an_event_beyond_the_limit_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(sse, "EVENT_BYTES_MAX", 100)
    with pytest.raises(InternalError, match="more than 100 bytes"):
        events_of(b"data: " + b"x" * 60, b"x" * 60)
    with pytest.raises(InternalError):
        events_of(b"data: 0123456789\n" * 11)
    assert len(events_of(b"data: 0123456789\n\n" * 50)) == 50


# ---------------------------------------------------------------- requests


def test_a_trigger_is_a_post_with_its_key_and_its_input() -> None:
    request = wire.trigger("welcome-user", {"userId": "u"}, "key-1").request
    assert (request.method, request.path) == ("POST", "/trigger/welcome-user")
    assert dict(request.headers)["Idempotency-Key"] == "key-1"
    assert request.body == b'{"userId":"u"}'


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ("paid-1", "/notify/paid-1"),
        ("a/b?c#d e", "/notify/a%2Fb%3Fc%23d%20e"),
        ("..", "/notify/%2E%2E"),
        ("grün", "/notify/gr%C3%BCn"),
    ],
)
def test_whatever_is_in_an_id_stays_in_its_place_of_the_path(event, path) -> None:
    assert wire.notify(event, None, None).request.path == path


def test_the_filters_of_a_list_are_its_query() -> None:
    after = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
    call = wire.list_runs(status=["running", "failed"], tag="vip", created_after=after, limit=7)
    assert call.request.params == (
        ("status", "running"),
        ("status", "failed"),
        ("tag", "vip"),
        ("createdAfter", "2024-01-15T10:30:00.000Z"),
        ("limit", "7"),
    )
    assert wire.list_runs(status="failed").request.params == (("status", "failed"),)


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no time zone"):
        wire.list_runs(created_after=datetime(2024, 1, 15))  # noqa: DTZ001  the mistake


@pytest.mark.parametrize(
    ("ttl", "body"),
    [(None, b"{}"), ("2h", b'{"ttl":"2h"}'), (timedelta(hours=2), b'{"ttl":"2h"}')],
)
def test_a_tokens_life_is_any_duration(ttl, body) -> None:
    assert wire.token(RUN, ttl).request.body == body


def test_credentials_are_one_kind() -> None:
    assert Credentials(api_key="k").headers == (("X-API-Key", "k"),)
    assert Credentials(jwt="j").headers == (("Authorization", "Bearer j"),)
    assert Credentials(token="pat_x").params == (("token", "pat_x"),)
    assert Credentials().headers == ()
    with pytest.raises(ConfigurationError, match="api_key, jwt"):
        Credentials(api_key="k", jwt="j")
    assert "secret" not in repr(Credentials(api_key="secret"))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "http://x/?token=1", ""])
def test_what_is_no_url_is_refused_at_once(url) -> None:
    with pytest.raises(ConfigurationError, match="not the URL"):
        wire.base_url(url)


# ---------------------------------------------------------------- answers


def value_of(call: wire.Call[Any], outcome: Response | Lost) -> Any:
    got = Attempts(call, RULE).after(outcome, 0.0)
    assert isinstance(got, Got)
    return got.value


def test_answers_become_typed_views() -> None:
    run = value_of(wire.get_run(RUN), answer(200, run_json(result={"a": 1}, future="?")))
    assert isinstance(run, RunView)
    assert bytes(run.result) == b'{"a":1}'
    page = {"runs": [run_json()], "nextCursor": "n", "streamCursor": "1-42"}
    assert value_of(wire.list_runs(), answer(200, page)).next_cursor == "n"
    grant = {"publicAccessToken": "pat_x", "expiresAt": "2024-01-15T12:30:00.000Z"}
    assert value_of(wire.token(RUN, None), answer(200, grant)).public_access_token == "pat_x"
    waiting = {"events": [{"eventId": "e", "runs": 1, "runIds": [RUN]}]}
    assert value_of(wire.events(), answer(200, waiting))[0].run_ids == (RUN,)


def test_a_batch_is_a_run_or_an_error_each() -> None:
    rows = [
        {"runId": RUN, "publicAccessToken": "pat_x"},
        {"error": "input.userId: Expected `str`", "code": "INVALID_INPUT"},
    ]
    first, second = value_of(wire.trigger_many("w", [1, 2]), answer(200, rows))
    assert first == wire.TriggeredRun(RUN, "pat_x")
    assert isinstance(second, InvalidInputError)
    assert "userId" in str(second)


@pytest.mark.parametrize(
    "code",
    [
        "WORKFLOW_NOT_FOUND",
        "RUN_NOT_FOUND",
        "EVENT_NOT_FOUND",
        "NOT_FOUND",
        "METHOD_NOT_ALLOWED",
        "UNAUTHORIZED",
        "FORBIDDEN",
        "INVALID_INPUT",
        "CONFLICT",
        "PAYLOAD_TOO_LARGE",
        "RATE_LIMITED",
        "UNAVAILABLE",
        "OUTCOME_UNKNOWN",
        "INTERNAL",
    ],
)
def test_each_code_raises_the_class_that_the_engine_raises(code) -> None:
    error = wire.refusal(Request("GET", "/x"), problem(code, "because", **{"retry-after": "7"}))
    assert type(error) is type(api_error(code))
    assert error.message == "because"
    assert error.retry_after_s == 7


@pytest.mark.parametrize(
    ("method", "status", "kind"),
    [
        ("GET", 404, NotFoundError),
        ("GET", 502, UnavailableError),
        ("POST", 502, OutcomeUnknownError),
        ("POST", 504, OutcomeUnknownError),
        ("POST", 503, UnavailableError),
        ("GET", 401, UnauthorizedError),
        ("GET", 429, RateLimitedError),
        ("GET", 418, InternalError),
        ("GET", 302, InternalError),
    ],
)
def test_an_answer_that_is_not_stepflows_is_read_by_its_status(method, status, kind) -> None:
    page = Response(status, {}, b"<html>nginx</html>")
    error = wire.refusal(Request(method, "/runs"), page)
    assert type(error) is kind
    assert f"{method} /runs" in error.message


def test_an_answer_of_another_service_says_so() -> None:
    with pytest.raises(InternalError, match="is this the URL of a Stepflow API"):
        value_of(wire.get_run(RUN), answer(200, {"hello": "world"}))
    with pytest.raises(InternalError):
        value_of(wire.get_run(RUN), Response(200, {}, b"<html>"))
    with pytest.raises(InternalError):
        value_of(wire.metrics(), Response(200, {}, b"\xff"))


# ---------------------------------------------------------------- sending again

TRIGGER = wire.trigger("w", None, "key")
NOTIFY = wire.notify("e", None, None)
GET = wire.get_run(RUN)


@pytest.mark.parametrize(
    ("call", "outcome", "again"),
    [
        (TRIGGER, REFUSED, True),
        (TRIGGER, CUT, True),
        (TRIGGER, problem("OUTCOME_UNKNOWN"), True),
        (TRIGGER, problem("UNAVAILABLE"), True),
        (TRIGGER, Response(502, {}, b""), True),
        (TRIGGER, problem("CONFLICT"), False),
        (TRIGGER, problem("INTERNAL"), False),
        (NOTIFY, REFUSED, True),
        (NOTIFY, problem("UNAVAILABLE"), True),
        (NOTIFY, CUT, False),
        (NOTIFY, problem("OUTCOME_UNKNOWN"), False),
        (NOTIFY, Response(502, {}, b""), False),
        (GET, CUT, True),
        (GET, Response(504, {}, b""), True),
        (GET, problem("RUN_NOT_FOUND"), False),
        (GET, problem("RATE_LIMITED"), False),
        (wire.cancel(RUN), CUT, False),
        (wire.resume(RUN), CUT, False),
        (wire.purge(RUN), CUT, False),
        (wire.trigger_many("w", [1]), CUT, False),
        (wire.health(), REFUSED, False),
        (wire.ready(), problem("UNAVAILABLE"), False),
    ],
)
def test_only_what_does_no_harm_twice_is_sent_twice(call, outcome, again) -> None:
    attempts = Attempts(call, RULE)
    if again:
        assert isinstance(attempts.after(outcome, 0.5), Pause)
    else:
        with pytest.raises(ApiError):
            attempts.after(outcome, 0.5)


def test_attempts_end_and_the_last_outcome_is_raised() -> None:
    attempts = Attempts(TRIGGER, RetryRule(tries=3))
    assert isinstance(attempts.after(REFUSED, 0.0), Pause)
    assert isinstance(attempts.after(CUT, 0.0), Pause)
    with pytest.raises(UnavailableError, match="draining"):
        attempts.after(problem("UNAVAILABLE", "draining"), 0.0)


def test_a_later_attempt_that_is_answered_gives_its_value() -> None:
    attempts = Attempts(TRIGGER, RULE)
    attempts.after(CUT, 0.0)
    got = attempts.after(answer(200, {"runId": RUN, "publicAccessToken": "pat_x"}), 0.0)
    assert got == Got(wire.TriggeredRun(RUN, "pat_x"))


def test_pauses_double_with_jitter_up_to_a_bound() -> None:
    rule = RetryRule(initial_s=1.0, max_s=5.0)
    assert [rule.delay_s(n, 1.0) for n in (1, 2, 3, 4, 500)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert rule.delay_s(1, 0.0) == 0.5


def test_the_servers_wish_for_a_later_attempt_is_kept_or_told() -> None:
    busy = problem("UNAVAILABLE", **{"retry-after": "3"})
    assert Attempts(GET, RULE).after(busy, 0.0) == Pause(3)
    with pytest.raises(UnavailableError) as refused:
        Attempts(GET, RULE).after(problem("UNAVAILABLE", **{"retry-after": "60"}), 0.0)
    assert refused.value.retry_after_s == 60


# ---------------------------------------------------------------- following a stream


def frame(id: int, event: str, data: str = "{}") -> bytes:
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (id, event.encode(), data.encode())


def opened(after: int | None = None, tries_max: int | None = None) -> Watch:
    watch = Watch(RUN, after, RULE, tries_max)
    assert watch.opened(200)
    return watch


def last_id_sent(watch: Watch) -> str | None:
    return dict(watch.request().headers).get("Last-Event-ID")


def test_a_stream_begins_where_it_is_asked_to() -> None:
    assert last_id_sent(Watch(RUN, None, RULE)) is None
    assert last_id_sent(Watch(RUN, 12, RULE)) == "12"


def test_a_broken_stream_goes_on_after_its_last_event() -> None:
    watch = opened()
    assert [event.id for event in watch.feed(frame(1, "status") + frame(3, "step"))] == [1, 3]
    watch.feed(b"id: 4\nevent: step\ndata: {")
    assert watch.closed(CUT, 0.0) is not None
    assert last_id_sent(watch) == "3"
    assert watch.opened(200)
    assert [event.id for event in watch.feed(frame(4, "step"))] == [4]


def test_an_event_without_an_id_moves_nothing() -> None:
    watch = opened()
    watch.feed(frame(5, "status"))
    event = watch.feed(b'event: emit\ndata: {"name":"a","data":1}\n\n')[0]
    assert (event.id, event.event, event.json()) == (0, "emit", {"name": "a", "data": 1})
    assert last_id_sent(watch) == "5"


@pytest.mark.parametrize("end", ["complete", "error"])
def test_the_runs_end_is_the_streams_end(end) -> None:
    watch = opened()
    events = watch.feed(frame(1, "status") + frame(2, end) + frame(3, "status"))
    assert [event.event for event in events] == ["status", end]
    assert watch.over
    assert watch.closed(None, 0.0) is None


def test_204_says_that_nothing_is_left() -> None:
    watch = Watch(RUN, 9, RULE)
    assert not watch.opened(204)
    assert watch.closed(Response(204, {}, b""), 0.0) is None
    assert watch.over


def test_a_stream_that_ends_before_the_run_is_opened_again() -> None:
    watch = opened()
    assert watch.closed(None, 1.0) == 1.0
    watch.opened(200)
    watch.feed(b"retry: 50\n\n")
    assert watch.closed(None, 1.0) == 0.1, "the server's retry, doubled for the second failure"


def test_a_server_that_says_it_is_starting_is_asked_again_after_the_same_pause_each_time() -> None:
    watch = opened(tries_max=6)
    assert watch.closed(CUT, 1.0) == 1.0
    for _ in range(3):
        watch.opened(200)
        watch.feed(COME_BACK.body)
        assert watch.closed(None, 1.0) == 1.0
    # One that is gone again is not: and tries are counted all the while.
    assert watch.closed(CUT, 1.0) == 16.0
    with pytest.raises(UnavailableError):
        watch.closed(CUT, 1.0)


def test_an_event_sets_the_pauses_back_and_nothing_makes_them_longer_than_the_bound() -> None:
    watch = opened()
    pauses = [watch.closed(CUT, 1.0) for _ in range(12)]
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert max(pauses) == PAUSE_S_MAX
    watch.opened(200)
    watch.feed(frame(1, "status"))
    assert watch.closed(CUT, 1.0) == 1.0


def test_a_stream_that_was_open_is_followed_for_ever_unless_bounded() -> None:
    watch = opened()
    assert all(watch.closed(REFUSED, 0.0) for _ in range(1000))
    bounded = opened(tries_max=3)
    assert bounded.closed(REFUSED, 0.0)
    assert bounded.closed(REFUSED, 0.0)
    with pytest.raises(UnavailableError, match="refused"):
        bounded.closed(REFUSED, 0.0)


def test_a_stream_that_never_opened_is_given_up_like_any_request() -> None:
    watch = Watch(RUN, None, RetryRule(tries=2))
    assert watch.closed(REFUSED, 0.0)
    with pytest.raises(UnavailableError):
        watch.closed(REFUSED, 0.0)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RATE_LIMITED"])
def test_a_server_that_starts_is_asked_again_when_it_says(code) -> None:
    watch = opened()
    assert watch.closed(problem(code, **{"retry-after": "8"}), 0.0) == 8


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (problem("RUN_NOT_FOUND"), RunNotFoundError),
        (problem("UNAUTHORIZED"), UnauthorizedError),
        (answer(302), InternalError),
        (Response(404, {}, b"<html>"), NotFoundError),
    ],
)
def test_an_answer_that_is_final_is_raised(outcome, kind) -> None:
    watch = opened()
    assert not watch.opened(outcome.status)
    with pytest.raises(kind):
        watch.closed(outcome, 0.0)


def test_a_resync_brings_the_run_and_goes_on() -> None:
    watch = opened(after=99)
    data = msgspec.json.encode(run_json()).decode()
    event = watch.feed(f"event: resync\ndata: {data}\n\n".encode())[0]
    assert (event.event, event.json()["status"]) == ("resync", "running")
    assert watch.feed(frame(4, "step"))[0].id == 4
    watch.closed(CUT, 0.0)
    assert last_id_sent(watch) == "4", "lower than the id that was foreign"


def test_a_resync_of_an_ended_run_ends_with_its_connection() -> None:
    watch = opened(after=99)
    data = msgspec.json.encode(run_json("completed")).decode()
    watch.feed(f"event: resync\ndata: {data}\n\n".encode())
    assert watch.closed(None, 0.0) is None
    assert watch.over


def test_an_expired_credential_is_raised_after_the_events_before_it() -> None:
    watch = opened()
    events = watch.feed(frame(6, "step") + b"event: expired\ndata: {}\n\n")
    assert [event.id for event in events] == [6]
    with pytest.raises(UnauthorizedError, match="after event 6"):
        watch.closed(None, 0.0)


def test_events_of_a_later_server_and_ids_of_another_engine_do_no_harm() -> None:
    watch = opened()
    sent = b"event: brand-new\ndata: {}\n\nid: 0a-7\nevent: step\ndata: {}\n\n"
    assert [(event.id, event.event) for event in watch.feed(sent)] == [(0, "step")]
    assert last_id_sent(watch) == "0a-7"


# ---------------------------------------------------------------- a run's end, and what is missing


def test_a_runs_end_is_its_result_or_its_error() -> None:
    def result(status: str, **run: Any) -> Any:
        return wire.result_of(value_of(GET, answer(200, run_json(status, **run))))

    assert result("completed", result=[1]) == [1]
    assert result("completed") is None
    error = {"type": "ValueError", "message": "no", "step": "charge", "attempts": 4}
    with pytest.raises(RunFailedError) as failed:
        result("failed", error=error)
    assert (failed.value.step, failed.value.attempts) == ("charge", 4)
    with pytest.raises(RunCancelledError):
        result("cancelled")


def test_a_conflict_is_no_reason_to_ask_again() -> None:
    with pytest.raises(ConflictError):
        Attempts(TRIGGER, RULE).after(problem("CONFLICT"), 0.0)


def test_without_httpx_the_client_names_what_to_install() -> None:
    code = "import sys; sys.modules['httpx'] = None\nimport stepflow.client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "stepflow[client]"' in done.stderr
