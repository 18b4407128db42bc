"""What clients do, and how the ledger hears of it.

A client calls the engine as the HTTP layer does and tells the ledger what it is answered. Refusals
that promise something (`NOT_FOUND`, `CONFLICT`) are answers too; `UNAVAILABLE` and
`OUTCOME_UNKNOWN` promise nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, get_args

from stepflow.clock import next_pass
from stepflow.engine.protocol import RunFilter
from stepflow.errors import (
    ApiError,
    ConflictError,
    EventNotFoundError,
    OutcomeUnknownError,
    RateLimitedError,
    RunNotFoundError,
    UnavailableError,
)
from stepflow.model.run import RunStatus
from tests.sim.answers import ANCHORED, NOTHING
from tests.sim.program import START_EVENT, WORKFLOW

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from stepflow.engine.local import LocalEngine
    from stepflow.model.views import RunPage, RunView
    from tests.sim.answers import Answers
    from tests.sim.ledger import Ledger
    from tests.sim.loop import SimClock
    from tests.sim.plan import Action

__all__ = ["Clients"]

_NOTHING_PROMISED: Final = (UnavailableError, OutcomeUnknownError)
_PAGE: Final = 1000


class Clients:
    """All clients of one life."""

    def __init__(
        self, engine: LocalEngine, ledger: Ledger, answers: Answers, clock: SimClock, disk: Any
    ) -> None:
        self.engine = engine
        self.ledger = ledger
        self.answers = answers
        self.clock = clock
        self.disk = disk
        self._number = 0

    async def act(self, action: Action) -> None:
        """Do what the plan says, and tell the ledger what came of it."""
        for _ in range(action.passes):
            await next_pass()
        try:
            await getattr(self, f"_{action.kind}")(action)
        except _NOTHING_PROMISED as error:
            self.ledger.note(action.kind, type(error).__name__)
        except ApiError as error:
            self.ledger.wrong(f"{action} was answered {error!r}")

    def _target(self, action: Action) -> str | None:
        order = self.answers.order
        return order[action.n % len(order)] if order else None

    # ------------------------------------------------------------ acting

    async def _trigger(self, action: Action) -> None:
        body = json.dumps({"p": action.n}).encode()
        options: dict[str, Any] = {}
        key = action.key if action.flags in {"idem", "twice"} else None
        if key is not None:
            options["idempotency_key"] = f"key-{key}"
        if action.flags == "delay":
            options["delay_ms"] = action.ms
        chosen = f"run_chosen{action.key:08d}" if action.flags == "id" else None
        if chosen is not None:
            await self._trigger_as(chosen, action.n, body)
            return
        if key is not None:
            self.answers.idem_programs.setdefault(key, set()).add(action.n)
        calls = [self._trigger_once(action, body, key, options)]
        if action.flags == "twice":
            # An impatient client, or a proxy that tries again.
            calls.append(self._trigger_once(action, body, key, options))
        await asyncio.gather(*calls)

    async def _trigger_once(
        self, action: Action, body: bytes, key: int | None, options: dict[str, Any]
    ) -> None:
        asked_s = self.clock.now_s
        try:
            run_id = await self.engine.trigger(WORKFLOW, body, **options)
        except ConflictError:
            if key is None or not self.answers.idem_programs[key] - {action.n}:
                raise
            self.ledger.note("another input", key)
            return
        self.answers.triggered(run_id, action.n, key=key)
        if action.flags == "delay":
            self.ledger.runs[run_id].not_before_s = asked_s + action.ms / 1000

    async def _trigger_as(self, run_id: str, program: int, body: bytes) -> None:
        """Start a run under an id that the client chose: for ever taken, or never."""
        answers = self.answers
        before = self.ledger.runs.get(run_id)
        if run_id in answers.tried and (
            answers.retention or (before is not None and before.purge_asked)
        ):
            # The id may be free again: nothing is to be said of it.
            return
        was_known = before is not None and before.known
        answers.tried.setdefault(run_id, 0)
        answers.tried[run_id] += 1
        try:
            await self.engine.trigger(WORKFLOW, body, run_id=run_id)
        except ConflictError:
            self._taken(run_id, program)
            return
        except UnavailableError:
            # Certainly not done.
            answers.tried[run_id] -= 1
            raise
        if was_known:
            self.ledger.wrong(f"{run_id} was there, and was started once more")
        answers.triggered(run_id, program)

    def _taken(self, run_id: str, program: int) -> None:
        if self.answers.heard():
            self.ledger.note("taken", run_id)
            self.answers.tried[run_id] -= 1
            if run_id not in self.ledger.runs and not self.answers.tried[run_id]:
                self.ledger.wrong(f"{run_id} is taken, and nobody started it")

    async def _many(self, action: Action) -> None:
        body = json.dumps({"p": action.n}).encode()
        for run_id in await self.engine.trigger_many(WORKFLOW, [body, body, body]):
            if isinstance(run_id, ApiError):
                self.ledger.wrong(f"trigger_many was answered {run_id!r}")
            else:
                self.answers.triggered(run_id, action.n)

    async def _notify(self, action: Action) -> None:
        event = f"kept-{action.n % 2}" if action.flags == "kept" else f"event-{action.n % 3}"
        to = self._target(action) if action.flags == "to" else None
        await self.notify(event, to)

    async def notify(self, event: str, to: str | None = None) -> int | None:
        """Send an event of its own payload; return how many it reached, None for unknown."""
        self._number += 1
        payload = f"{event} {self.ledger.life}.{self._number}"
        self.answers.sent(payload, event, to or "")
        body = json.dumps(payload).encode()
        try:
            count = await self.engine.notify(event, body, run_id=to)
        except EventNotFoundError:
            count = 0
        except RateLimitedError:
            return None
        self.answers.notified(payload, count)
        return count

    async def _begin(self, action: Action) -> None:
        count = await self.engine.notify(START_EVENT, b'"go"')
        if self.answers.heard() and count != 1:
            self.ledger.wrong(f"the event that begins a run has begun {count}")

    async def _cancel(self, action: Action) -> None:
        run_id = self._target(action)
        if run_id is None:
            return
        run = self.ledger.runs[run_id]
        run.cancel_asked = run.touched = True
        known = self.answers.known(run_id)
        try:
            self.answers.cancelled(await self.engine.cancel(run_id), known)
        except RunNotFoundError:
            self.answers.not_found(run_id)
        except ConflictError as error:
            if self.answers.heard() and run.cancel_told and run.ended is None:
                self.ledger.note("ended already", run_id, error.message)

    async def _purge(self, action: Action) -> None:
        run_id = self._target(action)
        if run_id is None:
            return
        run = self.ledger.runs[run_id]
        was_asked, run.purge_asked = run.purge_asked, True
        had_ended = run.ended is not None
        try:
            await self.engine.purge(run_id)
        except RunNotFoundError:
            self.answers.not_found(run_id)
        except ConflictError:
            run.purge_asked = was_asked
            if self.answers.heard() and had_ended:
                self.ledger.wrong(f"{run_id} is said to live, it had ended as {run.ended}")
        else:
            if self.answers.heard():
                self.ledger.note("purged", run_id)
                run.gone = True
                if run.program == ANCHORED and not run.touched:
                    self.ledger.wrong(f"{run_id} was purged, though it cannot have ended")

    # ------------------------------------------------------------ reading

    async def _read(self, action: Action) -> None:
        run_id = self._target(action)
        if run_id is not None:
            await self.read(run_id)

    async def read(self, run_id: str) -> RunView | None:
        """Read one run."""
        known = self.answers.known(run_id)
        try:
            view = await self.engine.get_run(run_id)
        except RunNotFoundError:
            self.answers.not_found(run_id)
            return None
        self.answers.view(view, known)
        return view

    async def _wait(self, action: Action) -> None:
        run_id = self._target(action)
        if run_id is None:
            return
        known = self.answers.known(run_id)
        try:
            view = await self.engine.wait(run_id)
        except RunNotFoundError:
            self.answers.not_found(run_id)
            return
        self.answers.view(view, known)
        if view.status not in {"completed", "failed", "cancelled"} and self.answers.heard():
            self.ledger.wrong(f"{run_id}: its end was waited for, and it is {view.status}")

    async def _list(self, action: Action) -> None:
        where = RunFilter(status=frozenset({"running"})) if action.n % 2 else RunFilter()
        cursor: str | None = None
        for _ in range(2):
            known = self.answers.all_known()
            page = await self.engine.list_runs(where, limit=3, cursor=cursor)
            for row in page.runs:
                self.answers.view(row, known.get(row.id, NOTHING))
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _look(self, _: Action) -> None:
        await self.look()

    def _count(self, page: RunPage) -> None:
        """What the page says of all runs is what counting its rows says."""
        counted = Counter(row.status for row in page.runs)
        said = page.counts and {name: getattr(page.counts, name) for name in get_args(RunStatus)}
        if page.next_cursor is None and counted != Counter(said):
            self.ledger.wrong(f"there are {dict(counted)} runs, and the list says {said}")

    async def look(self) -> dict[str, RunView]:
        """Read everything at one moment and compare it."""
        engine = self.engine
        known = self.answers.all_known()
        ids = [r for r in self.answers.order if not self.ledger.runs[r].gone]
        calls: list[Awaitable[Any]] = [
            engine.waiting_events(),
            engine.list_runs(RunFilter(), limit=_PAGE, cursor=None),
            *map(engine.get_run, ids),
        ]
        # Tasks made in one turn begin in one pass: their answers are of one moment.
        waiting, page, *found = await asyncio.gather(*calls, return_exceptions=True)
        if isinstance(waiting, BaseException):
            raise waiting
        if isinstance(page, BaseException):
            raise page
        views: dict[str, RunView] = {}
        for run_id, view in zip(ids, found, strict=True):
            if isinstance(view, RunNotFoundError):
                self.answers.not_found(run_id)
            elif isinstance(view, BaseException):
                raise view
            else:
                views[run_id] = view
                self.answers.view(view, known[run_id])
        for row in page.runs:
            self.answers.view(row, known.get(row.id, NOTHING))
        self._count(page)
        strangers = {row.id for row in page.runs} - views.keys()
        if not strangers:
            # Somebody's run that nobody was told of may be there: it is known from now on.
            self.answers.compare(page.runs, views, waiting)
        return views

    async def _stream(self, action: Action) -> None:
        run_id = self._target(action)
        if run_id is None:
            return
        run = self.ledger.runs[run_id]
        after = {"": 0, "resume": run.last_row // 2, "beyond": run.last_row + 100}[action.flags]
        await self.stream(run_id, after)

    async def stream(self, run_id: str, after: int, *, follow: bool = True) -> None:
        """Read a run's stream, to its end or as far as it goes now."""
        run = self.ledger.runs[run_id]
        try:
            stream = await self.engine.stream(run_id, after or None)
        except RunNotFoundError:
            self.answers.not_found(run_id)
            return
        # Past the end it begins with all that there is, and goes on from there.
        cursor = after if after <= run.last_row else stream.cursor
        try:
            while True:
                for event in stream.read_events(3):
                    self.answers.row(run_id, cursor, event)
                    cursor = event.id or cursor
                if stream.ended or not follow:
                    break
                await stream.changed()
            if not follow:
                self._rest(run_id, stream, cursor)
            elif stream.finished:
                self.answers.caught_up(run_id, stream.cursor, whole=True)
        finally:
            stream.close()

    def _rest(self, run_id: str, stream: Any, cursor: int) -> None:
        while events := stream.read_events(100):
            for event in events:
                self.answers.row(run_id, cursor, event)
                cursor = event.id or cursor
        self.answers.caught_up(run_id, stream.cursor, whole=stream.finished)

    # ------------------------------------------------------------ the world around

    async def _snapshot(self, _: Action) -> None:
        self.ledger.note("snapshot", await self.engine.snapshot())

    async def _jump(self, action: Action) -> None:
        self.clock.jump(action.ms)
        self.ledger.note("jump", action.ms)

    async def _full(self, _: Action) -> None:
        self.disk.full = self.ledger.stalls = True

    async def _room(self, _: Action) -> None:
        self.disk.full = False
