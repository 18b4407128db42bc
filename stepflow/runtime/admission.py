"""Who may begin: concurrency and rate limits, and the queue of the runs that wait for them.

A **bucket** is one limit and one value of its key: so many slots, or so many starts in a window.
A **lane** is a row of runs that need the very same buckets, oldest first: where its first cannot
begin, none of it can. Of the lanes that want the same bucket, the one whose turn was longest ago
goes first, so a tenant with ten thousand runs in the queue has one turn among the others'.

Nothing here is on disk but the times that a rate limit counts (model/rates.py): who holds a slot
follows from the runs that are under way and the limits that the present code has, who waits from
the runs that are pending. So a limit that a deploy changes counts what is there already.

====================  ==============================================================
a run begins          a record says so; its body begins when that is durable
a run ends            its slots are free when its end is durable: no crash shows one more
a child is called     it goes along on the slots of the run that awaits it
====================  ==============================================================

A run that is admitted and set aside, parked or without its workflow holds its slots: its half of
the work is done. `place` names it to whoever waits.
"""

from __future__ import annotations

import heapq
import logging
from bisect import bisect_left, insort
from collections import defaultdict
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from stepflow.authoring.limits import Limit, priority_of
from stepflow.clock import next_pass
from stepflow.errors import RateLimitedError
from stepflow.model import records as rec
from stepflow.model.rates import RateRow
from stepflow.runtime.circles import Circles
from stepflow.runtime.ending import RELEASE_TIMER, TIMEOUT_TIMER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stepflow.authoring.registry import Workflow
    from stepflow.model.rates import Rates
    from stepflow.model.run import RunState
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["ADMISSION", "Admission", "Door", "Place", "begin_run"]

_log = logging.getLogger("stepflow.admission")

ADMISSION: Final = "@admission"
"""Owner of this module's timers, in place of a run."""
_SMALL: Final = 4096
_HOLDERS_SHOWN: Final = 5
_HOLDERS_ASKED: Final = 2000
"""With more, no look for a circle comes to an end, and none is found."""
_AGAIN_S: Final = 5
_BUCKETS_SLACK: Final = 1000
_ROUND_MAX: Final = 100
"""Runs let in, in one go of the loop."""
_LANES_SLICE: Final = 5000
"""Lanes that a look at the queue counts in one go of the loop."""


class Place(NamedTuple):
    """Where a run stands in the queue, and for what."""

    position: int
    """From 1: so many would begin until it has, if all go in turn. 0 where nobody counted."""
    ahead: int
    limit: str
    kind: str
    key: str
    """JSON text; empty where the limit has no key."""
    free_at_ms: int
    """When a rate limit lets the next one begin; 0 for a limit of slots."""
    holders: tuple[str, ...]
    """The first few of the runs that have what it waits for."""


class Bucket:
    """One limit and one value of its key."""

    __slots__ = ("_armed_ms", "holders", "key", "lanes", "limit", "row", "waiting")

    def __init__(self, limit: Limit, key: str) -> None:
        self.limit = limit
        self.key = key
        self.holders: dict[str, set[str]] = {}
        """Slots: by the run that took one, the runs that are on it, awaited children too."""
        self.row = RateRow(limit.id, key, limit.per_ms)
        """Starts, of a rate limit."""
        self.lanes: dict[Lane, None] = {}
        """Those that need it and are not empty."""
        self.waiting: list[tuple[int, int, Lane]] = []
        """Those that found it full last, the one whose turn is longest ago first."""
        self._armed_ms = 0

    @property
    def name(self) -> str:
        """What its timers are called."""
        return f"{self.limit.id}\0{self.key}"

    def has_room(self, now_ms: int) -> bool:
        """Whether one more may begin."""
        if self.limit.kind == "rate":
            self.row.prune(now_ms)
            return len(self.row.times) < self.limit.count
        return len(self.holders) < self.limit.count

    def is_idle(self, now_ms: int) -> bool:
        """Whether nothing would be lost without it."""
        self.row.prune(now_ms)
        return not (self.holders or self.lanes or self.row.times)

    def arm(self, due_ms: int) -> bool:
        """Say whether a timer for then has to be set."""
        if self._armed_ms == due_ms:
            return False
        self._armed_ms = due_ms
        return True

    def fired(self) -> None:
        """Its timer has fired."""
        self._armed_ms = 0


class Lane:
    """Runs that need the same buckets, in the order in which they begin."""

    __slots__ = ("buckets", "full", "rows", "turn", "workflow")

    def __init__(self, workflow: str, buckets: tuple[Bucket, ...]) -> None:
        self.workflow = workflow
        self.buckets = buckets
        self.rows: list[tuple[int, int, int, str]] = []
        """Priority (the highest first), time it could begin, LSN of its start, id."""
        self.turn = 0
        """LSN at which it had its turn last, or came to have a run at all."""
        self.full: Bucket | None = None
        """The bucket that it found full."""

    def __lt__(self, other: Lane) -> bool:
        """Two stand in one place of a heap only where a run left the one, empty, for the other."""
        return bool(self.rows) < bool(other.rows)


class Door(NamedTuple):
    """What one run needs to begin."""

    lane: tuple[str, tuple[str, ...]]
    workflow: str
    buckets: tuple[Bucket, ...]
    lent: tuple[tuple[Bucket, str], ...]
    """Slots that runs have which await it: it goes along on theirs."""
    priority: int


class Admission:
    """All limits, and the queue."""

    __slots__ = (
        "_buckets",
        "_called",
        "_circles",
        "_lanes",
        "_left",
        "_limited",
        "_opened",
        "_sup",
        "_swept",
        "admitted_total",
        "queued",
        "seats",
        "waiting",
    )

    def __init__(self, sup: Supervisor) -> None:
        self._sup = sup
        self._buckets: dict[tuple[str, str, str], Bucket] = {}
        self._lanes: dict[tuple[str, tuple[str, ...]], Lane] = {}
        self._left: list[Bucket] = []
        """What a round that grew long has left for the loop's next pass."""
        self._opened = False
        """Nobody is let in before all who hold something are known."""
        self._limited: set[str] = set()
        """Workflows whose limits are counted."""
        self._swept = 0
        self.seats: dict[str, list[tuple[Bucket, str]]] = {}
        """Runs that hold slots: each with the run that took it."""
        self.waiting: defaultdict[str, int] = defaultdict(int)
        """How many are queued, by workflow."""
        self.queued: dict[str, tuple[Lane, tuple[int, int, int, str], Door]] = {}
        self.admitted_total = 0
        self._called: dict[str, None] = {}
        """Queued runs that their parents await: only these can close a circle."""
        self._circles = Circles(sup)

    # ------------------------------------------------------------ what a run needs

    def door(
        self,
        workflow: Workflow,
        data: bytes,
        *,
        exclusive: str = "",
        parent: str = "",
        parent_key: str = "",
    ) -> Door | None:
        """Return what a run of the workflow needs to begin; None when nothing limits it."""
        options = workflow.options
        if not (options.limits or exclusive):
            return None
        keyed = options.priority is not None or any(limit.path for limit in options.limits)
        value = orjson.loads(data) if keyed or options.limits else None
        wanted = [self._bucket(limit, limit.key(value)) for limit in options.limits]
        if exclusive:
            wanted.append(self._bucket(Limit("concurrency", exclusive, 1, None), ""))
        lent: list[tuple[Bucket, str]] = []
        if parent_key:
            held = self._held_above(parent)
            lent = [(bucket, held[bucket]) for bucket in wanted if bucket in held]
            wanted = [bucket for bucket in wanted if bucket not in held]
        names = tuple(f"{bucket.limit.kind} {bucket.name}" for bucket in wanted)
        priority = 0 if options.priority is None else priority_of(options.priority, value)
        return Door((workflow.id, names), workflow.id, tuple(wanted), tuple(lent), priority)

    def _bucket(self, limit: Limit, key: str) -> Bucket:
        place = (limit.kind, limit.id, key)
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = Bucket(limit, key)
        elif bucket.limit != limit:
            # Rebuilt from what it had counted, before its workflow was registered.
            bucket.limit = limit
        return bucket

    def _held_above(self, parent: str) -> dict[Bucket, str]:
        """Return the slots of the run and of those that await it, with the runs that took them."""
        held: dict[Bucket, str] = {}
        seen: set[str] = set()
        while parent and parent not in seen:
            seen.add(parent)
            for bucket, taker in self.seats.get(parent, ()):
                held.setdefault(bucket, taker)
            actor = self._sup.runs.get(parent)
            start = actor.peek().started if actor is not None else None
            parent = start.parent if start is not None and start.parent_key else ""
        return held

    def limits(self, workflow_id: str) -> bool:
        """Whether runs of the workflow have to be let in."""
        workflow = self._sup.workflow(workflow_id)
        return workflow is not None and bool(workflow.options.limits)

    def is_open(self, door: Door) -> bool:
        """Whether a run may begin in this turn, past nobody who waits."""
        lane = self._lanes.get(door.lane)
        if self._left or not self._opened or (lane is not None and lane.rows):
            return False
        now = self._sup.time.now_ms()
        return all(bucket.has_room(now) for bucket in door.buckets)

    def check_queue(self, workflow: Workflow, inputs: Iterable[bytes]) -> None:
        """Raise `RateLimitedError` when a lane would get longer than it may with these."""
        most = self._sup.settings.queue_runs_max
        lengths: dict[tuple[str, tuple[str, ...]], int] = {}
        for data in inputs:
            door = self.door(workflow, data)
            assert door is not None
            length = lengths.get(door.lane)
            if length is None:
                lane = self._lanes.get(door.lane)
                length = len(lane.rows) if lane is not None else 0
            lengths[door.lane] = length + 1
            if length >= most:
                message = (
                    f"{length} runs of {door.workflow!r} wait for their turn under the same key, "
                    "and no more may"
                )
                raise RateLimitedError(message, retry_after_s=_AGAIN_S)

    # ------------------------------------------------------------ begin

    def rates(self, door: Door) -> tuple[tuple[str, str, int], ...]:
        """Return what the record of a beginning says of rates."""
        return tuple(
            (bucket.limit.id, bucket.key, bucket.limit.per_ms)
            for bucket in door.buckets
            if bucket.limit.kind == "rate"
        )

    def take(self, run_id: str, door: Door, lsn: int, ts: int) -> None:
        """The run begins: it has its slots, and its beginning counts."""
        for bucket in door.buckets:
            if bucket.limit.kind == "rate":
                bucket.row.add(lsn, ts)
        self._sit(run_id, door)
        self.admitted_total += 1

    def _sit(self, run_id: str, door: Door) -> None:
        taken = [(bucket, run_id) for bucket in door.buckets if bucket.limit.kind == "concurrency"]
        taken += door.lent
        if taken:
            self.seats[run_id] = taken
        for bucket, taker in taken:
            bucket.holders.setdefault(taker, set()).add(run_id)

    def freed(self, run_id: str) -> None:
        """The run has ended, durably: what it held is free once nobody is left on it."""
        seats = self.seats.pop(run_id, None)
        if seats is None:
            return
        free: list[Bucket] = []
        for bucket, taker in seats:
            members = bucket.holders.get(taker)
            if members is not None:
                members.discard(run_id)
                if not members:
                    del bucket.holders[taker]
                    free.append(bucket)
        self._go_round(free)

    # ------------------------------------------------------------ the queue

    def wait(self, actor: RunActor, door: Door, eligible_ms: int) -> None:
        """The run waits for its turn."""
        lane = self._lane(door)
        row = (-door.priority, eligible_ms, actor.start_lsn, actor.id)
        if not lane.rows:
            lane.turn = max(lane.turn, actor.start_lsn)
            for bucket in lane.buckets:
                bucket.lanes[lane] = None
        insort(lane.rows, row)
        self.queued[actor.id] = (lane, row, door)
        start = actor.peek().started
        if start is not None and start.parent_key:
            self._called[actor.id] = None
        self.waiting[door.workflow] += 1

    def _lane(self, door: Door) -> Lane:
        lane = self._lanes.get(door.lane)
        if lane is None:
            lane = self._lanes[door.lane] = Lane(door.workflow, door.buckets)
        return lane

    def enter(self, actor: RunActor) -> None:
        """Let a pending run begin whose delay is over, or let it wait for its turn."""
        state = actor.peek()
        start = state.started
        if state.status != "pending" or state.paused or start is None or actor.id in self.queued:
            return
        sup = self._sup
        if actor.id in self.seats:
            # Retried at once: what it held before is not free yet.
            sup.journal.when_durable(state.lsn, lambda _: self.enter(actor))
            return
        workflow = sup.workflow(start.workflow)
        if workflow is None:
            sup.workflow_missing(actor)
            return
        door = self._door_of(actor, workflow)
        if door is None:
            self.admit(actor, None)
            return
        self.wait(actor, door, _eligible_ms(state))
        lane = self._lanes[door.lane]
        if lane.full is None:
            self._park(lane)
            self._go_round(lane.buckets)

    def _door_of(self, actor: RunActor, workflow: Workflow) -> Door | None:
        state = actor.peek()
        start = state.started
        assert start is not None
        return self.door(
            workflow,
            state.first_input,
            exclusive=start.exclusive,
            parent=start.parent,
            parent_key=start.parent_key,
        )

    def leave(self, run_id: str) -> None:
        """The run waits no more: it was cancelled or paused."""
        found = self.queued.pop(run_id, None)
        if found is None:
            return
        lane, row, door = found
        self._called.pop(run_id, None)
        self.waiting[door.workflow] -= 1
        place = bisect_left(lane.rows, row)
        del lane.rows[place]
        if not lane.rows:
            self._emptied(lane)

    def _emptied(self, lane: Lane) -> None:
        for bucket in lane.buckets:
            bucket.lanes.pop(lane, None)
        # Where it stands in a heap of those that wait, it is passed over when its turn comes.
        lane.full = None
        names = tuple(f"{bucket.limit.kind} {bucket.name}" for bucket in lane.buckets)
        self._lanes.pop((lane.workflow, names), None)

    def _park(self, lane: Lane, now_ms: int | None = None) -> bool:
        """Put the lane behind a bucket: one that is full, else the first. Say whether one was."""
        now = self._sup.time.now_ms() if now_ms is None else now_ms
        full = next((bucket for bucket in lane.buckets if not bucket.has_room(now)), None)
        bucket = lane.full = full or lane.buckets[0]
        heapq.heappush(bucket.waiting, (lane.turn, lane.rows[0][2], lane))
        if full is not None and full.limit.kind == "rate":
            self._arm(full)
        return full is not None

    def _arm(self, bucket: Bucket) -> None:
        due = bucket.row.free_at(bucket.limit.count)
        if due and bucket.arm(due):
            self._sup.timers.add(due, ADMISSION, bucket.name)

    def timer_fired(self, name: str) -> None:
        """A rate limit has room again."""
        limit_id, _, key = name.partition("\0")
        bucket = self._buckets.get(("rate", limit_id, key))
        if bucket is not None:
            bucket.fired()
            self._go_round((bucket,))

    def go_on(self) -> None:
        """There is room on the disk again: let begin whoever may."""
        self._go_round([bucket for bucket in self._buckets.values() if bucket.waiting])

    def _go_round(self, buckets: Iterable[Bucket]) -> None:
        """Let begin whoever these buckets have room for, in turn."""
        pending = [bucket for bucket in buckets if bucket.waiting]
        for _ in range(_ROUND_MAX):
            sup = self._sup
            if sup.stopping or not self._opened or not sup.journal.has_room(_SMALL):
                return
            now = sup.time.now_ms()
            bucket = self._next(pending, now)
            if bucket is None:
                return
            _, _, lane = heapq.heappop(bucket.waiting)
            lane.full = None
            if all(each.has_room(now) for each in lane.buckets):
                self._admit_first(lane)
            if lane.rows and not self._park(lane, now) and lane.buckets[0] not in pending:
                pending.append(lane.buckets[0])
        if not self._left:
            self._sup.loop.call_soon(self._go_on_round)
        self._left += pending

    def _go_on_round(self) -> None:
        left, self._left = self._left, []
        self._go_round(left)

    def _next(self, pending: list[Bucket], now_ms: int) -> Bucket | None:
        """Return the bucket that has room for the lane whose turn was longest ago."""
        best: Bucket | None = None
        for bucket in pending:
            _drop_gone(bucket)
            if not bucket.waiting:
                continue
            if not bucket.has_room(now_ms):
                if bucket.limit.kind == "rate":
                    self._arm(bucket)
            elif best is None or bucket.waiting[0][:2] < best.waiting[0][:2]:
                best = bucket
        return best

    def _admit_first(self, lane: Lane) -> None:
        run_id = lane.rows[0][3]
        _, _, door = self.queued.pop(run_id)
        self._called.pop(run_id, None)
        self.waiting[door.workflow] -= 1
        del lane.rows[0]
        if not lane.rows:
            self._emptied(lane)
        actor = self._sup.runs.get(run_id)
        if actor is not None and actor.status == "pending":
            lane.turn = self.admit(actor, door)

    def admit(self, actor: RunActor, door: Door | None) -> int:
        """Record that the run begins; its body does when that is durable. Return the LSN."""
        sup = self._sup
        admission = () if door is None else self.rates(door)
        record = actor.record(rec.RunReleased, admission=admission)
        sup.tally.let_go(actor.state.workflow)
        if door is not None:
            self.take(actor.id, door, record.lsn, record.ts)
        deadline = actor.state.deadline_ms
        if deadline:
            sup.timers.add(deadline, actor.id, TIMEOUT_TIMER)
        sup.journal.when_durable(record.lsn, partial(begin_run, actor, None))
        return int(record.lsn)

    # ------------------------------------------------------------ recovery

    # Of the runs that recovery finds, in the order of their starts: a run has its slots before its
    # children look for them.

    def found(self, actor: RunActor) -> None:
        """Enter a live run that recovery found, whose delay is over. Nobody is let in yet."""
        sup = self._sup
        state = actor.state
        start = state.started
        workflow = sup.workflow(state.workflow)
        if start is None:
            return
        pending = state.status == "pending"
        if pending and state.paused:
            return
        if pending and self._opened:
            self.enter(actor)
            return
        if workflow is None:
            if pending:
                sup.workflow_missing(actor)
            return
        if not (pending or workflow.options.limits or start.exclusive):
            return
        door = self._door_of(actor, workflow)
        if door is None:
            # Its limits are gone, or it had a delay alone: let go with others that are due.
            sup.timers.add(_eligible_ms(state), actor.id, RELEASE_TIMER)
        elif pending:
            self.wait(actor, door, _eligible_ms(state))
        else:
            self._sit(actor.id, door)
            lane = self._lane(door)
            lane.turn = max(lane.turn, state.released_lsn or start.lsn)

    def open(self, rates: Rates) -> None:
        """Take over what rate limits had counted, and let begin whoever may."""
        for row in rates.rows.values():
            place = ("rate", row.id, row.key)
            bucket = self._buckets.get(place)
            if bucket is None:
                # No run waits for it. The limit itself is told by code, if it still has it.
                limit = Limit("rate", row.id, max(1, len(row.times)), None, row.per)
                bucket = self._buckets[place] = Bucket(limit, row.key)
            bucket.row = row
        self._limited = {w.id for w in self._sup.registry.all() if w.options.limits}
        self._lanes = {name: lane for name, lane in self._lanes.items() if lane.rows}
        self._opened = True
        for lane in list(self._lanes.values()):
            if lane.full is None:
                self._park(lane)
        self.go_on()

    def registered(self) -> None:
        """A workflow was registered while runs of it were there: count those that hold its limits.

        Those that wait are told by whoever wakes runs of a workflow that was missing.
        """
        sup = self._sup
        fresh = {w.id for w in sup.registry.all() if w.options.limits} - self._limited
        self._limited |= fresh
        if not (fresh and self._opened):
            return
        for run_id in list(sup.runs):
            if sup.runs.status(run_id) == "running" and run_id not in self.seats:
                actor = sup.runs[run_id]
                workflow = sup.workflow(actor.summary().workflow)
                if workflow is not None and workflow.id in fresh:
                    self.found(actor)

    # ------------------------------------------------------------ upkeep

    def lines(self) -> list[tuple[int, bytes]]:
        """Return the rows of a snapshot: what rate limits still count."""
        now = self._sup.time.now_ms()
        lines: list[tuple[int, bytes]] = []
        for bucket in self._buckets.values():
            bucket.row.prune(now)
            if bucket.row.times:
                lines.append((bucket.row.lsn, bucket.row.line()))
        return lines

    def tidy(self) -> None:
        """Drop the buckets that nobody needs once they are the more."""
        if len(self._buckets) <= 2 * self._swept + _BUCKETS_SLACK:
            return
        now = self._sup.time.now_ms()
        self._buckets = {
            place: bucket for place, bucket in self._buckets.items() if not bucket.is_idle(now)
        }
        self._swept = len(self._buckets)

    # ------------------------------------------------------------ what others see

    def waits(self, workflow: str) -> int:
        """Return how many runs of the workflow wait for their turn."""
        return sum(len(lane.rows) for lane in self._lanes.values() if lane.workflow == workflow)

    def place(self, run_id: str, lanes_max: int | None = None) -> Place | None:
        """Return where the run stands; None for one that waits for no limit.

        With more lanes than `lanes_max` nobody counts, and its position is 0.
        """
        found = self.queued.get(run_id)
        if found is None:
            return None
        lane, row, _ = found
        bucket = self._waits_for(lane)
        if lanes_max is not None and len(bucket.lanes) > lanes_max:
            return _place(bucket, -1)
        own = bisect_left(lane.rows, row)
        return _place(bucket, own + _ahead(bucket.lanes, lane, own))

    async def place_in_slices(self, run_id: str) -> Place | None:
        """Return the same, counted a slice of the lanes in each pass of the loop.

        A lane that moves meanwhile may be counted as it was or as it is.
        """
        found = self.queued.get(run_id)
        if found is None or len(self._waits_for(found[0]).lanes) <= _LANES_SLICE:
            return self.place(run_id)
        lane, row, _ = found
        bucket = self._waits_for(lane)
        others = list(bucket.lanes)
        own = ahead = bisect_left(lane.rows, row)
        for start in range(0, len(others), _LANES_SLICE):
            await next_pass()
            ahead += _ahead(others[start : start + _LANES_SLICE], lane, own)
        return _place(bucket, ahead) if run_id in self.queued else None

    def lanes_beside(self, run_id: str) -> int:
        """Return what `place` costs: how many lanes it looks at; 0 for a run in no queue."""
        found = self.queued.get(run_id)
        return 0 if found is None else len(self._waits_for(found[0]).lanes)

    def _waits_for(self, lane: Lane) -> Bucket:
        """Return the bucket that keeps the first of the lane from beginning."""
        now = self._sup.time.now_ms()
        bucket = next((b for b in lane.buckets if not b.has_room(now)), None) or lane.full
        return bucket or lane.buckets[0]

    def blockers(self, run_id: str) -> Iterator[list[str]]:
        """Yield, for each full limit of slots that the queued run needs, who took them.

        Whoever took one has it for longer than the children that go along on it, unless it was
        ended by force: then one of those.
        """
        found = self.queued.get(run_id)
        if found is None:
            return
        now = self._sup.time.now_ms()
        for bucket in found[0].buckets:
            if bucket.limit.kind == "concurrency" and not bucket.has_room(now):
                holders = islice(bucket.holders.items(), _HOLDERS_ASKED)
                yield [taker if taker in on else next(iter(on)) for taker, on in holders]

    def look_for_circles(self) -> None:
        """Say which runs wait for each other in a circle, each circle once."""
        if self._called:
            self._circles.look(tuple(self._called))

    def held(self) -> Iterator[tuple[Limit, str, int]]:
        """Yield each limit of slots that is held, its key, and how many are."""
        for bucket in self._buckets.values():
            if bucket.holders:
                yield bucket.limit, bucket.key, len(bucket.holders)


def _eligible_ms(state: RunState) -> int:
    """Return since when the run could have begun."""
    retried = max((act.ts for act in state.acts if isinstance(act, rec.RunRetried)), default=0)
    return retried or state.due or state.created_ms


def _ahead(others: Iterable[Lane], lane: Lane, own: int) -> int:
    """Return how many of the other lanes begin before what stands at `own` in this one."""
    return sum(
        min(len(other.rows), own + (other.turn < lane.turn))
        for other in others
        if other is not lane
    )


def _place(bucket: Bucket, ahead: int) -> Place:
    rate = bucket.limit.kind == "rate"
    return Place(
        position=ahead + 1,
        ahead=max(0, ahead),
        limit=str(bucket.limit),
        kind=bucket.limit.kind,
        key=bucket.key,
        free_at_ms=bucket.row.free_at(bucket.limit.count) if rate else 0,
        holders=tuple(islice(bucket.holders, _HOLDERS_SHOWN)),
    )


def _drop_gone(bucket: Bucket) -> None:
    """Take off what stands first and does not wait here any more."""
    while bucket.waiting:
        lane = bucket.waiting[0][2]
        if lane.rows and lane.full is bucket:
            return
        heapq.heappop(bucket.waiting)


def begin_run(
    actor: RunActor, args: tuple[Any, ...] | None, failed: BaseException | None = None
) -> None:
    """The record that lets the run in is durable: its body begins."""
    if failed is None:
        actor.activate(args)
