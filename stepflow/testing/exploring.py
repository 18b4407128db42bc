"""`explore(workflow)`: kill it after every record, and try every order of what comes from outside.

One run is driven under many **schedules** (schedule.py), fewest moves first, in memory and on
virtual time. Under each the run must end, replay what it recorded, and keep the author's
`invariant`; one that was only killed must end as it does when it is not. The first schedule that
fails is therefore a shortest one: it is raised in words, with what happened record by record, and
`schedule=` runs it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET

from stepflow.authoring.registry import flows_of
from stepflow.errors import (
    ApiError,
    ConflictError,
    EventNotFoundError,
    OutcomeUnknownError,
    RunCancelledError,
    RunFailedError,
    UnavailableError,
)
from stepflow.flow import Stepflow
from stepflow.testing.hands import Due, Hands
from stepflow.testing.kit import DivergedError, StuckError, WorkflowTest, heard
from stepflow.testing.schedule import following, parse, text_of
from stepflow.testing.seen import seen_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from stepflow.config import Settings
    from stepflow.model.views import RunView
    from stepflow.testing.schedule import Schedule
    from stepflow.testing.seen import SeenStep
    from stepflow.testing.stubs import Attempt, TestSeams

__all__ = ["Exploration", "ExploreError", "Outcome", "explore"]

_KIB: Final = 1024
_RUN_ID: Final = "run_explored00000000"
_LAST_S: Final = 100 * 365 * 86_400.0
"""When nothing but what was held back can happen any more; before `WorkflowTest` gives up."""
_RECORDS_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run ended under one schedule; what an invariant judges."""

    schedule: str
    run_id: str
    status: str
    result: Any
    error: dict[str, Any] | None
    steps: Sequence[SeenStep]
    attempts: Sequence[Attempt]
    sent: Mapping[str, str]
    """Of each event in `events`: `reached` the run, `lost` (nobody took it), or `not sent`."""
    cancelled: bool
    """Whether a cancel was accepted."""
    kills: int
    story: Sequence[str]
    records: Sequence[int] = field(repr=False)
    hasty: bool = field(default=False, repr=False)
    """Whether a kill overtook a move before it: without the kill that comes at another time."""
    paused: bool = False
    """Whether a pause was accepted; the run went on afterwards."""
    retried: bool = False
    """Whether it was retried after it had failed or was cancelled."""
    forked: bool = False
    """Whether it was forked after its end: then this tells of the fork, but for `attempts`."""

    def calls(self, step: str) -> list[tuple[Any, ...]]:
        """Return the arguments of each attempt at the steps of that name, in all lives."""
        return [attempt.args for attempt in self.attempts if attempt.name == step]


@dataclass(frozen=True, slots=True)
class Exploration:
    """What was tried, and that nothing failed."""

    tried: int
    left_out: int
    """Schedules of the greatest length that `limit` left out; a `seed` chooses which."""
    depth: int
    records: int
    """How many records the run writes when nothing goes wrong."""
    endings: Mapping[str, int]
    """How often the run ended how."""
    unsent: frozenset[str]
    """Events the run waited for that are not in `events`: they were never sent."""

    def __str__(self) -> str:
        """Return it in a sentence or two."""
        ends = ", ".join(f"{count} {status}" for status, count in sorted(self.endings.items()))
        text = (
            f"{self.tried} schedules of at most {self.depth} moves over {self.records} records: "
            f"{ends}; none fails"
        )
        if self.left_out:
            text += f". limit= left out {self.left_out} longer ones"
        if self.unsent:
            text += f". Never sent, give them in events=: {', '.join(sorted(self.unsent))}"
        return text


class ExploreError(AssertionError):
    """A schedule under which the workflow fails. `.schedule` runs it again."""

    def __init__(self, workflow: str, outcome: Outcome, reason: str, tried: int = 0) -> None:
        self.schedule = outcome.schedule
        self.reason = reason
        self.story = list(outcome.story)
        moves = outcome.schedule.replace("; ", "\n    ") or "nothing goes wrong"
        story = "\n".join(self.story)
        shortest = f"(schedule {tried}; none with fewer moves fails)\n" if tried else ""
        super().__init__(
            f"{workflow} fails when\n    {moves}\nbecause {reason}\n"
            f"{shortest}what happened:\n{story}\n"
            f"run it again with explore(…, schedule={outcome.schedule!r})"
        )


async def explore(  # noqa: PLR0913  what may differ from one author to the next
    workflow: str | Callable[..., Any],
    input: object = None,
    *,
    flow: Stepflow | None = None,
    events: Mapping[str, object] | Iterable[str | tuple[str, object]] = (),
    invariant: Callable[[Outcome], object] | None = None,
    setup: Callable[[], object] | None = None,
    stubs: Mapping[str, object] | None = None,
    cancel: bool = True,
    operators: bool = False,
    forks: bool = False,
    same_result: bool = True,
    depth: int = 2,
    limit: int = 400,
    seed: int = 0,
    strict: bool = True,
    schedule: str | None = None,
) -> Exploration:
    """Try the workflow under every schedule of up to `depth` moves, at most `limit` of them.

    `events`: ids with payloads that others may send it, each once; unless a schedule says when, one
    comes when it is waited for. `invariant(outcome)` fails a schedule by raising or by returning
    `False`; `setup()` is called before each, to put the author's fakes back. `stubs` are those of
    `WorkflowTest.stub`. `cancel=False`: nobody cancels. `operators`: somebody pauses it at every
    place and lets it go on, and retries it when it has failed. `forks`: somebody forks it from each
    step when it has ended; a fork does again what follows, under other idempotency keys.
    `same_result`: a run that was killed must end as it does when it is not; off for results that
    draw new random values. `schedule` tries that one alone. `flow` must be given with a workflow's
    id, and where several flows have the function.

    Raises `ExploreError` for the first schedule that fails, which has the fewest moves. The same
    arguments try the same schedules in the same order.
    """
    found = flow if flow is not None else _flow_of(workflow)
    explorer = _Explorer(
        flow=found,
        workflow=found.registry.find(workflow).id,
        input=input,
        events=_labelled(events),
        invariant=invariant,
        setup=setup,
        stubs=dict(stubs or {}),
        same_result=same_result,
        seed=seed,
        strict=strict,
    )
    if schedule is not None:
        moves = parse(schedule, list(explorer.events))
        if same_result and _without_kills(moves) != moves:
            await explorer.attempt(_without_kills(moves))
        await explorer.attempt(moves)
        return explorer.report(0, 0)
    return await explorer.search(
        depth=depth, limit=limit, cancel=cancel, operators=operators, forks=forks
    )


def _flow_of(workflow: str | Callable[..., Any]) -> Stepflow:
    flows = [] if isinstance(workflow, str) else flows_of(workflow)
    if len(flows) == 1 and isinstance(flows[0], Stepflow):
        return flows[0]
    name = workflow if isinstance(workflow, str) else getattr(workflow, "__name__", "?")
    message = f"say which flow has the workflow: explore({name!r}, …, flow=flow)"
    raise TypeError(message)


def _labelled(
    events: Mapping[str, object] | Iterable[str | tuple[str, object]],
) -> dict[str, tuple[str, object]]:
    """Return the events by label: the id, and `id#2` for a second one of that id."""
    given: Any = events
    rows: list[tuple[str, object]] = [
        (event, None) if isinstance(event, str) else event
        for event in (given.items() if isinstance(events, Mapping) else given)
    ]
    labelled: dict[str, tuple[str, object]] = {}
    seen: Counter[str] = Counter()
    for event, payload in rows:
        seen[event] += 1
        labelled[event if seen[event] == 1 else f"{event}#{seen[event]}"] = (event, payload)
    return labelled


# ---------------------------------------------------------------- which schedules


@dataclass(slots=True)
class _Explorer:
    """Tries schedules, shortest first."""

    flow: Stepflow
    workflow: str
    input: object
    events: dict[str, tuple[str, object]]
    invariant: Callable[[Outcome], object] | None
    setup: Callable[[], object] | None
    stubs: dict[str, object]
    same_result: bool
    seed: int
    strict: bool
    outcomes: dict[Schedule, tuple[str, Any]] = field(default_factory=dict["Schedule", Any])
    endings: Counter[str] = field(default_factory=Counter[str])
    unsent: set[str] = field(default_factory=set[str])
    tried: int = 0
    records: int = 0
    searching: bool = False

    async def search(
        self, *, depth: int, limit: int, cancel: bool, operators: bool, forks: bool
    ) -> Exploration:
        """Go from one length to the next, as far as `depth` and `limit` allow."""
        self.searching = True
        level: list[tuple[Schedule, Outcome]] = [((), await self.attempt(()))]
        dice = random.Random(self.seed)  # noqa: S311  the same each time on purpose
        left_out = 0
        reached = 0
        for _ in range(depth):
            longer = [
                schedule
                for before, outcome in level
                for schedule in following(
                    before,
                    outcome.records,
                    list(self.events),
                    cancel=cancel,
                    operators=operators,
                    steps=[step.key for step in outcome.steps] if forks else (),
                )
            ]
            room = limit - self.tried
            if len(longer) > room:
                left_out += len(longer) - room
                chosen = sorted(dice.sample(range(len(longer)), room))
                longer = [longer[i] for i in chosen]
            if longer:
                reached += 1
            level = [(each, await self.attempt(each)) for each in longer]
        return self.report(left_out, reached)

    def report(self, left_out: int, depth: int) -> Exploration:
        """Return what was tried."""
        return Exploration(
            tried=self.tried,
            left_out=left_out,
            depth=depth,
            records=self.records,
            endings=dict(self.endings),
            unsent=frozenset(self.unsent),
        )

    async def attempt(self, schedule: Schedule) -> Outcome:
        """Drive the run under the schedule. Raises `ExploreError`."""
        if self.setup is not None:
            done = self.setup()
            if inspect.isawaitable(done):
                await done
        life = _Lives(self, schedule)
        outcome, failure = await life.run()
        self.tried += 1
        reason = failure or await self._judged(schedule, outcome)
        if reason:
            raise ExploreError(self.workflow, outcome, reason, self.tried if self.searching else 0)
        if outcome.records and not self.records:
            self.records = outcome.records[-1]
        self.endings[outcome.status] += 1
        self.unsent |= life.unsent
        return outcome

    async def _judged(self, schedule: Schedule, outcome: Outcome) -> str:
        """Return why the outcome is not as it must be; empty when it is."""
        ending = outcome.status, outcome.result if outcome.error is None else _short(outcome.error)
        self.outcomes[schedule] = ending
        without = _without_kills(schedule)
        comparable = self.same_result and not outcome.hasty and without != schedule
        if comparable and (known := self.outcomes.get(without)) and known != ending:
            return f"it ended {_ended(*ending)}; without being killed it ends {_ended(*known)}"
        if self.invariant is None:
            return ""
        try:
            verdict = self.invariant(outcome)
            if inspect.isawaitable(verdict):
                verdict = await verdict
        except AssertionError as error:
            return f"the invariant does not hold: {str(error) or 'AssertionError'}"
        return "the invariant does not hold" if verdict is False else ""


def _short(error: Mapping[str, Any]) -> tuple[Any, Any]:
    return error.get("type"), error.get("message")


def _ended(status: str, value: Any) -> str:
    return f"{status} with {value!r}"


def _without_kills(schedule: Schedule) -> Schedule:
    """Return the schedule without the kills and replays at its end.

    Behind a kill the records have other numbers, so one in the middle cannot be left out.
    """
    kept = list(schedule)
    while kept and (kept[-1].kills or kept[-1].kind == "replay"):
        kept.pop()
    return tuple(kept)


# ---------------------------------------------------------------- under one schedule


class _Watched(WorkflowTest):
    """A `WorkflowTest` with the explorer's hands in it, and small files: they are many."""

    def __init__(self, flow: Stepflow, hands: Hands, *, seed: int, strict: bool) -> None:
        self._hands = hands
        super().__init__(flow, seed=seed, strict=strict)

    def _new_seams(self, *, replays_always: bool, threads: bool) -> TestSeams:
        del replays_always, threads
        return self._hands

    def _settings(self) -> Settings:
        return replace(
            super()._settings(),
            segment_bytes_first=64 * _KIB,
            segment_bytes_max=1024 * _KIB,
            room_reserve_bytes=8 * _KIB,
            reserve_file_bytes=32 * _KIB,
            free_bytes_min=8 * _KIB,
            lock_wait_s=0.0,
            snapshot_interval_s=1e12,
        )


class _Lives:
    """The run under one schedule, from its trigger to its end, through every kill."""

    def __init__(self, explorer: _Explorer, schedule: Schedule) -> None:
        self.explorer = explorer
        self.schedule = schedule
        self.held = {move.event for move in schedule if move.kind in {"hold", "send"}}
        self.unsent: set[str] = set()
        self.sent: dict[str, str] = dict.fromkeys(explorer.events, "not sent")
        self.on_the_way: dict[str, asyncio.Task[None]] = {}
        self.cancelled = False
        self.kills = 0
        self.hands = Hands(schedule, self._waited_for, _RECORDS_MAX)
        self.refused = ""
        self.hasty = False
        self.moved = 0
        """How many of the schedule's sends and cancels were answered."""
        self._cancels = False
        self._pauses = False
        self.paused = False
        self.retried = False
        self.run_id = _RUN_ID
        """The run that is driven: in the end the fork."""
        self._retries = any(move.kind == "retry" for move in schedule)
        self._fork_from = next((move.event for move in schedule if move.kind == "fork"), "")
        self._test: WorkflowTest | None = None

    @property
    def test(self) -> WorkflowTest:
        assert self._test is not None
        return self._test

    def _waited_for(self, event: str) -> str | None:
        """Return the label of the event that comes because it is waited for."""
        labels = [label for label, (id_, _) in self.explorer.events.items() if id_ == event]
        if not labels:
            self.unsent.add(event)
        for label in labels:
            if self.sent[label] == "not sent" and label not in self.on_the_way:
                return None if label in self.held else label
        return None

    async def run(self) -> tuple[Outcome, str]:
        """Return how it ended, and what is wrong with that whatever the author thinks of it."""
        failure = ""
        view: RunView | None = None
        explorer = self.explorer
        test = _Watched(explorer.flow, self.hands, seed=explorer.seed, strict=explorer.strict)
        self._test = test
        for step, outcome in explorer.stubs.items():
            test.stub(step, outcome)
        try:
            async with test:
                self._hold_back()
                failure = await self._drive()
                if not failure:
                    view = await explorer.flow.get_run(self.run_id)
                for task in self.on_the_way.values():
                    task.cancel()
        except DivergedError as error:
            failure = f"its replay diverged: {error}"
        except StuckError as error:
            failure = str(error)
        return self._outcome(view), failure or self.refused

    def _hold_back(self) -> None:
        """Let what was held back come when nothing else can happen any more."""
        for move in self.schedule:
            if move.kind == "hold":
                due = Due("send", move.event)
                self.test.clock.call_later(_LAST_S, lambda due=due: self.hands.do(due))  # type: ignore[misc]

    async def _drive(self) -> str:
        """Trigger the run and do what is due until it has ended; return what went wrong."""
        ending = asyncio.ensure_future(self._ended())
        ending.add_done_callback(heard)
        hands = self.hands
        try:
            while not ending.done():
                waking = asyncio.ensure_future(hands.woken.wait())
                both: set[asyncio.Future[Any]] = {ending, waking}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                hands.woken.clear()
                while hands.due:
                    await self._do(hands.due.popleft())
                if hands.too_many:
                    return f"it has not ended after {_RECORDS_MAX} records"
            ending.result()
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)
        return ""

    async def _ended(self) -> None:
        while True:
            with contextlib.suppress(UnavailableError, OutcomeUnknownError):
                # Taken: its record is on disk, though the answer was lost.
                with contextlib.suppress(ConflictError):
                    await self.test.trigger(
                        self.explorer.workflow, self.explorer.input, run_id=_RUN_ID
                    )
                break
            await self.test.settle()
        await self._until_its_end()
        if self._fork_from:
            await self._fork()
            await self._until_its_end()

    async def _until_its_end(self) -> None:
        while True:
            try:
                await self.test.result(self.run_id)
            except (RunFailedError, RunCancelledError):
                if self.retried or not self._retries:
                    return
                await self._retry()
            except (UnavailableError, OutcomeUnknownError):
                # Killed just behind its end.
                await self.test.settle()
            else:
                return

    async def _fork(self) -> None:
        """Fork the run, once; whom a kill leaves without an answer looks whether there is one."""
        self.hands.tell(f"somebody forks the run from {self._fork_from}")
        flow = self.explorer.flow
        # What it waits for again comes again.
        self.held.clear()
        self.sent = dict.fromkeys(self.explorer.events, "not sent")
        while self.run_id == _RUN_ID:
            asking = await self._asked(flow.fork(_RUN_ID, self._fork_from, reason="explored"))
            if asking is not None:
                with contextlib.suppress(UnavailableError, OutcomeUnknownError):
                    self.run_id = asking.result().id
                    return
            await self.test.settle()
            with contextlib.suppress(UnavailableError, OutcomeUnknownError):
                for run in (await flow.list_runs()).runs:
                    if run.lineage and run.lineage.run_id == _RUN_ID:
                        self.run_id = run.id

    async def _do(self, due: Due) -> None:
        if due.kind == "kill":
            await self._kill()
        elif due.kind == "cancel":
            await self._cancel()
        elif due.kind == "pause":
            await self._pause()
        elif due.kind == "resume":
            await self._resume()
        elif self.sent[due.event] == "not sent" and due.event not in self.on_the_way:
            self.on_the_way[due.event] = asyncio.ensure_future(self._send(due.event))

    async def _cancel(self) -> None:
        """Cancel the run; whom a kill leaves without an answer cancels it again."""
        if not self._cancels:
            self.hands.tell("somebody cancels the run")
        self._cancels = True
        asking = await self._asked(self.explorer.flow.cancel(self.run_id, "explored"))
        if asking is None:
            self.hands.do(Due("cancel"))
            return
        self.moved += 1
        with contextlib.suppress(ApiError):
            asking.result()
            self.cancelled = True

    async def _asked(self, act: Coroutine[Any, Any, Any]) -> asyncio.Future[Any] | None:
        """Return what the act came to; None where a kill leaves who asked without an answer."""
        asking = asyncio.ensure_future(act)
        asking.add_done_callback(heard)
        while not asking.done() and not self.hands.dying:
            waking = asyncio.ensure_future(self.hands.woken.wait())
            both: set[asyncio.Future[Any]] = {asking, waking}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            waking.cancel()
            self.hands.woken.clear()
        if asking.done():
            return asking
        asking.cancel()
        return None

    async def _pause(self) -> None:
        """Pause the run; it goes on when nothing moves any more, whatever happens meanwhile."""
        if not self._pauses:
            self.hands.tell("somebody pauses the run")
        self._pauses = True
        asking = await self._asked(self.explorer.flow.pause(self.run_id, "explored"))
        if asking is None:
            self.hands.do(Due("pause"))
            return
        self.moved += 1
        with contextlib.suppress(ApiError):
            asking.result()
            self.paused = True
        # Also where the answer is that it is paused: that of before was lost.
        self.hands.do(Due("resume"))

    async def _resume(self) -> None:
        await self.test.settle()
        asking = await self._asked(self.explorer.flow.resume(self.run_id, "explored"))
        if asking is None:
            self.hands.do(Due("resume"))
            return
        with contextlib.suppress(ApiError):
            asking.result()
            self.hands.tell("somebody let the run go on")
            self.paused = True

    async def _retry(self) -> None:
        """Retry the run, once; whom a kill leaves without an answer asks again."""
        self.hands.tell("somebody retries the run")
        while not self.retried:
            asking = await self._asked(self.explorer.flow.retry(_RUN_ID, "explored"))
            if asking is None:
                await self.test.settle()
                continue
            try:
                asking.result()
            except (UnavailableError, OutcomeUnknownError):
                await self.test.settle()
            except ConflictError:
                # It lives: only the answer was lost.
                self.retried = True
            else:
                self.retried = True

    async def _send(self, label: str) -> None:
        """Send the event; who does not hear that it arrived sends it again."""
        event, payload = self.explorer.events[label]
        self.hands.tell(f"somebody sends {event}")
        try:
            await self.explorer.flow.notify(event, payload)
            self._answered(label, "reached")
        except EventNotFoundError:
            self.hands.tell(f"{event} reached nobody (404): it is lost")
            self._answered(label, "lost")
        except (UnavailableError, OutcomeUnknownError):
            # Sent again after the restart.
            pass
        except ApiError as error:
            self._answered(label, "lost")
            self.refused = f"the event {event} was refused: {error.message}"
        finally:
            self.on_the_way.pop(label, None)

    def _answered(self, label: str, how: str) -> None:
        self.sent[label] = how
        self.moved += any(move.event == label and move.at for move in self.schedule)

    async def _kill(self) -> None:
        hands = self.hands
        if hands.too_many:
            return
        await hands.on_disk()
        self.kills += 1
        self.hasty |= self.moved < hands.asked
        again = [Due("send", label) for label in self.on_the_way]
        for task in self.on_the_way.values():
            task.cancel()
        self.on_the_way.clear()
        # Who sends, or cancels, outlives the process: it is done after the restart.
        hands.due = deque([*again, *(due for due in hands.due if due.kind != "kill")])
        await self.test.crash(power_cut=True)
        hands.look()

    def _outcome(self, view: RunView | None) -> Outcome:
        result = error = None
        if view is not None and view.result is not UNSET:
            result = msgspec.json.decode(view.result)
        if view is not None and view.error is not UNSET:
            error = msgspec.json.decode(view.error)
        return Outcome(
            schedule=text_of(self.schedule),
            run_id=self.run_id,
            status="not ended" if view is None else view.status,
            result=result,
            error=error,
            steps=[] if view is None else seen_steps(view),
            attempts=list(self.hands.attempts),
            sent=dict(self.sent),
            cancelled=self.cancelled,
            kills=self.kills,
            story=self.hands.story,
            records=self.hands.groups,
            hasty=self.hasty,
            paused=self.paused,
            retried=self.retried,
            forked=self.run_id != _RUN_ID,
        )
