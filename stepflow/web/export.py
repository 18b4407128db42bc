"""`GET /runs/{runId}/export`: a run as one file, for the author's debugger."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from stepflow.errors import ForbiddenError, OutcomeUnknownError, RunNotFoundError
from stepflow.model.capsule import make_capsule
from stepflow.web.asgi import query_all
from stepflow.web.operations import AnswerEndpoint, Content, Operation, Param, run_id_of
from stepflow.web.policy import require_run, require_whole
from stepflow.web.problems import text_answer

if TYPE_CHECKING:
    from starlette.types import Receive
    from starlette.types import Scope as AsgiScope

    from stepflow.web.problems import Answer

__all__ = ["ExportRun"]

_IN_LOOP_BYTES: Final = 64 * 1024
"""A larger run is masked in a thread: the loop has others to serve."""


class ExportRun(AnswerEndpoint):
    """Export a run."""

    operation = Operation(
        id="exportRun",
        method="GET",
        path="/runs/{runId}/export",
        switch="runs",
        tag="Runs",
        summary="A run as one file",
        description=(
            "Its records as JSON lines with a head that names version and checksum, for "
            "`stepflow.testing.replay`. Values under names such as `password`, `token` and "
            "`secret` are masked; `STEPFLOW_MASK_NAMES` and `mask` name further ones."
        ),
        scope="read",
        params=(
            Param(
                name="mask",
                place="query",
                schema={"type": "array", "items": {"type": "string"}},
                description="Values under this name are masked too.",
                example=["iban"],
            ),
        ),
        replies={
            200: Content(
                description="The file",
                schema={"type": "string"},
                media="application/x-ndjson",
                example=(
                    '{"stepflow":"run","version":1,"run":"run_4fXo2bKq9TzW1mYc7RdE5h",'
                    '"workflow":"welcome-user","masked":0,"sha256":"…"}\n'
                ),
            )
        },
        errors=(ForbiddenError, RunNotFoundError, OutcomeUnknownError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        principal = await self.principal(scope)
        run_id = run_id_of(scope)
        await require_run(self.engine, principal, run_id)
        require_whole(principal, "read")
        more = [value for name, value in query_all(scope) if name == "mask"]
        line = await self.engine.export_run(run_id)
        make = partial(make_capsule, line, (*self.settings.mask_names.split(","), *more))
        body = make() if len(line) <= _IN_LOOP_BYTES else await asyncio.to_thread(make)
        name = (b"content-disposition", f'attachment; filename="{run_id}.sfrun"'.encode())
        return text_answer(b"application/x-ndjson", body, name)
