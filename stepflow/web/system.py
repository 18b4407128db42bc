"""`GET /system`: the service at one moment, for a page that people look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stepflow.errors import ForbiddenError, UnavailableError
from stepflow.model.system import SystemView
from stepflow.web.endpoints import encode
from stepflow.web.operations import AnswerEndpoint, Content, Operation
from stepflow.web.policy import require_whole
from stepflow.web.problems import json_answer

if TYPE_CHECKING:
    from starlette.types import Receive
    from starlette.types import Scope as AsgiScope

    from stepflow.web.problems import Answer

__all__ = ["PACE_EXAMPLE", "GetSystem"]

PACE_EXAMPLE: Final[dict[str, Any]] = {
    "workflowId": "welcome-user",
    "live": 12,
    "queued": 0,
    "startedPerS": 3.2,
    "completedPerS": 3.1,
    "failedPerS": 0.05,
    "cancelledPerS": 0.0,
    "windowS": 60.0,
    "latencyP50S": 0.012,
    "latencyP99S": 0.31,
    "sampled": 186,
}
_EXAMPLE: Final[dict[str, Any]] = {
    "state": "ready",
    "timestamp": "2024-01-15T10:30:00.000Z",
    "uptimeS": 3600.0,
    "recoveryS": 0.2,
    "version": "0.1.0",
    "runs": {
        "live": 12,
        "active": 2,
        "queued": 0,
        "quarantined": 0,
        "known": 5012,
        "finished": 5000,
        "liveBytes": 12_000,
        "finishedBytes": 4_000_000,
        "parkedBytes": 3_900_000,
        "startedPerS": 3.2,
        "endedPerS": 3.15,
        "retentionHours": 168.0,
    },
    "journal": {
        "storeId": "6f1d0c52a9b34e70",
        "durableLsn": 40_213,
        "queuedBytes": 0,
        "segments": 3,
        "segmentBytes": 7_340_032,
        "bytesWritten": 6_100_000,
        "bytesPerS": 5200.0,
        "roomBytes": 80_000_000_000,
        "readOnly": False,
        "hangsS": 0.0,
        "commits": {"perS": 12.5, "p50S": 0.0005, "p99S": 0.0025, "lastS": 0.0003, "maxS": 0.02},
    },
    "snapshot": {
        "lsn": 30_001,
        "bytes": 2_000_000,
        "createdAt": "2024-01-15T10:20:00.000Z",
        "ageS": 600.0,
        "journalBytesSince": 3_000_000,
        "failures": 0,
    },
    "loop": {"lagS": 0.0002, "lagMaxS": 0.004, "blockedTotal": 0, "blockedMaxS": 0.0},
    "streams": {
        "ofRuns": 3,
        "ofAll": 1,
        "keptEvents": 31_000,
        "keptBytes": 8_000_000,
        "keptSince": "6f1d0c52a9b34e70-9213",
    },
    "memory": {"rssBytes": 61_000_000, "rssMaxBytes": 64_000_000},
    "timers": 4,
    "eventWaiters": 6,
    "zombies": 0,
    "missingWorkflows": [],
    "workflows": [PACE_EXAMPLE],
}


class GetSystem(AnswerEndpoint):
    """Show the service as a whole."""

    operation = Operation(
        id="getSystem",
        method="GET",
        path="/system",
        switch="metrics",
        tag="Service",
        summary="The service at a glance",
        description=(
            "What `/metrics` counts, put together for people: runs, commits, snapshot, loop, "
            "streams, memory, and how fast each workflow's runs come and go. Rates are over the "
            "last minute, latencies over the last 512 runs of five minutes."
        ),
        scope="read",
        replies={200: Content(description="The service", schema=SystemView, example=_EXAMPLE)},
        errors=(ForbiddenError, UnavailableError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        require_whole(await self.principal(scope), "read")
        return json_answer(encode(await self.engine.system()))
