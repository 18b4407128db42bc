"""Floods of every kind: refused with 503, 413 or 429, never the end of the process or its memory.

One server with small bounds and 2 GiB of address space meets all of them, one after the other.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.plenty.server import MIB, Served, request, until

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

APP = "tests/plenty/flood_app.py"
LIVE, FINISHED, BODIES, ANSWERS = 48 * MIB, 16 * MIB, 16 * MIB, 16 * MIB
RUN, PAGE = 4 * MIB, 4 * MIB
BOUNDS = {
    "STEPFLOW_LIVE_BYTES_MAX": LIVE,
    "STEPFLOW_FINISHED_BYTES_MAX": FINISHED,
    "STEPFLOW_BODIES_BYTES_MAX": BODIES,
    "STEPFLOW_ANSWERS_BYTES_MAX": ANSWERS,
    "STEPFLOW_RUN_BYTES_MAX": RUN,
    "STEPFLOW_PAGE_BYTES_MAX": PAGE,
    "STEPFLOW_KEPT_EVENTS_MAX": 50,
    "STEPFLOW_STREAM_BLOCKED_S": 3,
    "STEPFLOW_STREAM_COMMENT_S": 1,
    "STEPFLOW_CANCEL_GRACE_S": 1,
}

pytestmark = [pytest.mark.xdist_group("flood"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    env = {name: str(value) for name, value in BOUNDS.items()}
    place = tmp_path_factory.mktemp("flood")
    with Served(place, APP, env=env, address_space=2048 * MIB) as server:
        yield server.ready()
        assert server.alive, server.said


@pytest.fixture
def server(one_server: Served) -> Iterator[Served]:
    """The server, with nothing left over from the flood before."""
    yield one_server
    assert one_server.status("/ready") == 200, one_server.said
    until(lambda: not cancelled(one_server), lambda: one_server.said)


def cancelled(server: Served) -> int:
    """Cancel a page of the runs that live; return how many were on it."""
    page = server.get("/runs?status=running&limit=200")["runs"]
    for run in page:
        server.post(f"/runs/{run['id']}/cancel")
    return len(page)


def text_of(nbytes: int) -> bytes:
    """Return a JSON string of exactly so many bytes."""
    return b'"%b"' % (b"x" * (nbytes - 2))


def post(server: Served, path: str, body: bytes) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    answer = server.client.post(f"{server.url}{path}", content=body, headers=headers)
    return answer.status_code, answer.json()


def ended(server: Served, run_id: str) -> Any:
    """Return the run once it has ended."""
    return until(
        lambda: (found := server.get(f"/runs/{run_id}"))["status"] != "running" and found,
        lambda: server.said,
    )


# ---------------------------------------------------------------- triggers, events, results


def test_runs_that_live_hold_no_more_than_their_bound(server: Served) -> None:
    large = {"id": 1, "text": "x" * (MIB - 100)}
    taken: list[str] = []
    refused = 0
    with server.grows_at_most(8 * LIVE):
        while refused < 10:
            answer = server.post("/trigger/waits", large)
            if answer.status_code == 200:
                taken.append(answer.json()["runId"])
                continue
            refused += 1
            assert answer.status_code == 503
            assert answer.json()["code"] == "UNAVAILABLE"
            assert "Retry-After" in answer.headers
        assert LIVE * 0.9 <= len(taken) * MIB <= LIVE
        assert server.metric("stepflow_runs_live_bytes") <= LIVE
        batch = server.post("/trigger/waits/batch", [large, large]).status_code
        assert batch == 503
    # Nothing that was acknowledged is lost, and when it has ended there is room again.
    before = server.metric("stepflow_runs_completed_total")
    assert server.metric("stepflow_runs_live") == len(taken)
    assert server.post("/notify/over").status_code == 200
    until(lambda: server.metric("stepflow_runs_live") == 0)
    assert server.metric("stepflow_runs_completed_total") - before == len(taken)
    assert server.metric("stepflow_runs_live_bytes") == 0
    assert server.post("/trigger/waits", large).status_code == 200


def test_a_small_event_reaches_runs_that_hold_all_that_they_may(server: Served) -> None:
    # Runs may grow beyond what new ones get, so that the bound itself lies behind them.
    while server.metric("stepflow_runs_live_bytes") <= LIVE:
        server.post("/trigger/grows", {"steps": 3, "nbytes": MIB - 100})
    assert server.post("/trigger/echo", 1).status_code == 503
    until(lambda: is_over(server), lambda: server.said)


def is_over(server: Served) -> bool:
    """Tell the runs that wait now; say whether none lives any more."""
    assert server.post("/notify/over").status_code in {200, 404}
    return server.metric("stepflow_runs_live") == 0


def test_one_large_event_for_very_many_is_refused(server: Served) -> None:
    answer = server.post("/trigger/waits/batch", [{"id": n} for n in range(100)])
    assert answer.status_code == 200
    # Each of them would hold it.
    with server.grows_at_most(LIVE):
        assert post(server, "/notify/over", text_of(MIB))[0] == 503
    assert server.metric("stepflow_runs_live") == 100
    assert post(server, "/notify/over", text_of(1000))[0] == 200
    until(lambda: server.metric("stepflow_runs_live") == 0)


def test_an_input_of_a_mebibyte_is_taken_and_one_byte_more_is_not(server: Served) -> None:
    status, told = post(server, "/trigger/echo", text_of(MIB))
    assert status == 200
    assert len(server.result(told["runId"])) == MIB - 2
    status, told = post(server, "/trigger/echo", text_of(MIB + 1))
    assert (status, told["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_an_event_of_a_mebibyte_is_taken_and_one_byte_more_is_not(server: Served) -> None:
    server.trigger("takes", {"id": "edge"})
    until(lambda: post(server, "/notify/take-edge", text_of(MIB))[0] == 200)
    status, told = post(server, "/notify/take-edge", text_of(MIB + 1))
    assert (status, told["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_a_result_of_a_mebibyte_is_kept_and_one_byte_more_fails_its_step(server: Served) -> None:
    assert server.result(server.trigger("returns", MIB)) == MIB - 2
    failed = ended(server, server.trigger("returns", MIB + 1))
    assert failed["status"] == "failed"
    assert "store it elsewhere" in failed["error"]["message"]


def test_emitted_data_of_a_mebibyte_is_kept_and_one_byte_more_fails_its_step(
    server: Served,
) -> None:
    server.trigger("emits", {"count": 1, "nbytes": MIB})
    failed = ended(server, server.trigger("emits", {"count": 1, "nbytes": MIB + 1}))
    assert failed["status"] == "failed"
    assert "emit a reference" in failed["error"]["message"]


@pytest.mark.parametrize(
    ("workflow", "told"),
    [("grows", {"steps": 5, "nbytes": MIB}), ("emits", {"count": 5, "nbytes": MIB})],
)
def test_a_run_that_grows_over_its_bound_fails_and_says_so(
    server: Served, workflow: str, told: dict[str, int]
) -> None:
    with server.grows_at_most(8 * RUN):
        failed = ended(server, server.trigger(workflow, told))
    assert failed["status"] == "failed"
    assert f"the run would hold more than {RUN} bytes" in failed["error"]["message"]


def test_a_run_takes_no_more_events_than_its_bound(server: Served) -> None:
    server.trigger("takes", {"id": "many"})
    until(lambda: post(server, "/notify/take-many", b"1")[0] == 200)
    with server.grows_at_most(8 * RUN):
        answers = [post(server, "/notify/take-many", text_of(MIB)) for _ in range(20)]
    statuses = [status for status, _ in answers]
    assert statuses == [200] * 3 + [413] * 17
    assert "would hold more" in answers[-1][1]["error"]


def test_a_run_keeps_so_many_events_then_429_and_none_of_them_is_lost(server: Served) -> None:
    run_id = server.trigger("keeps", {"id": "k"})
    statuses = [post(server, "/notify/item-k", b"%d" % n)[0] for n in range(1, 80)]
    assert statuses == [200] * 50 + [429] * 29
    until(lambda: post(server, "/notify/over-k", b"1")[0] == 200)
    assert server.result(run_id) == 50


def test_what_has_ended_holds_no_more_than_its_bound(server: Served) -> None:
    # A payload lives in several copies while it is taken, and gone runs wait for a sweep. What
    # would be kept beyond that grows with the number that has passed, so many have to pass.
    with server.grows_at_most(14 * FINISHED):
        for _ in range(360):
            assert post(server, "/trigger/echo", text_of(MIB))[0] == 200
    until(lambda: server.metric("stepflow_runs_finished_bytes") <= FINISHED)


# ---------------------------------------------------------------- those who do not read, or write


def test_streams_that_are_never_read_cost_their_buffers_and_are_closed(server: Served) -> None:
    streams = 50
    run_id = server.trigger("emits", {"count": 30, "nbytes": 100_000})
    until(lambda: server.get(f"/runs/{run_id}")["state"] == "waiting")
    with ExitStack() as open_ones, server.grows_at_most(streams * MIB // 2 + 8 * MIB):
        for _ in range(streams):
            deaf = open_ones.enter_context(server.socket())
            deaf.sendall(request("GET", f"/runs/{run_id}/stream"))
        until(lambda: server.metric("stepflow_stream_subscribers") == streams)
        # Whoever reads gets all of it meanwhile.
        url = f"{server.url}/runs/{run_id}/stream"
        emitted = 0
        with server.client.stream("GET", url) as answer:
            for line in answer.iter_lines():
                emitted += line == "event: emit"
                if emitted == 30:
                    break
        until(lambda: server.metric("stepflow_stream_subscribers") == 0)


def test_answers_that_are_never_read_are_bounded_and_cut_off(server: Served) -> None:
    run_id = server.trigger("grows", {"steps": 3, "nbytes": MIB})
    until(lambda: server.get(f"/runs/{run_id}")["state"] == "waiting")
    with ExitStack() as open_ones, server.grows_at_most(5 * ANSWERS):
        deaf: list[socket.socket] = []
        for _ in range(50):
            deaf.append(open_ones.enter_context(server.socket()))
            deaf[-1].sendall(request("GET", f"/runs/{run_id}"))
        begun = [each.recv(12) for each in deaf]
        assert begun.count(b"HTTP/1.1 200") == ANSWERS // (3 * MIB)
        assert begun.count(b"HTTP/1.1 503") == 50 - ANSWERS // (3 * MIB)
        # They are cut off, and everybody else is served again.
        until(lambda: server.status(f"/runs/{run_id}") == 200)


def test_large_bodies_that_come_slowly_are_bounded(server: Served) -> None:
    body = text_of(MIB)
    with ExitStack() as open_ones, server.grows_at_most(8 * BODIES):
        slow: list[socket.socket] = []
        for _ in range(40):
            slow.append(open_ones.enter_context(server.socket()))
            slow[-1].sendall(request("POST", "/trigger/echo", length=MIB) + body[:-1])
        # What is small goes on.
        assert server.result(server.trigger("echo", 1)) == 1
        statuses: list[bytes] = []
        for each in slow:
            each.sendall(body[-1:])
            statuses.append(each.recv(12))
    # A share of each body is not counted, so a few more than the bound holds come through.
    taken = statuses.count(b"HTTP/1.1 200")
    assert BODIES // MIB <= taken <= BODIES // MIB + 2
    assert taken + statuses.count(b"HTTP/1.1 503") == 40


def test_a_page_of_large_runs_ends_early_and_its_cursor_goes_on(server: Served) -> None:
    large = {"id": 1, "text": "x" * (MIB // 2)}
    made = {server.trigger("waits", large) for _ in range(24)}
    seen: list[str] = []
    cursor = ""
    with server.grows_at_most(10 * PAGE):
        while True:
            text = server.client.get(
                f"{server.url}/runs?status=running&limit=200&cursor={cursor}"
            ).content
            assert len(text) <= PAGE + 2 * MIB
            page = json.loads(text)
            seen += [run["id"] for run in page["runs"]]
            cursor = page["nextCursor"]
            if not cursor:
                break
    assert len(seen) == len(set(seen))
    assert set(seen) == made
