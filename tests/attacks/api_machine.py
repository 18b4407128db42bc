"""The HTTP API as a machine of rules, beside a model that a page of code can hold.

Each rule is a call that a client, an operator or a stranger makes; the model says what the answer
has to be. Hypothesis makes up the sequences and shortens those that fail.
"""

# pyright: reportUnknownVariableType=false
# Hypothesis leaves the type of a rule's result open.

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stepflow.client.sse import SseParser
from tests.attacks.door import Door, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.wire import Reply

__all__ = ["ApiMachine", "run_machine"]

ENDED: Final = {"completed", "failed", "cancelled"}
IDS: Final = st.sampled_from(["a", "b"])
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@dataclass
class Run:
    """What the model knows of one run."""

    id: str
    token: str
    workflow: str
    input: Any
    status: str
    result: Any = None
    order: int = 0


@dataclass
class Model:
    """All that has been answered with 200 and not been purged."""

    runs: dict[str, Run] = field(default_factory=dict[str, Run])
    keys: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    purged: set[str] = field(default_factory=set[str])


class ApiMachine(RuleBasedStateMachine):
    """One server, its clients, and the model."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.door = Door().__enter__()
        self.model = Model()
        for number, (run, token) in enumerate(
            ((self.door.run, self.door.token), (self.door.other, self.door.other_token)), 1
        ):
            value = {"id": str(number)}
            self.model.runs[run] = Run(run, token, "waits", value, "running", order=number)

    def teardown(self) -> None:
        self.door.__exit__(None, None, None)

    # ------------------------------------------------------------ calling

    def call(self, method: str, target: str, body: Any = None, **headers: str) -> Reply:
        sent = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        data = b"" if method == "GET" else json.dumps(body).encode()
        reply = self.door.ask(Request(method, target, self.door.as_admin(*sent), data))
        assert reply.status < 500, reply
        return reply

    def refused(self, reply: Reply, status: int, code: str) -> None:
        assert reply.status == status, reply
        assert json.loads(reply.body)["code"] == code

    def view(self, run: str) -> dict[str, Any]:
        reply = self.call("GET", f"/runs/{run}")
        assert reply.status == 200, reply
        return cast("dict[str, Any]", json.loads(reply.body))

    def until(self, condition: Callable[[], bool]) -> None:
        """Let the server's loop go round until what was begun has come to rest."""
        for _ in range(20_000):
            if condition():
                return
            self.door.runner.run(asyncio.sleep(0))
        raise AssertionError("it never came to rest")

    # ------------------------------------------------------------ triggers

    @initialize(target=ids)
    def first(self) -> Any:
        runs = (self.door.run, self.door.other, self.door.absent)
        return multiple(*runs)

    @rule(
        target=ids,
        workflow=st.sampled_from(["echo", "fails", "waits"]),
        value=JSON,
        event=IDS,
        key=st.none() | st.sampled_from(["k1", "k2"]),
    )
    def trigger(self, workflow: str, value: Any, event: str, key: str | None) -> Any:
        given = {"id": event} if workflow == "waits" else value
        headers = {} if key is None else {"Idempotency_Key": key}
        reply = self.call("POST", f"/trigger/{workflow}", given, **headers)
        known = self.model.keys.get((workflow, key)) if key else None
        if known is not None and self.model.runs[known].input != given:
            self.refused(reply, 409, "CONFLICT")
            return multiple()
        assert reply.status == 200, reply
        answer = json.loads(reply.body)
        assert list(answer) == ["runId", "publicAccessToken"]
        if known is not None:
            assert answer["runId"] == known
            return known
        return self._added(answer, workflow, given, key)

    def _added(self, answer: Any, workflow: str, given: Any, key: str | None = None) -> str:
        run: str = answer["runId"]
        assert run not in self.model.runs
        assert run not in self.model.purged
        status = {"echo": "completed", "fails": "failed", "waits": "running"}[workflow]
        result = given if workflow == "echo" else None
        order = 1 + max((each.order for each in self.model.runs.values()), default=0)
        token: str = answer["publicAccessToken"]
        self.model.runs[run] = Run(run, token, workflow, given, status, result, order)
        if key:
            self.model.keys[workflow, key] = run
        wanted = "waiting" if status == "running" else status
        self.until(lambda: self.view(run)["state"] == wanted)
        return run

    @rule(values=st.lists(JSON, max_size=3))
    def batch(self, values: list[Any]) -> None:
        reply = self.call("POST", "/trigger/echo/batch", values)
        assert reply.status == 200, reply
        answers = json.loads(reply.body)
        assert len(answers) == len(values)
        for answer, value in zip(answers, values, strict=True):
            self._added(answer, "echo", value)

    @rule(body=st.sampled_from([b"{", b"\xff", b"1 2", b"[" * 100, b"NaN"]))
    def trigger_with_rubbish(self, body: bytes) -> None:
        request = Request("POST", "/trigger/echo", self.door.as_admin(), body)
        self.refused(self.door.ask(request), 400, "INVALID_INPUT")

    @rule(name=st.sampled_from(["absent", "Echo", "echo%20", "%00"]))
    def trigger_what_is_not_there(self, name: str) -> None:
        self.refused(self.call("POST", f"/trigger/{name}"), 404, "WORKFLOW_NOT_FOUND")

    # ------------------------------------------------------------ what happens to runs

    @rule(event=IDS, payload=JSON)
    def notify(self, event: str, payload: Any) -> None:
        reply = self.call("POST", f"/notify/go-{event}", payload)
        taken = [run for run in self._live() if run.input == {"id": event}]
        if not taken:
            self.refused(reply, 404, "EVENT_NOT_FOUND")
            return
        assert (reply.status, reply.body) == (200, b'{"success":true}')
        for run in taken:
            self._ended(run, "completed", payload)

    @rule(run=ids, payload=JSON)
    def notify_one(self, run: str, payload: Any) -> None:
        found = self.model.runs.get(run)
        event = found.input["id"] if found and found.workflow == "waits" else "a"
        reply = self.call("POST", f"/notify/go-{event}?runId={run}", payload)
        if found is None or found.status in ENDED:
            assert reply.status == 404, reply
            return
        assert reply.status == 200, reply
        self._ended(found, "completed", payload)

    @rule(run=ids)
    def cancel(self, run: str) -> None:
        reply = self.call("POST", f"/runs/{run}/cancel")
        found = self.model.runs.get(run)
        if found is None:
            self.refused(reply, 404, "RUN_NOT_FOUND")
        elif found.status in ENDED:
            self.refused(reply, 409, "CONFLICT")
        else:
            assert reply.status == 200, reply
            self._ended(found, "cancelled")

    @rule(run=ids)
    def purge(self, run: str) -> None:
        reply = self.call("DELETE", f"/runs/{run}")
        found = self.model.runs.get(run)
        if found is None:
            self.refused(reply, 404, "RUN_NOT_FOUND")
        elif found.status not in ENDED:
            self.refused(reply, 409, "CONFLICT")
        else:
            assert (reply.status, reply.body) == (200, b'{"success":true}')
            del self.model.runs[run]
            self.model.purged.add(run)
            self.model.keys = {k: v for k, v in self.model.keys.items() if v != run}

    def _live(self) -> list[Run]:
        return [run for run in self.model.runs.values() if run.status not in ENDED]

    def _ended(self, run: Run, status: str, result: Any = None) -> None:
        run.status, run.result = status, result
        self.until(lambda: self.view(run.id)["status"] == status)

    # ------------------------------------------------------------ reading

    @rule(run=ids)
    def read(self, run: str) -> None:
        found = self.model.runs.get(run)
        if found is None:
            self.refused(self.call("GET", f"/runs/{run}"), 404, "RUN_NOT_FOUND")
            return
        view = self.view(run)
        assert (view["id"], view["workflowId"]) == (run, found.workflow)
        assert (view["status"], view["input"]) == (found.status, found.input)
        assert ("result" in view) == (found.status == "completed")
        assert ("error" in view) == (found.status in {"failed", "cancelled"})
        if found.status == "completed":
            assert view["result"] == found.result

    @rule(run=ids)
    def watch_what_has_ended(self, run: str) -> None:
        found = self.model.runs.get(run)
        if found is not None and found.status not in ENDED:
            return
        reply = self.call("GET", f"/runs/{run}/stream")
        if found is None:
            self.refused(reply, 404, "RUN_NOT_FOUND")
            return
        events = SseParser().feed(reply.body)
        numbers = [int(each.id or "") for each in events]
        assert numbers == sorted(set(numbers))
        last = events[-1]
        assert last.event == ("complete" if found.status == "completed" else "error")
        assert json.loads(last.data)["status"] == found.status
        for place in range(len(events)):
            again = self.call("GET", f"/runs/{run}/stream", Last_Event_ID=str(numbers[place]))
            assert again.status == (204 if place == len(events) - 1 else 200)
            if again.status == 200:
                assert SseParser().feed(again.body) == events[place + 1 :]

    @rule(limit=st.integers(1, 5), status=st.sampled_from(["", "completed", "failed", "running"]))
    def list_runs(self, limit: int, status: str) -> None:
        seen: list[str] = []
        wanted = f"/runs?limit={limit}" + (f"&status={status}" if status else "")
        cursor = ""
        while True:
            reply = self.call("GET", wanted + cursor)
            assert reply.status == 200, reply
            page = json.loads(reply.body)
            seen += [row["id"] for row in page["runs"]]
            assert all("steps" not in row for row in page["runs"])
            if not page["nextCursor"]:
                break
            cursor = f"&cursor={page['nextCursor']}"
        runs = sorted(self.model.runs.values(), key=lambda run: -run.order)
        assert seen == [run.id for run in runs if status in ("", run.status)]

    # ------------------------------------------------------------ strangers

    @rule(run=ids, method=st.sampled_from(["GET", "DELETE", "POST"]))
    def without_a_credential(self, run: str, method: str) -> None:
        target = f"/runs/{run}/cancel" if method == "POST" else f"/runs/{run}"
        self.refused(self.door.ask(Request(method, target)), 401, "UNAUTHORIZED")

    @precondition(lambda self: len(self.model.runs) > 1)
    @rule(run=ids, data=st.data())
    def with_the_token_of_one_run(self, run: str, data: st.DataObject) -> None:
        holder = self.model.runs[data.draw(st.sampled_from(sorted(self.model.runs)))]
        reply = self.door.ask(Request("GET", f"/runs/{run}?token={holder.token}"))
        if run == holder.id:
            assert reply.status == 200
        else:
            self.refused(reply, 404, "RUN_NOT_FOUND")
        for method, target in (("DELETE", f"/runs/{run}"), ("POST", "/trigger/echo")):
            refused = self.door.ask(Request(method, f"{target}?token={holder.token}"))
            assert refused.status in {403, 404}

    # ------------------------------------------------------------ always

    @invariant()
    def waiting_events_are_those_of_the_live_runs(self) -> None:
        rows = json.loads(self.call("GET", "/events").body)["events"]
        live: dict[str, set[str]] = {}
        for run in self._live():
            live.setdefault(f"go-{run.input['id']}", set()).add(run.id)
        assert {row["eventId"]: set(row["runIds"]) for row in rows} == live

    @invariant()
    def health_says_ok(self) -> None:
        assert self.door.ask(Request("GET", "/health")).status == 200


def run_machine(
    examples: int, steps: int, seed: int | None = None, *, shorten: bool = True
) -> None:
    """Make up sequences and run them. Raises what the shortest failing one raises."""
    wanted = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=seed is None,
        phases=(Phase.generate, Phase.shrink) if shorten else (Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    machine = type("ApiMachine", (ApiMachine,), {})
    if seed is not None:
        machine._hypothesis_internal_use_seed = seed  # type: ignore[attr-defined]
    run_state_machine_as_test(machine, settings=wanted)
