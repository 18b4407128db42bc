"""Moving up: the runs of a data directory go on in a database, the live ones too.

::

    DIR ──survey──► what is there, and what the other engine has not: refused unless left out
     │
     ├──copy──────► a batch a transaction; the database is held, no engine starts on it
     ├──verify────► every run read again on both sides, all their rows alike
     │
     └──MOVED, then one transaction gives each live run its task and opens the database: the switch

The directory is locked meanwhile, and only read. Until the switch all of it can be taken back, and
what was cut short goes on where it was: a database remembers which directory it is being filled
from, as of which LSN. `rows` is pure, `source` reads the directory, `target` writes the database,
`move` is the order of it all.
"""

from stepflow.engine.postgres.moving.move import Mover, MoveReport
from stepflow.engine.postgres.moving.source import LEFT_OUT, Survey

__all__ = ["LEFT_OUT", "MoveReport", "Mover", "Survey"]
