"""One event of the stream of all runs, as Python sees it. PURE."""

from __future__ import annotations

from typing import Any

import msgspec

from stepflow.model.views import EventName

__all__ = ["AllEvent"]


class _Whose(msgspec.Struct, rename="camel"):
    run_id: str = ""
    workflow_id: str = ""


_decode_whose = msgspec.json.Decoder(_Whose).decode


class AllEvent(msgspec.Struct, frozen=True):
    """An event of some run. `cursor` is where to go on after it; empty for one that passes by.

    A `resync` is of no run: what was before it is not kept; list the runs again.
    """

    cursor: str
    event: EventName
    run_id: str
    workflow_id: str
    data: bytes
    """JSON, with `runId` and `workflowId` in it."""

    @classmethod
    def of(cls, cursor: str, event: EventName, data: bytes) -> AllEvent:
        """Return the event of that data."""
        whose = _decode_whose(data)
        return cls(cursor, event, whose.run_id, whose.workflow_id, data)

    def json(self) -> Any:
        """Return the decoded data."""
        return msgspec.json.decode(self.data)
