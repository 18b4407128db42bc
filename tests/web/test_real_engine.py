"""Part 1 of the HTTP API, on the real engine and a real server: status, headers, body."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from served import KEY, flow_of_welcome, served

from stepflow import api_key_auth

if TYPE_CHECKING:
    from collections.abc import Generator

USER = {"userId": "u-1", "email": "ada@example.com"}
ABSENT = "run_0000000000000000000000"
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


@pytest.fixture(scope="module")
def url() -> Generator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPFLOW_API_KEYS", KEY)
        with served(flow_of_welcome()) as found:
            yield found


@pytest.fixture
def api(url: str) -> Generator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=30) as client:
        yield client


@pytest.fixture
def stranger(url: str) -> Generator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


def error(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error", "code"}
    assert body["code"] == code
    assert isinstance(body["error"], str)
    assert body["error"]


def start(api: httpx.Client, user: dict[str, str] = USER) -> dict[str, str]:
    answer = api.post("/trigger/welcome-user", json=user)
    assert answer.status_code == 200
    told: dict[str, str] = answer.json()
    return told


def events(client: httpx.Client, run_id: str, **query: Any) -> list[tuple[str, str, Any]]:
    """Read a run's stream to its end."""
    found: list[tuple[str, str, Any]] = []
    with client.stream("GET", f"/runs/{run_id}/stream", params=query) as answer:
        assert answer.status_code == 200
        for block in "".join(answer.iter_text()).split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "event" in fields:
                data = json.loads(fields["data"])
                found.append((fields.get("id", ""), fields["event"], data))
    return found


def test_trigger_answers_exactly_a_run_id_and_a_token(api: httpx.Client) -> None:
    answer = api.post("/trigger/welcome-user", json=USER)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert set(told) == {"runId", "publicAccessToken"}
    assert re.fullmatch(r"run_[A-Za-z0-9]{22}", told["runId"])
    assert told["publicAccessToken"].startswith("pat_")


def test_a_run_reads_as_the_contract_says(api: httpx.Client, stranger: httpx.Client) -> None:
    told = start(api, USER | {"userId": "reads"})
    for _ in range(1000):
        shown = stranger.get(
            f"/runs/{told['runId']}", params={"token": told["publicAccessToken"]}
        ).json()
        if len(shown["steps"]) == 2:
            break
    assert shown["id"] == told["runId"]
    assert shown["workflowId"] == "welcome-user"
    assert shown["status"] == "running"
    assert shown["input"] == USER | {"userId": "reads"}
    assert STAMP.fullmatch(shown["createdAt"])
    assert STAMP.fullmatch(shown["updatedAt"])
    done, waiting = shown["steps"]
    assert (done["name"], done["status"], done["result"]) == (
        "send-welcome",
        "completed",
        {"sent": True},
    )
    assert (waiting["name"], waiting["status"]) == ("opened", "pending")
    assert "result" not in waiting


def test_notify_lets_the_run_go_on_and_the_stream_tells_it_to_its_end(
    api: httpx.Client, stranger: httpx.Client
) -> None:
    told = start(api, USER | {"userId": "streams"})
    answer = api.post("/notify/opened-streams", json={"at": "noon"})
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    token = told["publicAccessToken"]
    found = events(stranger, told["runId"], token=token)
    names = [(name, data.get("stepName") or data.get("name")) for _, name, data in found]
    assert names == [
        ("status", None),
        ("status", "send-welcome"),
        ("step", "send-welcome"),
        ("status", "opened"),
        ("step", "opened"),
        ("status", "send-followup"),
        ("step", "send-followup"),
        ("complete", None),
    ]
    assert found[0][2] == {"status": "running"}
    assert (
        found[2][2].items()
        >= {
            "name": "send-welcome",
            "status": "completed",
            "result": {"sent": True},
        }.items()
    )
    assert found[-1][2] == {"status": "completed", "result": {"success": True}}
    ids = [int(number) for number, _, _ in found]
    assert ids == sorted(set(ids))


def test_a_stream_resumes_with_precisely_what_was_missed(
    api: httpx.Client, stranger: httpx.Client
) -> None:
    told = start(api, USER | {"userId": "resumes"})
    api.post("/notify/opened-resumes", json=None)
    token = told["publicAccessToken"]
    whole = events(stranger, told["runId"], token=token)
    for cut, (number, _, _) in enumerate(whole[:-1]):
        rest = events(stranger, told["runId"], token=token, lastEventId=number)
        assert rest == whole[cut + 1 :]
    last = whole[-1][0]
    path = f"/runs/{told['runId']}/stream"
    over = stranger.get(path, params={"token": token}, headers={"Last-Event-ID": last})
    assert (over.status_code, over.content) == (204, b"")


def test_an_id_not_reached_yet_gives_a_resync_and_then_goes_on(
    api: httpx.Client, stranger: httpx.Client
) -> None:
    told = start(api, USER | {"userId": "ahead"})
    api.post("/notify/opened-ahead", json=None)
    events(stranger, told["runId"], token=told["publicAccessToken"])
    found = events(stranger, told["runId"], token=told["publicAccessToken"], lastEventId=9999)
    assert [(number, name) for number, name, _ in found] == [("", "resync")]
    assert found[0][2]["id"] == told["runId"]


def test_stream_headers_keep_proxies_from_holding_it_back(api: httpx.Client) -> None:
    told = start(api, USER | {"userId": "headers"})
    with api.stream("GET", f"/runs/{told['runId']}/stream") as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        assert next(answer.iter_text()).startswith("retry: 1000\n\n")


def test_health_says_ok_to_anybody(stranger: httpx.Client) -> None:
    answer = stranger.get("/health")
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"status", "timestamp"}
    assert body["status"] == "ok"
    assert STAMP.fullmatch(body["timestamp"])


def test_the_document_is_served_to_anybody(stranger: httpx.Client) -> None:
    answer = stranger.get("/openapi.yaml")
    assert answer.status_code == 200
    assert "yaml" in answer.headers["content-type"]
    assert answer.text.startswith('openapi: "3.1')


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/trigger/nothing", b"{}", 404, "WORKFLOW_NOT_FOUND"),
        ("POST", "/trigger/welcome-user", b"{", 400, "INVALID_INPUT"),
        ("POST", "/trigger/welcome-user", b"[1]", 400, "INVALID_INPUT"),
        ("POST", "/trigger/anything", b"1" * 40, 400, "INVALID_INPUT"),
        ("POST", "/trigger/anything", b"[" * 65 + b"]" * 65, 400, "INVALID_INPUT"),
        ("POST", "/trigger/anything", b'"' + b"x" * (1 << 20) + b'"', 413, "PAYLOAD_TOO_LARGE"),
        ("GET", f"/runs/{ABSENT}", None, 404, "RUN_NOT_FOUND"),
        ("GET", "/runs/run_x", None, 404, "RUN_NOT_FOUND"),
        ("GET", "/runs/..%2f..", None, 404, "NOT_FOUND"),
        ("GET", f"/runs/{ABSENT}/stream", None, 404, "RUN_NOT_FOUND"),
        ("POST", "/notify/nobody", b"{}", 404, "EVENT_NOT_FOUND"),
        ("POST", "/notify/nobody", b"{", 400, "INVALID_INPUT"),
        ("GET", "/trigger/welcome-user", None, 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/nothing", None, 404, "NOT_FOUND"),
    ],
)
def test_errors_have_their_status_and_code(
    api: httpx.Client, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    error(api.request(method, path, content=body, headers=headers), status, code)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/trigger/welcome-user"),
        ("POST", "/trigger/nothing"),
        ("GET", f"/runs/{ABSENT}"),
        ("GET", "/runs/not-an-id"),
        ("GET", f"/runs/{ABSENT}/stream"),
        ("POST", "/notify/nobody"),
    ],
)
def test_a_stranger_learns_nothing(stranger: httpx.Client, method: str, path: str) -> None:
    answer = stranger.request(method, path, content=b"{" if method == "POST" else None)
    error(answer, 401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    wrong = stranger.request(method, path, headers={"X-API-Key": "x" * 32})
    assert wrong.json() == answer.json()


def test_a_token_reads_its_run_and_nothing_else(api: httpx.Client, stranger: httpx.Client) -> None:
    mine, other = start(api), start(api)
    token = {"token": mine["publicAccessToken"]}
    assert stranger.get(f"/runs/{mine['runId']}", params=token).status_code == 200
    error(stranger.get(f"/runs/{other['runId']}", params=token), 404, "RUN_NOT_FOUND")
    error(stranger.post("/notify/opened-u-1", params=token, json=1), 403, "FORBIDDEN")
    error(stranger.get("/runs", params=token), 403, "FORBIDDEN")


def test_a_token_is_forbidden_elsewhere_under_a_hosts_own_auth_too() -> None:
    with served(flow_of_welcome(), auth=api_key_auth(KEY)) as url:
        with httpx.Client(base_url=url, timeout=30) as client:
            mine = client.post("/trigger/anything", json=1, headers={"X-API-Key": KEY}).json()
            token = {"token": mine["publicAccessToken"]}
            assert client.get(f"/runs/{mine['runId']}", params=token).status_code == 200
            error(client.post("/notify/x", params=token, json=1), 403, "FORBIDDEN")
            error(client.post("/notify/x", json=1), 401, "UNAUTHORIZED")


def test_the_same_idempotency_key_gives_the_same_run(api: httpx.Client) -> None:
    header = {"Idempotency-Key": "order-77"}
    first = api.post("/trigger/anything", content=b'{"a": 1, "b": 2}', headers=header)
    again = api.post("/trigger/anything", content=b'{"b":2,"a":1}', headers=header)
    assert first.json()["runId"] == again.json()["runId"]
    other = api.post("/trigger/anything", content=b'{"a":2}', headers=header)
    error(other, 409, "CONFLICT")


def test_cancel_ends_the_run_with_an_error_event(api: httpx.Client) -> None:
    told = start(api, USER | {"userId": "cancels"})
    answer = api.post(f"/runs/{told['runId']}/cancel")
    assert answer.status_code == 200
    assert answer.json()["id"] == told["runId"]
    found = events(api, told["runId"])
    assert found[-1][1] == "error"
    assert found[-1][2]["status"] == "cancelled"
    error(api.post(f"/runs/{told['runId']}/cancel"), 409, "CONFLICT")


def test_a_batch_starts_in_order_and_says_which_were_refused(api: httpx.Client) -> None:
    batch = [USER, 7, USER | {"userId": "b-2"}]
    answer = api.post("/trigger/welcome-user/batch", json=batch)
    assert answer.status_code == 200
    first, bad, last = answer.json()
    assert set(first) == set(last) == {"runId", "publicAccessToken"}
    assert bad["code"] == "INVALID_INPUT"


def test_lists_page_newest_first_with_stable_cursors(api: httpx.Client) -> None:
    started = [api.post("/trigger/anything", json=i).json()["runId"] for i in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    while len(seen) < 7:
        query: dict[str, Any] = {"limit": 3, "workflowId": "anything"}
        if cursor:
            query["cursor"] = cursor
        page = api.get("/runs", params=query).json()
        assert all("steps" not in row for row in page["runs"])
        seen += [row["id"] for row in page["runs"]]
        cursor = page["nextCursor"]
        api.post("/trigger/anything", json="in between")
    assert seen[:7] == started[::-1]
    error(api.get("/runs", params={"cursor": "forged"}), 400, "INVALID_INPUT")
