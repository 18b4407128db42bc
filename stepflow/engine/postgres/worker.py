"""One worker: claims runs, drives them, and gives them up when they sleep.

::

    claim ──► load ──► adopt ──► letters, timers, body ──► suspend, end or release
      ▲                              │
      └── work was announced,        └── heartbeat: a third of the claim's time
          or a while has passed

A run that waits, and has no task any more, is put to sleep in the database until somebody writes to
it or shortly before its next timer is due: whoever claims it then has the timer in memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg

from stepflow.clock import HybridTime
from stepflow.engine.postgres.claims import CLAIM, Claim, channel_of, claim_of
from stepflow.engine.postgres.commit import Committer
from stepflow.engine.postgres.database import end, rest
from stepflow.engine.postgres.delivering import deliver
from stepflow.engine.postgres.firing import Firing, Starter
from stepflow.engine.postgres.gate import first_ask
from stepflow.engine.postgres.history import load
from stepflow.engine.postgres.inbox import (
    AdmittedLetter,
    EventLetter,
    decode_event,
    decode_letter,
    wanted,
)
from stepflow.engine.postgres.journal import ClusterJournal
from stepflow.engine.postgres.limits import Gatekeeper
from stepflow.engine.postgres.part import said
from stepflow.engine.postgres.passing import CLEAN, KEPT_MS, Passing
from stepflow.engine.postgres.retention import ClusterRetention
from stepflow.engine.postgres.rows import Consumed, WaitsAgain
from stepflow.engine.postgres.supervisor import ClusterSupervisor
from stepflow.engine.postgres.traced import Spans
from stepflow.engine.postgres.waittypes import WaitTypes
from stepflow.entropy import Entropy, system_entropy
from stepflow.errors import ApiError
from stepflow.journal.suspects import SUSPICIONS_MAX
from stepflow.model import records as rec
from stepflow.model.run import RunState
from stepflow.runtime import messages as msg
from stepflow.runtime.children import ended_child
from stepflow.runtime.supervisor import sleeps

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from stepflow.authoring.registry import Registry
    from stepflow.clock import Clock
    from stepflow.config import Settings
    from stepflow.engine.postgres.bell import Bell
    from stepflow.engine.postgres.database import Database
    from stepflow.engine.postgres.delivering import Row
    from stepflow.engine.postgres.inbox import Letter
    from stepflow.runtime.actor import RunActor

__all__ = ["Worker"]

_log: Final = logging.getLogger("stepflow.worker")
_HOST_MAX: Final = 30
"""Its channel's name has room for so much of the host's."""
_CLAIMED_AT_ONCE: Final = 100
_HELD_MAX: Final = 5_000
"""A worker claims no more while it holds so many runs."""
_OWN_MAX: Final = 500
"""With so many runs it claims no more just because they were started here."""
_AHEAD_S: Final = 2
"""A sleeping run is claimed so long before its timer is due."""
_PRESENT_S: Final = 4.0
_APPEAR: Final = "select stepflow.appear(%s, %s, %s)"
_HOUSEKEEPING_S: Final = 1.0
_MISSING_S: Final = 10
"""A run whose code is not here is offered to others again after so long."""
_PARKED_S: Final = 60
_CLEANED_S: Final = 60.0
_WAKES_KEPT_S: Final = 3600


class Worker:
    """What one process does for the runs of the cluster."""

    def __init__(
        self,
        database: Database,
        bell: Bell,
        registry: Registry,
        settings: Settings,
        clock: Clock,
        *,
        claim_timeout_s: int,
        poll_s: float,
        entropy: Entropy | None = None,
    ) -> None:
        self.id = f"{socket.gethostname()[:_HOST_MAX]}-{os.getpid()}-{os.urandom(4).hex()}"
        self._database = database
        self._bell = bell
        self._settings = settings
        self._clock = clock
        self._claim_timeout_s = claim_timeout_s
        self._poll_s = poll_s
        self._entropy = entropy or system_entropy()
        self.passing = Passing(clock, self._commits)
        self._committer = Committer(
            database,
            self.id,
            self._state_of,
            self._type_of,
            self.passing,
            partial(first_ask, registry),
        )
        self.journal = ClusterJournal(
            settings, clock, store_id=database.store_id, store=self._committer.store
        )
        self.sup = ClusterSupervisor(
            self.journal,
            registry,
            settings,
            clock,
            HybridTime(clock),
            send=self._send,
            look_for=self._look_for,
            passing=self.passing,
            entropy=entropy,
        )
        starter = Starter(registry, self.sup.time, self.sup.entropy, Spans(), self._started)
        self.firing = Firing(database, registry, clock, starter)
        self.passing.write = partial(self._committer.pass_on, self.journal.holders)
        self.gatekeeper = Gatekeeper(database, registry, clock)
        self.retention = ClusterRetention(database, settings, clock)
        self.journal.on_lost = self._lost
        self.journal.on_ended = self._ended
        self._work = asyncio.Event()
        self._told = 0
        """For so many runs it was told that there is work, since it has last looked."""
        self._letters = asyncio.Event()
        self.waits = WaitTypes(database, registry, self.sup, self._letters.set)
        self._written_to: set[str] = set()
        self._sweep_s = 0.0
        """When it looks for work by itself."""
        self._passed_by: set[str] = set()
        """Who was written to since the last claim began: it may have been of them."""
        self._all_letters = False
        self._open: set[tuple[str, int]] = set()
        """Letters that were given to their actors, until what came of them is written."""
        self._conditions: dict[str, tuple[str, str]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False
        self._said_room: bool | None = None
        self._say_again_s = 0.0
        self.on_end: Callable[[str, RunState], None] | None = None
        """Told of a run whose end is written, with all that it was."""
        self.claimed_total = 0
        self.taken_over_total = 0
        self.lost_total = 0

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Begin to claim."""
        self._bell.channel = channel_of(self.id)
        self._bell.on_work = self.tell
        self._bell.on_inbox = self._heard
        self._bell.on_audience = self.passing.heard
        self._bell.on_timed = self.ring
        for job in (
            *(self._claiming, self._reading, self._appearing, self._beating),
            *(self._keeping, self._cleaning, self.firing.look, self.gatekeeper.look),
        ):
            self._tasks.append(asyncio.ensure_future(self._again_and_again(job)))

    def ring(self) -> None:
        """Something that begins by the clock was changed, or a workflow was registered."""
        self.gatekeeper.ring()
        self.firing.ring()

    async def stop(self) -> None:
        """Put every run to sleep and give the claims back."""
        # A query that is cancelled may say so as an error of the database.
        self._ending = True
        await end(*self._tasks)
        self._tasks = []
        await self._disappear()
        await self.sup.stop()
        await self.journal.close(clean=True)
        await self.passing.stop()
        await self._committer.close()
        held = dict(self.journal.holders)
        if held:
            try:
                await self._database.act(
                    "select stepflow.release(%s::text[], %s::uuid[])",
                    list(held),
                    list(held.values()),
                )
            except ApiError:
                _log.warning("the claims could not be given back; they expire by themselves")

    async def _again_and_again(self, job: Callable[[], Coroutine[object, object, None]]) -> None:
        """Do a job over and over; one that fails is tried again after a while."""
        while not self._ending:
            try:
                await job()
            except ApiError as error:
                _log.warning("%s: %s", job.__name__.strip("_"), error.message)
                await rest(self._clock, self._poll_s)
            except Exception:  # noqa: BLE001  border: one job's failure must not stop the worker
                _log.exception("%s failed", job.__name__.strip("_"))
                await rest(self._clock, self._poll_s)

    def _started(self, workflow: str) -> None:
        """A run was started by its schedule."""
        self.sup.started_total += 1
        self.sup.started_by[workflow] += 1

    def _state_of(self, run_id: str) -> RunState | None:
        actor = self.sup.runs.get(run_id)
        return actor.peek() if actor is not None else None

    def _commits(self) -> bool:
        """Whether a group commit is under way, or comes in a moment."""
        return self.journal.strict_lsn > self.journal.durable_lsn

    def _type_of(self, run_id: str, key: str) -> str | None:
        return self.waits.type_of(run_id, key)

    # ------------------------------------------------------------ claims

    def tell(self, runs: int) -> None:
        """There is work for it, for so many runs; 0: nobody knows how much."""
        self._told = min(self._told + (runs or _CLAIMED_AT_ONCE), _CLAIMED_AT_ONCE)
        self._work.set()

    @property
    def has_room(self) -> bool:
        """Whether it takes more runs."""
        full = len(self.sup.runs) >= _HELD_MAX
        return not (full or self.sup.stopping or self._ending or self.journal.stalled)

    @property
    def takes_its_own(self) -> bool:
        """Whether it runs what is started in its process; else it is told to who has time."""
        counted = self.gatekeeper.ready.is_set()
        return counted and self.has_room and len(self.sup.runs) < _OWN_MAX

    def claim_values(self) -> tuple[object, ...]:
        """Return what `stepflow.claim` takes, for all that there is."""
        return self.id, self._claim_timeout_s, _CLAIMED_AT_ONCE

    def take_soon(self, claims: Sequence[Claim]) -> None:
        """Take what was claimed beside."""
        if claims:
            self.sup.spawn(self._take(claims))
        if len(claims) == _CLAIMED_AT_ONCE:
            self.tell(0)

    async def _claiming(self) -> None:
        """Claim once; then wait until it is told of work, or a while has passed.

        One claim is under way at a time: what it is told of meanwhile goes with the next, and where
        it was told of so many runs, it takes so many. So runs cost no more claims than they are,
        fewer the more there are at a time, and workers that were not told do not ask.
        """
        # What was under way before its limits were there is counted first.
        await self.gatekeeper.ready.wait()
        await self.waits.look(again=False)
        now_s = self._clock.monotonic_s()
        count, self._told = self._told, 0
        if now_s >= self._sweep_s:
            # Also where it is told all the time: of what has expired, or is due, nobody tells.
            count = _CLAIMED_AT_ONCE
            # Not all workers in the same moment.
            self._sweep_s = now_s + self._poll_s * (0.75 + 0.25 * self._entropy.random())
        self._work.clear()
        self._passed_by.clear()
        if count and self.has_room:
            rows = await self._database.act(CLAIM, self.id, self._claim_timeout_s, count)
            if rows:
                await self._take([claim_of(row) for row in rows])
            if len(rows) >= _CLAIMED_AT_ONCE:
                # There was no end of it.
                self._told = _CLAIMED_AT_ONCE
                return
        left_s = self._sweep_s - self._clock.monotonic_s()
        timer = self._clock.call_later(max(left_s, 0.0), self._work.set)
        try:
            await self._work.wait()
        finally:
            timer.cancel()

    async def _take(self, claims: Sequence[Claim]) -> None:
        run_ids = [claim.run_id for claim in claims]
        for run_id in run_ids:
            # Our own claim of it may have been lost a moment ago.
            self._give_up(run_id)
        for run_id in run_ids:
            if (gone := self.sup.leaving.get(run_id)) is not None:
                await gone.wait()
        self.claimed_total += len(claims)
        letters = [letter for claim in claims for letter in claim.letters]
        unread = [claim.run_id for claim in claims if claim.line is None]
        states: dict[str, RunState] = {}
        if unread:
            states, more = await self._read_runs(unread)
            letters = [letter for letter in letters if letter[0] not in states] + more
        # In one turn, letters first: what they say has happened before any timer that is due.
        for claim in claims:
            line = claim.line
            state = states.get(claim.run_id) if line is None else RunState.unpack(line)
            if state is not None:
                self._adopt(claim, state)
        self._hand_out(letters)
        for run_id in run_ids:
            actor = self.sup.runs.get(run_id)
            if actor is not None:
                self.sup.go_on(actor)
        # Written to since the claim was made, before anybody here could know that they are ours.
        self._heard([run_id for run_id in run_ids if run_id in self._passed_by])

    async def _read_runs(
        self, run_ids: Sequence[str]
    ) -> tuple[dict[str, RunState], list[tuple[Any, ...]]]:
        """Return runs with their letters. Nobody else has them: it is tried until it succeeds."""
        while True:
            try:
                return await load(self._database, run_ids), await self._letters_to(run_ids)
            except ApiError:
                await rest(self._clock, self._poll_s)

    def _adopt(self, claim: Claim, state: RunState) -> None:
        self.journal.holders[claim.run_id] = claim.holder
        self._conditions[claim.run_id] = claim.condition, claim.reason
        actor = self.sup.adopt(state)
        self.taken_over_total += claim.suspicions > 0
        if state.finished or actor.condition is not None:
            return
        if claim.condition == "quarantined":
            self.sup.set_aside(actor, claim.reason)
        elif claim.suspicions >= SUSPICIONS_MAX:
            reason = (
                f"SFW402 run {claim.run_id} set aside: its worker has died {claim.suspicions} "
                f"times in a row while it ran; mend its code, then `stepflow runs resume "
                f"{claim.run_id}`, or cancel it"
            )
            _log.error("%s", reason)
            self.sup.set_aside(actor, reason)
        self.waits.adopted(actor)

    def _give_up(self, run_id: str) -> None:
        self.journal.lose(run_id)
        actor = self.sup.runs.get(run_id)
        if actor is not None:
            self.sup.remove(actor)

    def _lost(self, run_id: str, ours: bool) -> None:  # noqa: FBT001  as the journal tells it
        """Records of the run were dropped: what is in memory is not what is written."""
        self.lost_total += 1
        if ours:
            _log.info("%s: an event was faster than its timeout, it is read again", run_id)
        else:
            _log.warning("%s: its claim was lost, another worker goes on with it", run_id)
        actor = self.sup.runs.get(run_id)
        if actor is not None:
            self.sup.remove(actor)
        self._open = {row for row in self._open if row[0] != run_id}
        if ours:
            self.sup.spawn(self._take_again(run_id))

    async def _take_again(self, run_id: str) -> None:
        rows = await self._database.rows(
            "select holder from stepflow.runs where run_id = %s and worker = %s", run_id, self.id
        )
        if rows and rows[0][0] is not None:
            await self._take([Claim(run_id, rows[0][0])])

    def _ended(self, run_id: str) -> None:
        """The run's end is written."""
        self.journal.holders.pop(run_id, None)
        self._conditions.pop(run_id, None)
        actor = self.sup.runs.get(run_id)
        if actor is not None:
            if self.on_end is not None:
                self.on_end(run_id, actor.peek())
            self.sup.remove(actor)

    async def _appearing(self) -> None:
        """Say every so often, and when it changes, that work may be told here."""
        await self.gatekeeper.ready.wait()
        now_s = self._clock.monotonic_s()
        if self.has_room != self._said_room or now_s >= self._say_again_s:
            self._said_room = self.has_room
            self._say_again_s = now_s + _PRESENT_S
            await self._database.act(_APPEAR, self.id, self._said_room, 2.5 * _PRESENT_S)
        await rest(self._clock, min(self._poll_s, _PRESENT_S))

    async def _disappear(self) -> None:
        try:
            await self._database.act(_APPEAR, self.id, False, None)
        except ApiError:
            _log.warning("others could not be told that this worker has gone; they will notice")

    async def _beating(self) -> None:
        await rest(self._clock, max(self._claim_timeout_s / 3, 0.3))
        held = dict(self.journal.holders)
        lost = await self._database.act(
            "select lost from stepflow.heartbeat(%s, %s::text[], %s::uuid[], %s)",
            self.id,
            list(held),
            list(held.values()),
            self._claim_timeout_s,
        )
        for (run_id,) in lost:
            if self.journal.holders.get(run_id) == held[run_id]:
                self.journal.lose(run_id)

    # ------------------------------------------------------------ letters

    def _heard(self, run_ids: Sequence[str] | None) -> None:
        if run_ids is None:
            self._all_letters = True
            self._letters.set()
            return
        mine = [run_id for run_id in run_ids if run_id in self.journal.holders]
        self._passed_by.update(run_ids)
        if mine:
            self._written_to.update(mine)
            self._letters.set()

    async def _reading(self) -> None:
        timer = self._clock.call_later(self._poll_s, self._look_at_all)
        try:
            await self._letters.wait()
        finally:
            timer.cancel()
        self._letters.clear()
        run_ids = list(self.journal.holders) if self._all_letters else list(self._written_to)
        self._all_letters = False
        self._written_to.clear()
        if run_ids:
            self._hand_out(await self._letters_to(run_ids))

    def _look_at_all(self) -> None:
        self._all_letters = True
        self._letters.set()

    async def _letters_to(self, run_ids: Sequence[str]) -> list[tuple[Any, ...]]:
        return await self._database.rows(
            "select run_id, n, kind, body from stepflow.inbox where run_id = any(%s) order by n",
            list(run_ids),
        )

    def _hand_out(self, letters: Sequence[tuple[Any, ...]]) -> None:
        for run_id, n, kind, body in letters:
            actor = self.sup.runs.get(run_id)
            if actor is None or run_id not in self.journal.holders or (run_id, n) in self._open:
                continue
            if (
                actor.busy
                or not self.journal.has_room(len(body))
                or (
                    kind == "event"
                    and actor.session is None
                    and self.waits.meets(run_id, bytes(body))
                )
            ):
                # Decided later: what came of a letter is written with its record.
                self._written_to.add(run_id)
                self._clock.call_later(0.05, self._letters.set)
                continue
            self._open.add((run_id, n))
            self.journal.attach(Consumed(run_id, n))
            try:
                self._deliver(actor, kind, decode_letter(kind, bytes(body)))
            except (msgspec.MsgspecError, KeyError):
                _log.exception("%s: a letter cannot be read and is dropped: %s", run_id, kind)
            self.journal.after_effects(partial(self._open.discard, (run_id, n)))

    def _deliver(self, actor: RunActor, kind: str, letter: Letter) -> None:
        message = wanted(kind, letter)
        if message is None:
            if isinstance(letter, AdmittedLetter):
                self.sup.gate.let_in(actor)
                return
            assert isinstance(letter, EventLetter)
            if not actor.finished:
                self._event(actor, letter)
            return
        if isinstance(message, msg.ResumeAsked) and self.sup.aside.get(actor.id):
            actor.act(
                rec.RunResumed,
                crit=True,
                by=message.by,
                reason=message.reason,
                pending=actor.status == "pending",
                aside=True,
            )
            self.sup.release(actor)
            return
        if not actor.finished or isinstance(message, msg.RetryAsked):
            actor.tell(message)

    def _event(self, actor: RunActor, letter: EventLetter) -> None:
        payload = bytes(letter.payload)
        waiting = [
            call
            for call in actor.state.pending_calls()
            if call.kind == "event" and call.event == letter.event
        ]
        refused = self.sup.delivery.refusals(actor, actor.state, letter.event, payload)
        if refused and all(refused):
            _log.warning(
                "%s: event %r is refused by the wait's type: %s",
                actor.id,
                letter.event,
                refused[0],
            )
            for call in waiting:
                self.journal.attach(WaitsAgain(actor.id, call.key, call.event))
            return
        with self.sup.recorder.group():
            lsn = self.sup.recorder.write_event(letter.event, payload, 1, letter.by)
            actor.tell(msg.EventArrived(letter.event, lsn, payload))

    async def _send(self, run_id: str, token: str, event: str, body: bytes) -> int:
        async def ask(taking: list[str], refusing: list[str]) -> Row:
            rows = await self._database.act(
                """select reached, refused, unknown
                     from stepflow.send(%s, %s, %s, %s, %s, %s, %s::text[], %s::text[])""",
                run_id,
                token,
                event,
                body,
                self._settings.kept_events_max,
                self._settings.kept_bytes_max,
                taking,
                refusing,
            )
            return rows[0]

        payload = bytes(decode_event(body).payload)
        while True:
            try:
                reached, refusal = await deliver(self.waits.types, payload, ask)
            except ApiError:
                await rest(self._clock, self._poll_s)
            except psycopg.Error as error:
                # Refused, as by the local engine: recorded as having reached nobody.
                _log.warning("%s: event %r was refused: %s", run_id, event, said(error).message)
                return 0
            else:
                if refusal is not None and not reached:
                    _log.warning("%s: event %r was refused: %s", run_id, event, refusal.message)
                return reached

    async def _look_for(self, parent_id: str, key: str, child_id: str) -> msg.ChildFinished | None:
        del parent_id
        state = (await load(self._database, [child_id])).get(child_id)
        if state is not None and not state.finished:
            return None
        return ended_child(key, child_id, state)

    # ------------------------------------------------------------ sleep

    async def _keeping(self) -> None:
        await rest(self._clock, _HOUSEKEEPING_S)
        sup = self.sup
        if sup.stopping or self.journal.stalled:
            return
        sup.tidy()
        sup.pace.look()
        await sup.pack_ended()
        await sup.passivate_idle()
        await self._say_conditions()
        await self.waits.say()
        for run_id in list(self.journal.holders):
            actor = sup.runs.get(run_id)
            if actor is not None and self._may_sleep(actor):
                await self._suspend(actor)

    def _may_sleep(self, actor: RunActor) -> bool:
        if actor.session is not None or actor.busy or actor.lsn > self.journal.durable_lsn:
            return False
        if self.sup.gate.moves(actor.id) or self.waits.holds(actor.id):
            return False
        if any(row[0] == actor.id for row in self._open):
            return False
        state = actor.peek()
        if state.finished:
            # A letter made nothing of it.
            return True
        if actor.condition in {"parked", "quarantined", "missing-workflow"}:
            return True
        due = self._next_due(actor)
        return sleeps(state) and (not due or due - self.sup.time.now_ms() > 2 * _AHEAD_S * 1000)

    def _next_due(self, actor: RunActor) -> int:
        state = actor.peek()
        dues = [call.due for call in state.pending_calls()]
        delay = 0 if self.sup.gate.has_asked(actor.id) else state.due
        dues += [delay, state.deadline_ms, state.cancel_deadline_ms if state.cancelling else 0]
        return min(filter(None, dues), default=0)

    def _sleep_s(self, actor: RunActor) -> int | None:
        match actor.condition:
            case "missing-workflow":
                return _MISSING_S
            case "parked":
                return _PARKED_S
            case "quarantined":
                return None
            case _:
                due = self._next_due(actor)
                left_ms = due - self.sup.time.now_ms()
                return max(left_ms // 1000 - _AHEAD_S, 0) if due else None

    async def _suspend(self, actor: RunActor) -> None:
        holder = self.journal.holders[actor.id]
        if actor.finished:
            self._give_up(actor.id)
            await self._database.act(
                "select stepflow.finish(%s::text[], %s::text[])", [actor.id], ["null"]
            )
            return
        seconds = self._sleep_s(actor)
        # From now on nothing of it is decided here.
        self.sup.remove(actor)
        try:
            slept = await self._database.act(
                "select stepflow.suspend(%s, %s, %s)", actor.id, holder, seconds
            )
        except ApiError:
            # Nobody drives it here any more, so its claim must not be kept up: it expires.
            if self.journal.holders.get(actor.id) == holder:
                self.journal.lose(actor.id)
            raise
        if self.journal.holders.get(actor.id) != holder:
            return
        # Also where it was written to meanwhile: what is taken again has its claim anew.
        del self.journal.holders[actor.id]
        if slept[0][0]:
            self._conditions.pop(actor.id, None)
        else:
            await self._take_again(actor.id)

    async def _say_conditions(self) -> None:
        """Write what only this process knows of its runs."""
        changed: list[tuple[str, str, str]] = []
        for run_id in self.journal.holders:
            actor = self.sup.runs.awake_one(run_id)
            if actor is None:
                continue
            now = (actor.condition or "", actor.reason)
            if self._conditions.get(run_id, ("", "")) != now:
                self._conditions[run_id] = now
                changed.append((run_id, *now))
        if changed:
            await self._database.act(
                """update stepflow.runs r set condition = p.condition, reason = p.reason
                     from unnest(%s::text[], %s::text[], %s::text[]) as p(run_id, condition, reason)
                    where r.run_id = p.run_id""",
                *map(list, zip(*changed, strict=True)),
            )

    async def _cleaning(self) -> None:
        """Forget what is of no use to anybody: wake-ups that are over, runs past their limits."""
        await rest(self._clock, _CLEANED_S)
        await self.waits.look()
        await self._database.act(
            "select absurd.cleanup_events('stepflow', %s, 1000)", _WAKES_KEPT_S
        )
        await self._database.act(
            """delete from stepflow.inbox i using stepflow.runs r
                where r.run_id = i.run_id and r.task_id is null"""
        )
        await self._database.act(
            "select stepflow.trim_audit(%s, %s)",
            self._settings.audit_entries_max,
            self._settings.audit_bytes_max,
        )
        await self._database.act(
            "delete from stepflow.present where until < clock_timestamp() - interval '1 hour'"
        )
        await self._database.act("select stepflow.clean_gate()")
        now_ms = self._clock.wall_ms()
        await self._database.act(CLEAN, now_ms - KEPT_MS)
        await self._database.act("delete from stepflow.keys where expires_ms < %s", now_ms)
        await self.retention.sweep()
        await self._database.act(
            "select absurd.cleanup_tasks('stepflow', %s, 1000)",
            int(min(self._settings.completed_age_s, self._settings.failed_age_s)),
        )
