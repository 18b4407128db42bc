"""The small model: whatever was seen of the engine, held against whatever is seen later.

The ledger knows nothing of journals. It hears of what bodies and steps do (here) and of what
callers are told (`answers`), across all lives, and says what cannot be. It is muted when the
process dies: what happens in the same turn after that has not happened.

Rules for what bodies and steps do:

- an outcome that a step was begun upon is never taken back (it was durable when that step began);
- a step that is known to be recorded does not run, nor one of a run that is known to have ended;
- attempts rise; a step tried again waits its time and is tried as often as its policy says;
- an at-most-once step that was cut is not begun again;
- one call has one idempotency key, and one key one call;
- timers are never early, and not late while the process lives;
- a payload goes to one wait after another only once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepflow.runtime.current import StepInfo
    from tests.sim.loop import SimClock
    from tests.sim.plan import Op

__all__ = ["Activation", "Ledger", "Notice", "RunLog", "failing"]

ATTEMPTS = 3
RETRY_MS = 50
TIMEOUT_MS = 100
SLACK_S = 3.0


@dataclass(slots=True)
class Notice:
    """One event that was sent: its payload is its own."""

    event: str
    sent_s: float
    to: str = ""
    by_run: bool = False
    count: int | None = None
    """What the sender was told."""


@dataclass(slots=True)
class StepLog:
    """What is known of one step key."""

    path: str = ""
    idempotency_key: str = ""
    attempt: int = 0
    life: int = 0
    """In which the attempt began."""
    broke_s: float = -1.0
    """When it failed; -1: it has not."""
    returned: bool = False
    failures: int = 0
    """Attempts that failed."""
    recorded_failures: int = 0
    """Those that a later attempt was begun upon, so they are on disk."""
    floor: int = 0
    """An attempt that is on disk: this life begins with a higher one."""
    shown: int = 0
    """What a reader was shown in this life."""


@dataclass(slots=True)
class RunLog:
    """What is known of one run."""

    id: str
    program: int
    known: bool = False
    """Whether somebody was told that it exists."""
    root: bool = False
    """Whether a client started it, and no other run."""
    not_before_s: float = 0.0
    pinned: dict[str, str] = field(default_factory=dict[str, str])
    """Outcomes by path that effects rest on."""
    asked_s: dict[str, float] = field(default_factory=dict[str, float])
    """When a call was first asked for."""
    steps: dict[str, StepLog] = field(default_factory=dict[str, StepLog])
    done: dict[str, tuple[str, bytes]] = field(default_factory=dict[str, "tuple[str, bytes]"])
    """Outcomes by key that somebody was told of."""
    children: dict[str, str] = field(default_factory=dict[str, str])
    keys: dict[str, str] = field(default_factory=dict[str, str])
    """Path to step key."""
    rows: dict[int, tuple[str, bytes]] = field(default_factory=dict[int, "tuple[str, bytes]"])
    gaps: set[int] = field(default_factory=set[int])
    """Ids that a stream passed over: they are no rows."""
    last_row: int = 0
    ended: tuple[str, bytes] | None = None
    status: str = ""
    updated_at: str = ""
    cancel_asked: bool = False
    cancel_told: bool = False
    purge_asked: bool = False
    touched: bool = False
    """Whether somebody may have ended it: cancelled it, or sent what its anchor waits for."""
    gone: bool = False
    activation: Activation | None = None


@dataclass(slots=True)
class Asked:
    """A call as its activation asked for it."""

    at_s: float
    seen: int
    life: int
    got: frozenset[str]


class Activation:
    """One run of a body, from its start."""

    __slots__ = ("_got", "_ledger", "asked", "clean", "life", "pinned", "run", "seen")

    def __init__(self, ledger: Ledger, run: RunLog) -> None:
        self._ledger = ledger
        self.run = run
        self.life = ledger.life
        self.seen: list[tuple[str, str]] = []
        self.asked: dict[str, Asked] = {}
        self.pinned = 0
        self.clean = True
        """Whether it has not heard of its cancel."""
        self._got: set[str] = set()

    def cancelled(self) -> None:
        """The body heard of its cancel."""
        self.clean = False

    def asks(self, path: str, op: Op) -> None:
        """The body asks for something."""
        ledger = self._ledger
        if ledger.muted:
            return
        now = ledger.clock.now_s
        self.run.asked_s.setdefault(path, now)
        self.asked[path] = Asked(now, len(self.seen), ledger.life, frozenset(self._got))
        ledger.note("asks", self.run.id, path, op.kind)
        if op.kind == "notify":
            payload = f"{self.run.id} {path}"
            ledger.notices.setdefault(payload, Notice(f"event-{op.n}", now, by_run=True))

    def saw(self, path: str, op: Op, outcome: Any) -> None:
        """The body goes on with an outcome."""
        ledger = self._ledger
        if ledger.muted:
            return
        text = repr(outcome)
        ledger.note("saw", self.run.id, path, text)
        pinned = self.run.pinned.get(path)
        if pinned is not None and pinned != text:
            ledger.wrong(f"{self.run.id} {path}: a step began upon {pinned}, now it is {text}")
        self._check_outcome(path, op, outcome, text)
        if "relaxed" not in op.flags:
            self.seen.append((path, text))

    def _check_outcome(self, path: str, op: Op, outcome: Any, text: str) -> None:
        ledger, where = self._ledger, f"{self.run.id} {path}"
        match op.kind:
            case "step":
                self._check_step(path, op, text)
            case "map":
                failed = f"failed StepBroke {path}.{op.n - 1}"
                done = [{"p": f"{path}.{i}"} for i in range(op.n)]
                if outcome != (failed if op.fails >= ATTEMPTS else done):
                    ledger.wrong(f"{where}: the map came to {text}")
            case "sleep":
                self._check_time(path, op.ms)
            case "call":
                if not (isinstance(outcome, dict) or outcome in ledger.child_ends(op.n)):
                    ledger.wrong(f"{where}: the child came to {text}")
            case "notify":
                ledger.notices[f"{self.run.id} {path}"].count = outcome
            case "wait" | "anchor":
                if outcome == "timeout":
                    self._check_time(path, op.ms)
                else:
                    self._take(path, op, outcome)
            case _:
                pass

    def _check_step(self, path: str, op: Op, text: str) -> None:
        ledger, where = self._ledger, f"{self.run.id} {path}"
        expected = _outcomes(path, op)
        if text not in expected:
            ledger.wrong(f"{where}: the step came to {text}, not {expected[0]}")
        log = self.run.steps.get(self.run.keys.get(path, ""))
        if "failed " in text and (log is None or log.failures < ATTEMPTS):
            ledger.wrong(f"{where}: failed before its last attempt")

    def _check_time(self, path: str, ms: int) -> None:
        ledger = self._ledger
        clock = ledger.clock
        first = self.run.asked_s[path]
        gone_ms = (clock.now_s - first) * 1000 + clock.forward_ms(first)
        if gone_ms < ms - 1.5:
            ledger.wrong(f"{self.run.id} {path}: {ms} ms were over after {gone_ms:.1f}")
        asked = self.asked[path]
        late_s = clock.now_s - asked.at_s - ms / 1000
        if asked.life == ledger.life and not ledger.stalls and late_s > ledger.slack_s():
            ledger.wrong(f"{self.run.id} {path}: {ms} ms were over {late_s:.1f} s late")

    def _take(self, path: str, op: Op, payload: Any) -> None:
        ledger, where = self._ledger, f"{self.run.id} {path}"
        event = "anchor" if op.kind == "anchor" else f"event-{op.n}"
        event = f"kept-{op.n}" if op.flags == "kept" else event
        notice = ledger.notices.get(payload)
        if notice is None or notice.event != event:
            ledger.wrong(f"{where}: waited for {event} and got {payload!r}, which nobody sent")
        elif notice.to and notice.to != self.run.id:
            ledger.wrong(f"{where}: got {payload!r}, which was for {notice.to}")
        if payload in self.asked[path].got:
            ledger.wrong(f"{where}: got {payload!r} a second time")
        self._got.add(payload)


def _outcomes(path: str, op: Op) -> list[str]:
    outcome: object = f"failed StepBroke {path}" if op.fails >= ATTEMPTS else {"p": path}
    if op.flags == "timeout" and op.ms > TIMEOUT_MS:
        outcome = f"failed TimeoutError step 's{path}' did not end within {TIMEOUT_MS / 1000:g} s"
    expected = [repr(outcome)]
    return [*expected, "'interrupted'"] if op.flags == "once" else expected


class Ledger:
    """All runs, all lives."""

    def __init__(self, clock: SimClock, programs: Sequence[Sequence[Op]], *, story: bool) -> None:
        self.clock = clock
        self.programs = programs
        self.violations: list[str] = []
        self.muted = False
        self.life = 0
        self.stalls = False
        """Whether this life's disk was full at times: nothing is late then."""
        self.timers_per_second = 1000
        self.runs: dict[str, RunLog] = {}
        self.notices: dict[str, Notice] = {}
        self.lsns: dict[int, tuple[str, int]] = {}
        self.counts = {"acknowledged": 0, "seen": 0, "steps": 0, "activations": 0}
        self.story: list[str] | None = [] if story else None
        self._hash = hashlib.sha256()
        self._races = [_has_race(ops) for ops in programs]
        self._idempotency: dict[str, tuple[str, str]] = {}

    def note(self, *what: Any) -> None:
        """Put what happened into the digest, and on the story where one is told."""
        line = f"{self.clock.now_s:.6f} {' '.join(map(str, what))}"
        self._hash.update(line.encode())
        if self.story is not None:
            self.story.append(line)

    def digest(self) -> bytes:
        """Return the digest of all that happened."""
        return self._hash.digest()

    def wrong(self, what: str) -> None:
        """Something cannot be."""
        if self.muted:
            return
        self.note("VIOLATION", what)
        self.violations.append(f"life {self.life}, {self.clock.now_s:.4f} s: {what}")

    def slack_s(self) -> float:
        """Return how late a timer may be: so many runs' may be due at once, and are throttled."""
        return SLACK_S + 20 * len(self.runs) / self.timers_per_second

    def begin_life(self) -> None:
        """A new process starts."""
        self.life += 1
        self.muted = False
        self.stalls = False
        for run in self.runs.values():
            run.activation = None
            for log in run.steps.values():
                log.floor = max(log.floor, log.shown)
        for notice in self.notices.values():
            if notice.by_run:
                # What a body alone had heard may be taken back.
                notice.count = None

    def run(self, run_id: str, program: int) -> RunLog:
        """Return what is known of the run, which perhaps nobody had heard of."""
        run = self.runs.get(run_id)
        if run is None or not (run.known or run.program == program):
            # What nobody was told of may be lost, and its id given again.
            run = self.runs[run_id] = RunLog(run_id, program)
        return run

    # ------------------------------------------------------------ bodies

    def activated(self, run_id: str, given: dict[str, Any]) -> Activation:
        """A body starts, from its beginning."""
        run = self.run(run_id, given["p"])
        act = Activation(self, run)
        if self.muted:
            return act
        self.counts["activations"] += 1
        self.note("active", run_id, given)
        if run.program != given["p"]:
            self.wrong(f"{run_id}: its input is {given}, it was started with {run.program}")
        if run.gone:
            self.wrong(f"{run_id}: its body runs, though it was purged")
        if run.ended:
            self.wrong(f"{run_id}: its body runs, though it is known to have ended")
        clock = self.clock
        before_s = run.not_before_s - clock.now_s
        if before_s * 1000 > clock.forward_ms(run.not_before_s - 60) + 1.5:
            self.wrong(f"{run_id}: its body runs {before_s:.3f} s before its delay is over")
        run.activation = act
        return act

    # ------------------------------------------------------------ steps

    def began(self, step: StepInfo, path: str) -> None:
        """A step's function runs."""
        if self.muted:
            return
        self.counts["steps"] += 1
        self.note("began", step.run_id, step.key, step.attempt, path)
        run = self.runs[step.run_id]
        log = run.steps.setdefault(step.key, StepLog(path))
        where = f"{run.id} {step.key}"
        run.keys[path] = step.key
        run.known = True
        if step.key in run.done:
            self.wrong(f"{where}: runs again, its result {run.done[step.key]} was recorded")
        if run.ended or run.gone:
            self._began_late(run, where, path)
        self._check_attempt(run, log, step, where)
        self._check_identity(log, step, where, path)
        log.attempt, log.life, log.broke_s, log.returned = step.attempt, self.life, -1.0, False
        self._pin(run, path)

    def _began_late(self, run: RunLog, where: str, path: str) -> None:
        op = self.op_at(run, path)
        if op is not None and op.flags == "thread" and run.cancel_asked:
            # Handed to its thread before the cancel was decided: it cannot be called back.
            return
        self.wrong(f"{where}: runs, though the run has ended")

    def _check_attempt(self, run: RunLog, log: StepLog, step: StepInfo, where: str) -> None:
        same_life = log.life == self.life
        if step.attempt <= (log.attempt if same_life else log.floor):
            self.wrong(f"{where}: attempt {step.attempt} after {max(log.attempt, log.floor)}")
        if same_life and log.returned and not self.races(run):
            self.wrong(f"{where}: runs again after it had returned")
        op = self.op_at(run, log.path)
        if op is not None and op.flags == "once" and log.life and log.broke_s < 0:
            self.wrong(f"{where}: at most once, and begun again")
        if not (same_life and log.broke_s >= 0):
            return
        log.recorded_failures += 1
        log.floor = log.attempt
        if log.recorded_failures >= ATTEMPTS:
            self.wrong(f"{where}: tried again after {log.recorded_failures} failures")
        waited_ms = (self.clock.now_s - log.broke_s) * 1000 + self.clock.forward_ms(log.broke_s)
        if waited_ms < RETRY_MS - 1.5:
            self.wrong(f"{where}: tried again after {waited_ms:.1f} ms, not {RETRY_MS}")

    def _check_identity(self, log: StepLog, step: StepInfo, where: str, path: str) -> None:
        key = step.idempotency_key
        if log.path != path:
            self.wrong(f"{where}: was {log.path}, now it is {path}")
        if log.idempotency_key not in {"", key}:
            self.wrong(f"{where}: its idempotency key {log.idempotency_key} has become {key}")
        log.idempotency_key = key
        if self._idempotency.setdefault(key, (step.run_id, path)) != (step.run_id, path):
            self.wrong(f"{where}: has the idempotency key of {self._idempotency[key]}")

    def _pin(self, run: RunLog, path: str) -> None:
        """What the body had seen when it asked for this step is on disk now."""
        act = run.activation
        if act is None:
            return
        asked = act.asked.get(path) or act.asked.get(path.rpartition(".")[0])
        if asked is None:
            return
        for at in range(act.pinned, asked.seen):
            seen, text = act.seen[at]
            run.pinned[seen] = text
        act.pinned = max(act.pinned, asked.seen)

    def broke(self, step: StepInfo, path: str) -> None:
        """The attempt fails."""
        if self.muted:
            return
        self.note("broke", step.run_id, step.key, step.attempt)
        log = self.runs[step.run_id].steps[step.key]
        log.failures += 1
        log.broke_s = self.clock.now_s

    def returned(self, step: StepInfo, path: str) -> None:
        """The attempt has its result."""
        if self.muted:
            return
        self.note("returned", step.run_id, step.key, step.attempt)
        self.runs[step.run_id].steps[step.key].returned = True

    def races(self, run: RunLog) -> bool:
        """Whether the run's program gives calls up."""
        return run.program >= 0 and self._races[run.program]

    def child_ends(self, program: int) -> set[str]:
        """Return what a call of the program may come to, beside its result."""
        failures = {f"child failed {path}" for path in failing(self.programs[program], "")}
        return {"child cancelled", *failures}

    def op_at(self, run: RunLog, path: str) -> Op | None:
        """Return the op at a path of the run's program, None for what is none."""
        ops: Sequence[Op] = self.programs[run.program] if run.program >= 0 else ()
        op: Op | None = None
        numbers = path.split(".")
        while numbers and all(n.isdigit() for n in numbers):
            index = int(numbers.pop(0))
            if index >= len(ops):
                return op
            op = ops[index]
            if not op.parts or not numbers:
                return op
            part = int(numbers.pop(0))
            ops = op.parts[0 if op.kind == "repeat" else part]
        return None


def _has_race(ops: Sequence[Op]) -> bool:
    return any(_gives_up(op) or any(map(_has_race, op.parts)) for op in ops)


def _gives_up(op: Op) -> bool:
    """Whether calls of the op may be given up while they run."""
    return op.kind == "race" or (op.kind == "map" and op.fails >= ATTEMPTS)


def failing(ops: Sequence[Op], at: str) -> Iterator[str]:
    """Yield the paths at which a program fails."""
    for index, op in enumerate(ops):
        path = f"{at}.{index}" if at else f"{index}"
        if op.kind == "fail":
            yield path
        for number, part in enumerate(op.parts):
            yield from failing(part, f"{path}.{number}")
