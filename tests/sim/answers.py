"""What callers are told, held against what they were told before. The other half of the ledger.

- An acknowledged run, event, cancel or purge is there in every later life, with what it was given.
- What a read or a stream has shown is shown for ever: status, results, errors, ids, bytes.
- A stream is continuous: ids rise, none is given twice, none is missing between two.
- What was not found stays away; what lives is never forgotten.
- One idempotency key is one run. A list says what the runs say.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from tests.sim.ledger import Notice, failing
from tests.sim.program import WORKFLOW

if TYPE_CHECKING:
    from stepflow.engine.protocol import WaitingEvent
    from stepflow.model.views import RunEvent, RunView
    from tests.sim.ledger import Ledger, RunLog

__all__ = ["Answers"]

ENDED: Final = frozenset({"completed", "failed", "cancelled"})
_SICK: Final = frozenset({"parked", "quarantined", "missing-workflow"})
ANCHORED: Final = 0
"""The program whose runs end only when they are let go."""


class _Row(msgspec.Struct):
    """The data of a stream's event, as far as it is compared."""

    status: str = ""
    key: str = ""
    result: Raw = Raw()
    error: Raw = Raw()
    child: str = msgspec.field(default="", name="childRunId")

    @property
    def value(self) -> bytes:
        return bytes(self.result if self.status == "completed" else self.error)


class _Error(msgspec.Struct):
    """A run's error, as far as it is looked at."""

    type: str = ""
    message: str = ""


_decode_error: Final = msgspec.json.Decoder(_Error).decode
_decode_row: Final = msgspec.json.Decoder(_Row).decode
_decode_input: Final = msgspec.json.Decoder(dict[str, int]).decode


class Known(NamedTuple):
    """What was known of a run when it was asked for: an answer may not be older than that."""

    ended: bool
    status: str
    updated_at: str
    done: int
    gone: bool


NOTHING: Final = Known(ended=False, status="", updated_at="", done=0, gone=False)


class Answers:
    """Hears what callers are told."""

    def __init__(self, ledger: Ledger, *, retention: bool) -> None:
        self.ledger = ledger
        self.retention = retention
        """Whether finished runs may be forgotten at any time."""
        self.order: list[str] = []
        """Runs that somebody was told of, oldest first."""
        self.idem: dict[int, str] = {}
        self.idem_programs: dict[int, set[int]] = {}
        """With which programs a key was tried."""
        self.tried: dict[str, int] = {}
        """Run ids that clients chose, with how many tries may have made them."""

    def _wrong(self, what: str) -> None:
        self.ledger.wrong(what)

    def heard(self) -> bool:
        """Count an answer; False when the process was dead before it was given."""
        if self.ledger.muted:
            return False
        self.ledger.counts["acknowledged"] += 1
        return True

    # ------------------------------------------------------------ acknowledgements

    def triggered(self, run_id: str, program: int, *, key: int | None = None) -> None:
        """A trigger was acknowledged."""
        if not self.heard():
            return
        self.ledger.note("triggered", run_id, program, key)
        run = self.exists(run_id, program)
        run.root = True
        if run.program != program:
            self._wrong(f"{run_id} was started for program {program} and runs {run.program}")
        if run.gone:
            self._wrong(f"{run_id} was purged and is acknowledged again")
        if key is not None:
            before = self.idem.get(key)
            if before is not None and before != run_id and not self.may_be_gone(before):
                self._wrong(f"idempotency key {key} started {before}, and then {run_id}")
            self.idem[key] = run_id

    def exists(self, run_id: str, program: int) -> RunLog:
        """Somebody was told that the run exists."""
        run = self.ledger.run(run_id, program)
        if not run.known or run_id not in self.order:
            run.known = True
            self.order.append(run_id)
        return run

    def may_be_gone(self, run_id: str) -> bool:
        """Whether a finished run may have been forgotten."""
        run = self.ledger.runs[run_id]
        if run.gone or run.purge_asked:
            return True
        if not self.retention or not run.known:
            return not run.known
        return run.touched or run.program != ANCHORED or run.ended is not None

    def notified(self, payload: str, count: int) -> None:
        """A notify was acknowledged, or refused because it reached nobody."""
        if not self.heard():
            return
        self.ledger.note("notified", payload, count)
        self.ledger.notices[payload].count = count

    def sent(self, payload: str, event: str, to: str = "") -> None:
        """An event is on its way."""
        self.ledger.notices[payload] = Notice(event, self.ledger.clock.now_s, to)

    def known(self, run_id: str) -> Known:
        """Return what is known of the run at this moment."""
        run = self.ledger.runs[run_id]
        return Known(run.ended is not None, run.status, run.updated_at, len(run.done), run.gone)

    def all_known(self) -> dict[str, Known]:
        """Return what is known of all runs at this moment."""
        return {run_id: self.known(run_id) for run_id in self.order}

    def cancelled(self, view: RunView, known: Known) -> None:
        """A cancel was acknowledged."""
        if not self.heard():
            return
        run = self.ledger.runs[view.id]
        self.ledger.note("cancelled", view.id, view.status)
        if view.status in {"completed", "failed"}:
            self._wrong(f"{view.id}: its cancel was acknowledged with {view.status}")
        run.cancel_told = True
        self.view(view, known)

    def not_found(self, run_id: str) -> None:
        """The run is said not to exist."""
        if not self.heard():
            return
        self.ledger.note("not found", run_id)
        run = self.ledger.runs[run_id]
        if not self.may_be_gone(run_id):
            self._wrong(f"{run_id} is lost: it was acknowledged or seen, and is not found")
        run.gone = True

    # ------------------------------------------------------------ reads

    def view(self, view: RunView, known: Known = NOTHING) -> None:
        """Somebody was shown the run, of whom so much was known when it was asked for."""
        if not self.heard():
            return
        self.ledger.note("view", view.id, view.status, view.updated_at)
        program = _decode_input(view.input)["p"] if view.workflow_id == WORKFLOW else -1
        run = self.exists(view.id, program)
        if program != run.program:
            self._wrong(f"{view.id}: its input is {program}, it was started with {run.program}")
        if known.gone:
            self._wrong(f"{view.id}: is shown, though it was said not to exist")
        if view.state in _SICK:
            self._wrong(f"{view.id} is {view.state}: {view.reason}")
        if view.updated_at < known.updated_at:
            self._wrong(f"{view.id}: was updated at {known.updated_at}, and at {view.updated_at}")
        run.updated_at = max(run.updated_at, view.updated_at)
        self._status(run, view, known)
        if view.steps is not UNSET:
            self._steps(run, view, known)

    def _steps(self, run: RunLog, view: RunView, known: Known) -> None:
        ended: set[str] = set()
        for step in view.steps or ():
            if step.status != "pending":
                ended.add(step.key)
                value = step.result if step.result is not UNSET else step.error
                self.outcome(run, step.key, step.status, bytes(value or b""))
                continue
            if isinstance(step.child_run_id, str):
                self._child(run, step.key, step.child_run_id)
            if step.kind == "step" and step.key in run.steps and step.attempts:
                run.steps[step.key].shown = max(run.steps[step.key].shown, step.attempts)
        taken_back = set(islice(run.done, known.done)) - ended
        if taken_back:
            self._wrong(f"{view.id}: outcomes of {sorted(taken_back)} were seen, and are gone")

    def _child(self, run: RunLog, key: str, child: str) -> None:
        if run.children.setdefault(key, child) != child:
            self._wrong(f"{run.id} {key}: started {run.children[key]}, and {child} as well")

    def _status(self, run: RunLog, view: RunView, known: Known) -> None:
        if view.status in ENDED:
            value = view.result if view.status == "completed" else view.error
            self.ended(run, view.status, bytes(value or b""))
        elif known.ended:
            self._wrong(f"{view.id}: had ended as {run.ended}, now it is {view.status}")
        if known.status == "running" and view.status == "pending":
            self._wrong(f"{view.id}: was running, now it is pending")
        if run.status not in ENDED:
            run.status = view.status

    def ended(self, run: RunLog, status: str, value: bytes) -> None:
        """Somebody was told how the run ended."""
        if run.ended is None:
            run.ended = (status, value)
        elif run.ended != (status, value):
            self._wrong(f"{run.id}: ended as {run.ended}, and then as {(status, value)}")
        if status == "failed" and not self._planned(run, value):
            self._wrong(f"{run.id}: failed with {value!r}, which its program does not")
        if run.cancel_told and status != "cancelled":
            self._wrong(f"{run.id}: its cancel was acknowledged, and it ended as {status}")
        if status == "cancelled" and run.root and not run.cancel_asked:
            self._wrong(f"{run.id}: cancelled by nobody")

    def _planned(self, run: RunLog, error: bytes) -> bool:
        """Whether the run's program fails so."""
        found = _decode_error(error)
        paths = failing(self.ledger.programs[run.program], "") if run.program >= 0 else ()
        return found.type == "StepBroke" and found.message in paths

    def outcome(self, run: RunLog, key: str, status: str, value: bytes) -> None:
        """Somebody was told how a call came out."""
        before = run.done.setdefault(key, (status, value))
        if before != (status, value):
            self._wrong(f"{run.id} {key}: was {before}, now it is {(status, value)}")

    # ------------------------------------------------------------ streams

    def row(self, run_id: str, cursor: int, event: RunEvent) -> None:
        """A stream showed an event, after it had shown those up to `cursor`."""
        if self.ledger.muted:
            return
        self.ledger.counts["seen"] += 1
        run = self.ledger.runs[run_id]
        self.ledger.note("row", run_id, event.id, event.event)
        if event.event == "resync":
            row = _decode_row(event.data)
            if row.status in ENDED:
                self.ended(run, row.status, row.value)
            return
        shown = (event.event, event.data)
        where = f"{run_id} event {event.id}"
        if event.id <= cursor:
            self._wrong(f"{where} {shown} came after {cursor}")
        if event.id in run.gaps:
            self._wrong(f"{where} {shown}: another stream passed it over")
        if run.rows.setdefault(event.id, shown) != shown:
            self._wrong(f"{where}: was {run.rows[event.id]}, now it is {shown}")
        if self.ledger.lsns.setdefault(event.lsn, (run_id, event.id)) != (run_id, event.id):
            self._wrong(f"{where}: has the LSN of {self.ledger.lsns[event.lsn]}")
        self._passed_over(run, cursor, event.id)
        self._tell(run, event)

    def _passed_over(self, run: RunLog, cursor: int, until: int) -> None:
        for skipped in range(cursor + 1, until):
            if skipped in run.rows:
                self._wrong(f"{run.id}: the stream passed over event {skipped}")
            run.gaps.add(skipped)
        run.last_row = max(run.last_row, until)

    def _tell(self, run: RunLog, event: RunEvent) -> None:
        row = _decode_row(event.data)
        if event.event == "step":
            self.outcome(run, row.key, row.status, row.value)
        elif event.event == "status" and row.child:
            self._child(run, row.key, row.child)
        elif event.event in {"complete", "error"}:
            self.ended(run, row.status, row.value)

    def caught_up(self, run_id: str, cursor: int, *, whole: bool) -> None:
        """A stream has nothing more; `whole` when the run was said to have ended."""
        if self.ledger.muted:
            return
        run = self.ledger.runs[run_id]
        if cursor < run.last_row:
            self._wrong(f"{run_id}: a stream ends at {cursor}, {run.last_row} was seen before")
        if whole and run.ended is None:
            self._wrong(f"{run_id}: its stream has ended without saying how the run did")

    # ------------------------------------------------------------ everything at one moment

    def compare(
        self, listed: list[RunView], views: dict[str, RunView], waiting: list[WaitingEvent]
    ) -> None:
        """Hold list, runs and waiting events of one moment against one another."""
        if self.ledger.muted:
            return
        for row in listed:
            view = views.get(row.id)
            if view is None:
                continue
            pairs = ((row.status, view.status), (row.updated_at, view.updated_at))
            if any(one != two for one, two in pairs):
                self._wrong(f"{row.id}: the list says {row}, the run {view}")
        ids = [row.id for row in listed]
        if len(set(ids)) != len(ids):
            self._wrong(f"the list has a run twice: {ids}")
        unlisted = views.keys() - set(ids)
        if unlisted:
            self._wrong(f"runs that are there are not listed: {sorted(unlisted)}")
        waits: dict[str, set[str]] = {}
        for view in views.values():
            for step in view.steps or ():
                lives = view.status not in ENDED and step.cancelled is UNSET
                if lives and step.kind == "event" and step.status == "pending":
                    waits.setdefault(str(step.event_id), set()).add(view.id)
        said = {row.event_id: set(row.run_ids) for row in waiting}
        if said != waits:
            self._wrong(f"waiting events are {said}, the runs say {waits}")
