"""What the waits of a worker's runs take: it goes into their rows, for whoever delivers an event.

A wait that begins has its type at hand. Of one that was written without it the body has to be asked
once more: after a retry it is on its way to the wait in any case; of runs that were moved in from a
data directory, which sleep, one of each kind is woken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from stepflow.engine.postgres.delivering import Types
from stepflow.engine.postgres.inbox import decode_event
from stepflow.errors import ApiError
from stepflow.runtime.supervisor import sleeps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepflow.authoring.registry import Registry
    from stepflow.engine.postgres.database import Database
    from stepflow.engine.postgres.supervisor import ClusterSupervisor
    from stepflow.runtime.actor import RunActor

__all__ = ["WaitTypes"]


class WaitTypes:
    """Knows, and learns, what they take. `on_met` is told when letters may be looked at again."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        sup: ClusterSupervisor,
        on_met: Callable[[], None],
    ) -> None:
        self._database = database
        self._registry = registry
        self._sup = sup
        self._on_met = on_met
        self.types = Types(registry, sup.delivery.wants)
        self._untold: set[tuple[str, str]] = set()
        """Waits that were written while nobody knew what they take, by run and key."""
        self._meeting: set[str] = set()
        """Sleeping runs that are woken to hear what they take."""
        self._kinds: set[tuple[str, str]] = set()
        """Workflows and names of waits that are being asked for."""
        self._some_untold: bool | None = None
        """Whether there may be such waits of runs that are not here; None: nobody has looked."""

    def type_of(self, run_id: str, key: str) -> str | None:
        """Return what the wait takes, as text; None where nobody knows yet."""
        actor = self._sup.runs.get(run_id)
        state = actor.peek() if actor is not None else None
        call = state.calls.get(key) if state is not None else None
        if actor is None or state is None or call is None:
            return None
        asks = actor.event_asks(call.event)
        converter = next((ask.converter for ask in asks if ask.key == key), None)
        told = self.types.text_of(state.workflow, call.name, converter)
        if told is None:
            self._untold.add((run_id, key))
        return told

    # ------------------------------------------------------------ learning

    async def look(self, *, again: bool = True) -> None:
        """Look whether there are waits that nobody has said anything of; once, or again."""
        if again or self._some_untold is None:
            rows = await self._database.rows(
                "select exists (select 1 from stepflow.waits where type is null)"
            )
            self._some_untold = bool(rows[0][0])

    def adopted(self, actor: RunActor) -> None:
        """A run was claimed: it may be one of which nobody has said what it waits for."""
        state = actor.peek()
        if (
            not self._some_untold
            or actor.condition is not None
            or state.paused
            or not sleeps(state)
            or self._registry.get(state.workflow) is None
        ):
            return
        for call in state.pending_calls():
            if call.kind != "event":
                continue
            self._untold.add((actor.id, call.key))
            kind = state.workflow, call.name
            if self._sup.delivery.wants(*kind) is None and kind not in self._kinds:
                self._kinds.add(kind)
                self._meeting.add(actor.id)
                self._sup.spawn(self._meet(actor.id, call.event, kind))

    def meets(self, run_id: str, body: bytes) -> bool:
        """Whether the run has to be woken before it gets the event: nobody knows what it takes."""
        if run_id in self._meeting:
            return True
        try:
            letter = decode_event(body)
        except msgspec.MsgspecError:
            return False
        if self._sup.delivery.stranger(letter.event, run_id) is None:
            return False
        self._meeting.add(run_id)
        self._sup.spawn(self._meet(run_id, letter.event))
        return True

    async def _meet(self, run_id: str, event: str, kind: tuple[str, str] | None = None) -> None:
        try:
            await self._sup.delivery.meet(event, run_id)
        finally:
            self._meeting.discard(run_id)
            if kind is not None:
                self._kinds.discard(kind)
            self._on_met()

    def holds(self, run_id: str) -> bool:
        """Whether the run must not be put to sleep before it is known what it takes."""
        return bool(self._untold) and any(run_id == row[0] for row in self._untold)

    # ------------------------------------------------------------ telling

    async def say(self) -> None:
        """Write what waits take of which nobody knew it when they were written."""
        if not self._untold:
            return
        places, self._untold = self._untold, set()
        told = [(run_id, key, self.type_of(run_id, key)) for run_id, key in places]
        known: Sequence[tuple[Any, ...]] = [row for row in told if row[2] is not None]
        if not known:
            return
        try:
            await self._database.act(
                """update stepflow.waits w set type = p.type
                     from unnest(%s::text[], %s::text[], %s::text[]) as p(run_id, key, type)
                    where w.run_id = p.run_id and w.key = p.key and w.type is null""",
                *map(list, zip(*known, strict=True)),
            )
        except ApiError:
            self._untold |= places
            raise
