"""A run as it is held: its state as objects while somebody needs them, else one `bytes` object."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, cast

from stepflow.model.run import FINISHED, RunState
from stepflow.runtime.parked import (
    finished_of,
    line_of,
    lsn_of,
    park,
    start_lsn_of,
    state_of,
    status_of,
    summary_of,
)

if TYPE_CHECKING:
    import asyncio

    from stepflow.model.ids import RunId
    from stepflow.model.run import RunStatus, RunSummary
    from stepflow.model.views import RunViewState
    from stepflow.runtime import messages as msg
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.hub import Feed
    from stepflow.runtime.session import Session
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["HeldRun"]


class HeldRun:
    """What is known of one run, and who still needs it as objects."""

    __slots__ = (
        "_draining",
        "_mailbox",
        "_parked",
        "condition",
        "failures",
        "feed",
        "finish_waiters",
        "id",
        "open_state",
        "purged",
        "reason",
        "retried",
        "session",
        "start_lsn",
        "strict_lsn",
        "sup",
        "undecided",
    )

    def __init__(self, sup: Supervisor, run_id: RunId, parked: bytes = b"") -> None:
        self.sup = sup
        self.id = run_id
        self.open_state: RunState | None = None if parked else RunState(run_id)
        """The run's state while it is held as objects: on hot ways asked before `state`."""
        self._parked = parked
        """The run as bytes, while its state is not open."""
        self._mailbox: deque[msg.Message] = deque()
        self._draining = False
        self.session: Session | None = None
        self.feed: Feed | None = None
        self.strict_lsn = lsn_of(parked) if parked else 0
        """LSN of the run's last strict record: effects wait for it."""
        self.start_lsn = start_lsn_of(parked) if parked else 0
        self.condition: RunViewState | None = None
        """What the records alone do not say: `parked`, `quarantined`, `missing-workflow`."""
        self.reason = ""
        self.failures = 0
        self.undecided: msg.Message | None = None
        """The message on which the actor failed, to be tried once more."""
        self.retried: msg.Message | None = None
        """The message that was tried once more."""
        self.purged = False
        self.finish_waiters: list[asyncio.Future[None]] = []

    # ------------------------------------------------------------ state

    @property
    def state(self) -> RunState:
        """The run's state, opened when it is packed."""
        if self.open_state is None:
            self.open_state = state_of(self._parked, self.id)
            self._parked = b""
            self.sup.runs.opened(cast("RunActor", self))
        return self.open_state

    @property
    def is_open(self) -> bool:
        """Whether the state is held as objects."""
        return self.open_state is not None

    @property
    def busy(self) -> bool:
        """Whether a message that comes now would have to wait for others."""
        return self._draining or bool(self._mailbox)

    def restore(self, state: RunState) -> None:
        """Take the state that recovery found."""
        self.open_state = state
        self.strict_lsn = state.lsn

    def peek(self) -> RunState:
        """Return the state for reading, without keeping it open."""
        return self.open_state if self.open_state is not None else state_of(self._parked, self.id)

    def summary(self) -> RunSummary:
        """Return what lists show, without opening the run."""
        if self.open_state is not None:
            return self.open_state.summary()
        return summary_of(self._parked, self.id, self.sup.runs.names)

    @property
    def lsn(self) -> int:
        """LSN of the run's last record."""
        return self.open_state.lsn if self.open_state is not None else lsn_of(self._parked)

    @property
    def status(self) -> RunStatus:
        """The run's status."""
        return self.open_state.status if self.open_state is not None else status_of(self._parked)

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        if self.open_state is not None:
            return self.open_state.status in FINISHED
        return finished_of(self._parked)

    def line(self) -> bytes:
        """Return the run's snapshot line."""
        return (
            self.open_state.pack()
            if self.open_state is not None
            else line_of(self._parked, self.id)
        )

    def pack(self) -> None:
        """Give up the state's objects where nothing needs them, the actor where nobody does."""
        state = self.open_state
        if state is None or self.session is not None or self.feed is not None or self._mailbox:
            return
        self._parked = park(state, self.start_lsn, self.sup.runs.names)
        self.open_state = None
        self.leave()

    def leave(self) -> None:
        """Leave the table to the parked bytes, if they say all there is."""
        if (
            self.open_state is None
            and self.condition is None
            and self.feed is None
            and not (self._mailbox or self._draining or self.finish_waiters or self.failures)
            # What was recorded after this is waited for by its LSN; till then it is known here.
            and max(lsn_of(self._parked), self.strict_lsn) <= self.sup.journal.durable_lsn
        ):
            self.sup.runs.park(cast("RunActor", self), self._parked)

    def left_alone(self) -> None:
        """The last subscriber has gone."""
        self.pack()
