"""What the parts of the engine share: the database, and errors that say what it has refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stepflow.engine.part import EnginePart
from stepflow.errors import (
    ApiError,
    ConflictError,
    RateLimitedError,
    RunNotFoundError,
    UnavailableError,
)

if TYPE_CHECKING:
    import psycopg

    from stepflow.clock import Clock
    from stepflow.engine.postgres.batched import Batched
    from stepflow.engine.postgres.bell import Bell
    from stepflow.engine.postgres.database import Database
    from stepflow.engine.postgres.ends import Ends
    from stepflow.engine.postgres.feeds import Feeds
    from stepflow.engine.postgres.history import Seen
    from stepflow.engine.postgres.passing import Audience
    from stepflow.engine.postgres.streams import ClusterAllStream, ClusterStream
    from stepflow.engine.postgres.worker import Worker

__all__ = ["ClusterPart", "said"]


class ClusterPart(EnginePart):
    """One room of the engine: `PostgresEngine` is made of these."""

    clock: Clock
    poll_s: float
    bell: Bell
    audience: Audience
    ends: Ends
    feeds: Feeds
    runs: Batched[str, Seen]
    """Reads whole runs."""
    statuses: Batched[str, str]
    streams: set[ClusterStream | ClusterAllStream]
    """Those that are open in this process."""
    _database: Database
    _worker: Worker | None

    @property
    def database(self) -> Database:
        """The database of the running engine, or `UnavailableError`."""
        if self._state in {"stopped", "starting", "failed"}:
            raise UnavailableError(f"Stepflow is {_SAYS[self._state]}", retry_after_s=1)
        return self._database

    @property
    def writable(self) -> Database:
        """The database, while new work is taken."""
        if self._state == "draining":
            raise UnavailableError("Stepflow is stopping", retry_after_s=1)
        return self.database


_SAYS: Final = {"stopped": "not running", "starting": "starting", "failed": "not running"}


def said(error: psycopg.Error) -> ApiError:
    """Return what the database has refused as the caller's error; raise what nobody expects."""
    message = error.diag.message_primary or ""
    match error.sqlstate:
        case "SF404":
            return RunNotFoundError()
        case "SF409":
            return ConflictError(f"The run is {message}: that is not for it now")
        case "SF429":
            return RateLimitedError(
                f"Run {message} keeps as many events as it may and takes no more", retry_after_s=1
            )
        case "SF430":
            return RateLimitedError(
                f"{message} runs wait for their turn under the same key, and no more may",
                retry_after_s=5,
            )
        case _:
            raise error
