"""Whose log entry it is: run, workflow, step and attempt on whatever is logged inside a run.

A filter for handlers. It looks at where the entry was made, so that plain `logging` in a step's
function (in the loop or in a thread) and in a workflow's body says where it belongs. It costs
nothing but when something is logged.
"""

from __future__ import annotations

import logging

from stepflow.runtime.branches import running_branch
from stepflow.runtime.current import in_step

__all__ = ["RunFields"]


class RunFields(logging.Filter):
    """Adds `run_id`, `workflow_id`, and inside a step `step` and `attempt`, to a log record."""

    def filter(self, record: logging.LogRecord) -> bool:
        fields = vars(record)
        running = in_step.get()
        if running is not None:
            run_id, key, attempt = running.place()
            fields.setdefault("run_id", run_id)
            fields.setdefault("step", key.removesuffix("#1"))
            fields.setdefault("attempt", attempt)
        elif (branch := running_branch()) is not None:
            actor = branch.session.actor
            fields.setdefault("run_id", actor.id)
            fields.setdefault("workflow_id", actor.state.workflow)
        return True
