"""Sessions in a table that several processes share: logged in at one, logged in at all.

A row is the JSON of `sessions.row_of`, by the hash of the id: no secret is there either. A session
that a host's own handler let in has its credential in memory, and stays in the process it began in.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import TYPE_CHECKING

from stepflow.auth.sessions import Session, Sessions, is_id, row_of, session_of
from stepflow.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepflow.clock import Clock, TimerHandle
    from stepflow.config import Settings
    from stepflow.model.shared_table import SharedTable

__all__ = ["SessionsTable"]

logger = logging.getLogger("stepflow.auth")


class SessionsTable(Sessions):
    """The sessions of all processes on one table."""

    __slots__ = ("_asked_s", "_asking", "_every_s", "_seen", "_table", "_timer")

    def __init__(
        self,
        table: SharedTable,
        clock: Clock,
        settings: Settings,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__(None, clock, settings, entropy)
        self._table = table
        self._every_s = settings.keys_check_s
        self._seen = -1
        self._asked_s: float | None = None
        self._asking: asyncio.Future[Mapping[str, bytes]] | None = None
        self._timer: TimerHandle | None = None

    def find(self, text: str) -> Session | None:
        self._look()
        return super().find(text)

    async def seek(self, text: str) -> Session | None:
        found = self.find(text)
        if found is not None or not is_id(text):
            return found
        # It may have begun elsewhere, and the word of it be on its way. Whoever makes ids up makes
        # the table be read once a second, not each time.
        asking = self._asking
        if asking is None:
            now_s = self._clock.monotonic_s()
            if self._asked_s is not None and now_s - self._asked_s < self._every_s:
                return None
            self._asked_s = now_s
            asking = self._asking = asyncio.ensure_future(asyncio.to_thread(self._table.read))
            asking.add_done_callback(self._asked)
        try:
            await asyncio.shield(asking)
        except ApiError as error:
            logger.warning("the sessions could not be looked at: %s", error.message)
            return None
        return self.find(text)

    def _asked(self, done: asyncio.Future[Mapping[str, bytes]]) -> None:
        self._asking = None
        done.exception()  # whoever waits has it, if anybody still does

    def by_hash(self, sha256: str | None) -> Session | None:
        self._look()
        return super().by_hash(sha256)

    def watch(self, sha256: str, ended: Callable[[], None]) -> Callable[[], None]:
        stop = super().watch(sha256, ended)
        if self._timer is None:
            self._timer = self._clock.call_later(self._every_s, self._tick)

        def stopped() -> None:
            stop()
            if not self._watches and self._timer is not None:
                self._timer.cancel()
                self._timer = None

        return stopped

    def _make_room(self, now_ms: int) -> list[str]:
        self._look()
        return super()._make_room(now_ms)

    def _tick(self) -> None:
        self._timer = self._clock.call_later(self._every_s, self._tick)
        self._look()

    def _look(self) -> None:
        """Take in what has changed in the table, and end what is not there any more."""
        version = self._table.version
        if version == self._seen:
            return
        self._seen = version
        here = {k: each for k, each in self._by_hash.items() if each.credential is not None}
        rows = _decode(self._table.known())
        gone = self._by_hash.keys() - here.keys() - rows.keys()
        self._by_hash = rows | here
        for sha256 in gone:
            self._tell(sha256)

    async def _keep(self, begun: Session | None, gone: Sequence[str]) -> None:
        if begun is not None and begun.credential is not None and not gone:
            return
        await asyncio.to_thread(self._change, begun, gone)
        self._look()

    def _change(self, begun: Session | None, gone: Sequence[str]) -> None:
        with self._table.turn() as rows:
            for sha256 in gone:
                rows.pop(sha256, None)
            if begun is not None and begun.credential is None:
                rows[begun.sha256] = json.dumps(row_of(begun)).encode()


def _decode(texts: Mapping[str, bytes]) -> dict[str, Session]:
    """Return the sessions, the oldest first; one that is damaged is none."""
    found: list[Session] = []
    for sha256, text in texts.items():
        try:
            session = session_of(json.loads(text))
        except (ValueError, KeyError, TypeError):
            logger.warning("a session in the database is damaged: whoever has it logs in again")
            continue
        if session.sha256 == sha256:
            found.append(session)
    return {each.sha256: each for each in sorted(found, key=lambda each: each.created_ms)}
