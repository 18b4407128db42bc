"""What a body has without awaiting: the time, dice, progress, its log; and what it emits."""

from __future__ import annotations

import logging
import uuid as _uuid
from datetime import UTC, datetime
from sys import exception
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from stepflow.authoring.options import check_name
from stepflow.errors import AuthoringError, DivergenceError
from stepflow.model import records as rec
from stepflow.model.codec import encode
from stepflow.runtime.asking import Asking
from stepflow.runtime.blame import note_cleanup
from stepflow.runtime.calls import HeldWait
from stepflow.runtime.emitting import is_ahead, pass_on, record_emit, wait_for_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from stepflow.runtime.session import Session

__all__ = ["PlainCalls"]

_base_log = logging.getLogger("stepflow.workflow")


class _RunLog(logging.LoggerAdapter[logging.Logger]):
    """Silent while recorded results are replayed."""

    def __init__(self, session: Session, workflow_id: str) -> None:
        super().__init__(_base_log, {"run_id": session.run_id, "workflow_id": workflow_id})
        self._session = session

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  logging's name
        return not self._session.gate.replaying and super().isEnabledFor(level)


class PlainCalls(Asking):
    """The part of `Context` that is not awaited, or gives nothing back."""

    _log: _RunLog | None = None

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        if self._log is None:
            self._log = _RunLog(self._session, self._workflow.id)
        return self._log

    def emit(
        self, name: str, data: object = None, *, durable: bool = True
    ) -> Coroutine[Any, Any, None]:
        check_name(name)
        if not durable:
            return self._pass_on(name, data)
        key = self._branch().key(f"@emit:{name}")
        return self._emit(key, name, encode(data, "data"))

    async def _pass_on(self, name: str, data: object) -> None:
        session = self._session
        if session.fenced:
            await session.refuse()
        # What the body has told before it is not told again, and it needs no place among the keys.
        if self._actor.sup.hub.is_heard(self._actor) and not session.gate.replaying:
            pass_on(session, name, encode(data, "data"))

    async def _emit(self, key: str, name: str, data: bytes) -> None:
        session = self._session
        if session.fenced:
            await session.refuse()
        if exception() is not None:
            note_cleanup(session, key)
        if session.held is not None and key not in self._actor.state.marks:
            await self._wait(HeldWait(session, (), session.loop.create_future()))
        if key not in self._actor.state.marks:
            record_emit(session, key, name, data, lazy=False)
            if is_ahead(session):
                await wait_for_disk(session)

    # ------------------------------------------------------------ plain calls

    def _plain(self, name: str) -> str:
        key = self._branch().key(name)
        if exception() is not None:
            note_cleanup(self._session, key)
        self._count_plain()
        return key

    def _count_plain(self) -> None:
        session = self._session
        session.plain_calls += 1
        bound = self._actor.sup.settings.plain_calls_max
        if session.plain_calls > bound:
            message = (
                f"more than {bound} calls of now, random, uuid or progress between two awaits; "
                "put the loop into a step"
            )
            raise AuthoringError(message)

    def _value(self, name: str, make: Callable[[], bytes]) -> bytes:
        key = self._plain(name)
        known = self._actor.state.values.get(key)
        if known is not None:
            return known
        data = make()
        if not self._session.fenced:
            self._actor.sup.recorder.write(self._actor, rec.ValueRecorded, key=key, value=Raw(data))
        return data

    def now(self) -> datetime:
        time = self._actor.sup.time
        milliseconds = int(self._value("@now", lambda: b"%d" % time.now_ms()))
        return datetime.fromtimestamp(milliseconds / 1000, UTC)

    def random(self) -> float:
        entropy = self._actor.sup.entropy
        return float(
            msgspec.json.decode(
                self._value("@random", lambda: msgspec.json.encode(entropy.random())), type=float
            )
        )

    def uuid(self) -> _uuid.UUID:
        entropy = self._actor.sup.entropy

        def make() -> bytes:
            return msgspec.json.encode(_uuid.UUID(int=entropy.getrandbits(128), version=4))

        return msgspec.json.decode(self._value("@uuid", make), type=_uuid.UUID)

    def version(self, name: str, n: int) -> int:
        check_name(name, "version name")
        if type(n) is not int or n < 1:
            message = f"ctx.version({name!r}, {n!r}): versions are counted from 1"
            raise AuthoringError(message)
        chosen = self._actor.state.versions.get(name)
        if chosen is None:
            # One that has been here before, when there was no such call, goes on with the old code.
            chosen = 1 if self._session.gate.replaying else n
            self._count_plain()
            if not self._session.fenced:
                self._actor.sup.recorder.write(self._actor, rec.VersionChosen, name=name, n=chosen)
        if chosen > n:
            error = DivergenceError(f"version {name}", f"version {chosen}", f"version {n}")
            self._actor.diverged(error)
            raise error
        return chosen

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        key = self._plain("@progress")
        if key not in self._actor.state.marks and not self._session.fenced:
            self._actor.sup.recorder.write(
                self._actor,
                rec.Progressed,
                key=key,
                done=done,
                total=total,
                message=message,
            )
