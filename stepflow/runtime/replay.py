"""Which recorded result goes to which call, and when the body may see it. PURE.

A **call** is one thing the body asks for by name. On replay the gate gives it the result that was
recorded for it; live, it holds a fresh result back until the body may see it. Both go through the
same rules, so the body sees the same results in the same order however often it is run:

1. Results are delivered one at a time, lowest LSN first.
2. Only when the run is **quiet**: `passes` passes of the loop in which no task of the run was
   stepped. A run with one task and one outstanding wait is quiet by nature.
3. At the ask only an exact match counts: own key, function and arguments. Anything else stays
   undecided until the run is quiet and no asked-for recorded result is left. Then, in the order of
   asking: the same name, function and arguments under another key are adopted; the own key with
   other arguments is adopted with a warning at the root and diverges in a branch; the own key
   with another function diverges, unless `renamed` says so; all else is new.
4. No new call is started while an asked-for recorded result is outstanding.

Why so, and what fails otherwise: docs/adr/0008.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Protocol

from stepflow.errors import DivergenceError
from stepflow.model.run import ANY_ARGS
from stepflow.runtime.plain import FRESH_DICT, Plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stepflow.model.records import Kind
    from stepflow.model.run import CallState

__all__ = ["Ask", "Gate", "GateHost"]


# For the many that never have any: one for all of them.
_NO_RESULTS: Any = ()
_NO_KEYS: Any = frozenset[str]()


class Ask(Plain):
    """One call of the body in this activation. Subclasses say what its result is given to."""

    key: str
    name: str
    kind: Kind
    fn: str
    args: str
    rooted: bool
    """Asked in the root branch, or under a key of the author's."""
    started: bool = False

    @property
    def alive(self) -> bool:
        """Whether somebody still waits for the result."""
        raise NotImplementedError

    def deliver(self, outcome: CallState) -> bool:
        """Hand the result over; say whether that woke a task of the run."""
        raise NotImplementedError


class GateHost(Protocol):
    """What the gate asks of the actor. Every method runs in the run's turn."""

    def start_calls(self, asks: Sequence[Ask]) -> None:
        """Begin these calls: nothing is recorded for them."""

    def adopt(self, ask: Ask, outcome: CallState) -> None:
        """Record that `ask` takes `outcome`; its LSN becomes that of the record."""

    def deliver_cancel(self) -> None:
        """Cancel the body."""

    def diverged(self, error: DivergenceError) -> None:
        """Fence and park the run."""

    def warn(self, message: str) -> None:
        """Log what an operator should know."""


class Gate(Plain):
    """Order and identity of results for one activation of a run."""

    _host: GateHost
    _call_soon: Callable[[Callable[[], None]], object]
    _untaken: dict[str, CallState]
    """Results that no call of this activation has taken."""
    _begun: set[str]
    """Keys of calls that were begun before this activation and have no result."""
    _passes_needed: int = 8
    _strict: bool = False
    _renamed: Mapping[str, str] = {}
    _heap: list[tuple[int, int, Ask | None, CallState | None]] = _NO_RESULTS
    """Asked-for results by LSN; an entry without an ask is the cancel."""
    _undecided: dict[Ask, None] = FRESH_DICT
    _live: bool = False
    """Whether the body has passed what it did in earlier activations."""
    _started: dict[str, Ask] = FRESH_DICT
    _seq: int = 0
    _passes: int = 0
    _quiet: bool = False
    _ticking: bool = False
    closed: bool = False
    held: bool = False
    """Nothing is delivered or decided: the run is paused."""
    tasks: int = 0
    """Tasks of the run that have not ended."""
    outstanding: int = 0
    """Waits of the body: a map is one, however many calls it makes."""

    @classmethod
    def of(
        cls,
        host: GateHost,
        calls: Iterable[CallState],
        call_soon: Callable[[Callable[[], None]], object],
        *,
        passes: int = 8,
        strict: bool = False,
        renamed: Mapping[str, str] | None = None,
    ) -> Gate:
        """Return the gate of an activation that finds these calls recorded or begun."""
        untaken: dict[str, CallState] = {}
        begun: set[str] = _NO_KEYS
        for call in calls:
            if call.status != "pending":
                untaken[call.key] = call
            elif not call.cancelled:
                begun = begun or set()
                begun.add(call.key)
        return cls(host, call_soon, untaken, begun, passes, strict, renamed or {})

    # ------------------------------------------------------------ what the tasks do

    def stepped(self) -> None:
        """A task of the run ran: the run is not quiet."""
        # To look costs a tenth of what it costs to set.
        if self._passes:
            self._passes = 0
        if self._quiet:
            self._quiet = False

    # ------------------------------------------------------------ what the calls do

    def ask(self, asks: Sequence[Ask]) -> None:
        """Take the calls of one wait. Their results come through `Ask.deliver`."""
        if self._passes:
            self._passes = 0
        if self._quiet:
            self._quiet = False
        self.outstanding += 1
        if not (self._untaken or self._heap or self._undecided):
            if self._begun or len(asks) != 1:
                self._start(asks)
                return
            # The most frequent case by far: one new call of a run that knows of nothing else.
            (ask,) = asks
            ask.started = True
            if not self._live:
                self._live = True
            self._started[ask.key] = ask
            self._host.start_calls(asks)
            return
        for ask in asks:
            if not self._take_exact(ask):
                self._undecided[ask] = None
        self._advance()

    def forget(self, asks: Iterable[Ask]) -> None:
        """The wait of these calls was cancelled."""
        self.outstanding -= 1
        self.drop(asks)

    def drop(self, asks: Iterable[Ask]) -> None:
        """Nobody waits for these calls any more."""
        for ask in asks:
            self._started.pop(ask.key, None)
            self._undecided.pop(ask, None)

    def answered(self) -> None:
        """The wait of some call got its results."""
        self.outstanding -= 1

    def recorded(self, outcome: CallState) -> None:
        """A result was appended and applied: it is given to its call in order."""
        if self.closed:
            return
        ask = self._started.pop(outcome.key, None)
        alone = self.outstanding == 1 and self.tasks == 1 and not self.held
        if alone and ask is not None and not self._heap and not self._undecided:
            # Nothing comes before it, and the run is quiet by nature.
            if ask.alive and ask.deliver(outcome):
                self._passes = 0
                self._quiet = False
            return
        if ask is None:
            self._untaken[outcome.key] = outcome
            waiting = next((a for a in self._undecided if a.key == outcome.key), None)
            if waiting is None or not self._take_exact(waiting):
                return
            del self._undecided[waiting]
        else:
            self._push(outcome.lsn, ask, outcome)
        self._advance()

    def hold(self) -> None:
        """Deliver no result and decide nothing until `release`."""
        self.held = True

    def release(self) -> None:
        """Go on where `hold` stopped."""
        self.held = False
        self._advance()

    def completed(self, ask: Ask, outcome: CallState) -> None:
        """The result of a call that was started and is waited for was appended and applied."""
        if self.closed:
            return
        del self._started[ask.key]
        solo = self.outstanding == 1 and self.tasks == 1 and not self.held
        if not solo or self._heap or self._undecided:
            self._push(outcome.lsn, ask, outcome)
            self._advance()
        elif ask.deliver(outcome):
            if self._passes:
                self._passes = 0
            if self._quiet:
                self._quiet = False

    def cancel(self, lsn: int) -> None:
        """The run was cancelled at `lsn`: the body hears of it in order, like any result."""
        self._push(lsn, None, None)
        self._advance()

    def is_started(self, key: str) -> bool:
        """Whether the call was started in this activation and has no result yet."""
        return key in self._started

    def started_ask(self, key: str) -> Ask | None:
        """Return the call that was started in this activation and has no result yet."""
        return self._started.get(key)

    @property
    def replaying(self) -> bool:
        """Whether the body is where it has been before: it has asked for nothing new yet."""
        if not self._live and not (self._untaken or self._heap or self._begun):
            self._live = True
        return not self._live

    @property
    def is_deciding(self) -> bool:
        """Whether it still has results to deliver, or calls to decide about."""
        return bool(self._heap or self._undecided) and not self.closed

    @property
    def unused(self) -> list[str]:
        """Keys of recorded results that nobody has asked for."""
        return list(self._untaken)

    @property
    def solo(self) -> bool:
        """Whether the run has one task and that waits in one call."""
        return self.outstanding == 1 and self.tasks == 1

    # ------------------------------------------------------------ rules

    def _take_exact(self, ask: Ask) -> bool:
        found = self._untaken.get(ask.key)
        if found is None or not (_same_call(found, ask) or _meant(found, ask)):
            return False
        del self._untaken[ask.key]
        self._push(found.lsn, ask, found)
        return True

    def _push(self, lsn: int, ask: Ask | None, outcome: CallState | None) -> None:
        self._seq += 1
        if not self._heap:
            self._heap = []
        heapq.heappush(self._heap, (lsn, self._seq, ask, outcome))

    def _advance(self) -> None:
        if self._quiet or self.solo:
            self._settle()
        elif (self._heap or self._undecided) and not self._ticking:
            self._ticking = True
            self._call_soon(self._tick)

    def _tick(self) -> None:
        if self.closed:
            self._ticking = False
            return
        self._passes += 1
        if self._passes <= self._passes_needed:
            self._call_soon(self._tick)
            return
        self._ticking = False
        self._quiet = True
        self._settle()

    def _settle(self) -> None:
        """Deliver the next result; with none left, decide about the calls without one."""
        while not (self.closed or self.held):
            if self._deliver_next():
                self._passes = 0
                self._quiet = False
                self._count()
                return
            if not self._undecided or not self._decide():
                return

    def _count(self) -> None:
        if (self._heap or self._undecided) and not self._ticking:
            self._ticking = True
            self._call_soon(self._tick)

    def _deliver_next(self) -> bool:
        """Deliver results in order up to the first that wakes a task; say whether one did."""
        while self._heap:
            _, _, ask, outcome = heapq.heappop(self._heap)
            if ask is None or outcome is None:
                self._host.deliver_cancel()
                return True
            if ask.alive and ask.deliver(outcome):
                return True
        return False

    def _decide(self) -> bool:
        """Decide about every undecided call; say whether there may be results to deliver now."""
        fresh: list[Ask] = []
        adopted = False
        undecided, self._undecided = self._undecided, {}
        for ask in undecided:
            if not ask.alive:
                continue
            try:
                found = self._match(ask)
            except DivergenceError as error:
                self.closed = True
                self._host.diverged(error)
                return False
            if found is None:
                fresh.append(ask)
                continue
            del self._untaken[found.key]
            self._host.adopt(ask, found)
            displaced = self._untaken.pop(ask.key, None)
            if displaced is not None:
                # It may be adopted in its turn, and has another key now.
                self._untaken[displaced.key] = displaced
            self._push(found.lsn, ask, found)
            adopted = True
        if adopted:
            self._undecided = dict.fromkeys(fresh)
            return True
        self._start(fresh)
        return False

    def _match(self, ask: Ask) -> CallState | None:
        """Return the recorded result to adopt, or `None` for a new call. Rule 3."""
        twins = [c for c in self._untaken.values() if _twin(c, ask)]
        if twins:
            return min(twins, key=lambda call: call.lsn)
        own = self._untaken.get(ask.key)
        if own is None:
            return None
        if own.kind != ask.kind or (own.fn != ask.fn and self._renamed.get(own.fn) != ask.fn):
            raise DivergenceError(ask.key, own.fn or own.kind, ask.fn or ask.kind)
        if own.args != ask.args:
            if self._strict or not ask.rooted:
                raise DivergenceError(
                    ask.key, f"{own.fn} with other arguments", f"{ask.fn} with changed arguments"
                )
            self._host.warn(
                f"step {ask.key!r}: its arguments have changed since its result was recorded; "
                "the recorded result is used. Give it another key= to run it again"
            )
        return own

    def _start(self, asks: Sequence[Ask]) -> None:
        if not asks:
            return
        for ask in asks:
            ask.started = True
            self._started[ask.key] = ask
            if self._begun and ask.key in self._begun:
                self._begun.discard(ask.key)
            else:
                self._live = True
        self._host.start_calls(asks)


def _same_call(call: CallState, ask: Ask) -> bool:
    return call.fn == ask.fn and call.args == ask.args and call.kind == ask.kind


def _meant(call: CallState, ask: Ask) -> bool:
    """Whether the result was kept for the call whatever it is asked with: it is a fork's."""
    return call.args == ANY_ARGS and call.fn == ask.fn and call.kind == ask.kind


def _twin(call: CallState, ask: Ask) -> bool:
    return call.name == ask.name and _same_call(call, ask)
