"""The engine of many processes: the same runtime over a journal that is a PostgreSQL database.

::

    API process ──┐                                    ┌── worker: supervisor, actors, replay
    API process ──┤──► stepflow.* and absurd.* tables ◄┤
                  │    (NOTIFY wakes, tables decide)   └── worker
    streams ◄─────┘

A worker claims runs through Absurd (one task a life of a run) and drives them with the runtime that
the local engine has: decide, append and apply, commit, release. A group commit is one transaction,
guarded by the claims: a run whose claim was lost is fenced, and nothing of it is written. What
others want of a run lies in its inbox until the records that came of it are written, in the same
transaction. API processes hold nothing: any of them answers any call.

`schema.sql` is the specification of the format. Imported by whoever wants this engine alone: it
needs `stepflow[postgres]`.
"""

from stepflow.engine.postgres.engine import PostgresEngine

__all__ = ["PostgresEngine"]
