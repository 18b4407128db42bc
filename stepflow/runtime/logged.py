"""Whose log entry it is: run, workflow, step and attempt on whatever is logged inside a run.

A filter for handlers. It looks at where the entry was made, so that plain `logging` in a step's
function (in the loop or in a thread) and in a workflow's body says where it belongs. It costs
nothing but when something is logged.

================ ================================= ==========================
attribute        in a step's function              in a workflow's body
================ ================================= ==========================
`run_id`         yes                               yes
`workflow_id`    yes                               yes
`step`           its key: `charge`, `charge#2`     no
`attempt`        from 1                            no
================ ================================= ==========================

An attribute that the caller gave by `extra=` is left as it is. Outside a run nothing is added.
"""

from __future__ import annotations

import logging

from stepflow.runtime.branches import running_branch
from stepflow.runtime.current import in_step

__all__ = ["RunFields"]


class RunFields(logging.Filter):
    """Adds `run_id` and `workflow_id`, and in a step `step` and `attempt`, to a log record.

    Add it to each handler of yours: `handler.addFilter(RunFields())`. It must be one that is called
    where the entry is made: of a `QueueHandler` and its listener, the `QueueHandler`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, with the fields that it can be given."""
        fields = vars(record)
        running = in_step.get()
        if running is not None:
            run_id, workflow_id, key, attempt = running.place()
            fields.setdefault("run_id", run_id)
            fields.setdefault("workflow_id", workflow_id)
            fields.setdefault("step", key.removesuffix("#1"))
            fields.setdefault("attempt", attempt)
        elif (branch := running_branch()) is not None:
            session = branch.session
            fields.setdefault("run_id", session.run_id)
            fields.setdefault("workflow_id", session.workflow)
        return True
