"""How a body asks: a call gets its key when it is made, and is awaited through the gate."""

from __future__ import annotations

from sys import exception
from typing import TYPE_CHECKING, Any, TypeVar

from stepflow.authoring.options import KNOWN_NAMES, UNDO, check_key, check_name
from stepflow.errors import AuthoringError
from stepflow.runtime.blame import note_cleanup
from stepflow.runtime.branches import Branch, current_branch
from stepflow.runtime.calls import DEFAULT_POLICY, MapWait, OneWait, RunAsk, StepAsk, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepflow.authoring.registry import Workflow
    from stepflow.model.records import Kind
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.session import Session

__all__ = ["Asking"]

_A = TypeVar("_A", bound=RunAsk)


class Asking:
    """Names calls and awaits them; what they do is the actor's."""

    def __init__(self, actor: RunActor, session: Session, workflow: Workflow) -> None:
        self._actor = actor
        self._session = session
        self._workflow = workflow
        self._policy = workflow.options.retry or DEFAULT_POLICY
        self._keys: set[str] | None = None
        self.undo: list[tuple[StepAsk, Callable[..., Any]]] | None = None
        """Steps of this activation that have a compensation."""

    # ------------------------------------------------------------ naming

    def _branch(self) -> Branch:
        return current_branch(self._session)

    def _key(self, branch: Branch, name: str, key: str | None) -> str:
        """Allot the step key of a call: counted in its branch, or the author's own."""
        if type(name) is not str or name not in KNOWN_NAMES:
            check_name(name)
            if name.startswith(UNDO) and not self._session.undoing:
                raise AuthoringError(
                    f"name {name!r}: what begins with {UNDO!r} undoes another step"
                )
        if key is None:
            return branch.key(name)
        check_key(key)
        own = f"{name}[{key}]"
        if self._keys is None:
            self._keys = set()
        if own in self._keys:
            message = f"key {key!r} was used before for {name!r} in this run; a key names one call"
            raise AuthoringError(message)
        self._keys.add(own)
        return own

    def _ask(
        self,
        cls: type[_A],
        kind: Kind,
        name: str,
        fn: str,
        args: str,
        key: str | None = None,
    ) -> _A:
        branch = self._branch()
        step_key = self._key(branch, name, key)
        return cls(step_key, name, kind, fn, args, key is not None or not branch.path)

    # ------------------------------------------------------------ awaiting

    async def _one(self, ask: RunAsk) -> Any:
        session = self._session
        if session.fenced:
            await session.refuse()
        if exception() is not None:
            note_cleanup(session, ask.key)
        asks = (ask,)
        ask.wait = wait = OneWait(session, asks, session.loop.create_future())
        if session.plain_calls:
            session.plain_calls = 0
        session.waits.add(wait)
        try:
            session.gate.ask(asks)
            return await wait.future
        finally:
            session.waits.discard(wait)
            if not wait.answered:
                session.gate.forget(asks)
                self._actor.give_up(asks)
            # The call knows its wait, and an error's frames know both: cut, so that all are free
            # without the collector, which counts objects and not how large they are.
            wait.asks = ()
            del ask, asks, wait

    async def _wait(self, wait: Wait) -> Any:
        session = self._session
        if exception() is not None:
            for ask in wait.asks:
                note_cleanup(session, ask.key)
        session.plain_calls = 0
        session.waits.add(wait)
        try:
            session.gate.ask(wait.asks)
            return await wait.future
        finally:
            session.waits.discard(wait)
            if not wait.answered:
                session.gate.forget(wait.asks)
                self._actor.give_up(wait.asks)
            elif wait.is_failed_map:
                session.gate.drop(wait.asks)
                self._actor.give_up(wait.asks)
            wait.let_go()
            del wait

    async def _many(self, asks: Sequence[RunAsk], limit: int | None) -> list[Any]:
        if not asks:
            return []
        session = self._session
        if session.fenced:
            await session.refuse()
        wait = MapWait(session, asks, session.loop.create_future(), limit=limit or 0)
        for ask in asks:
            ask.wait = wait
        results: list[Any] = await self._wait(wait)
        return results
