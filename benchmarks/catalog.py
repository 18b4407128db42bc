"""The scripts, in the order in which they are run, and how long each takes.

`make bench` runs those that a change may move in an afternoon; `make bench-long` the others but for
the soak; `make bench-all` both, and the quick ones last. The minutes are those of two cores that
nothing else uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Script:
    """One script: what it measures, beside what, and how long that takes."""

    name: str
    measures: str
    beside: str
    minutes: float
    long: bool = False
    in_quick: bool = True


SCRIPTS: Final = (
    Script(
        "in_process",
        "`flow.trigger` and `.result()` of a workflow of three steps, at 1, 64 and 1,000 in flight",
        "the same workflow by a bare loop (a task a run, or driven by `send`); 4 KiB written to a "
        "preallocated file and `fdatasync`ed, over and over",
        3,
    ),
    Script(
        "http_triggers",
        "`POST /trigger/{workflowId}` until the answer, which means durable; each run's three "
        "steps are executed behind it. And `GET /runs/{runId}`",
        "a bare Starlette JSON echo, and a bare GET, on the same uvicorn (uvloop, httptools)",
        2,
    ),
    Script(
        "http_guard",
        "requests through the guard of the connection (deadlines, bounds, caps), and the server's "
        "processor time for each",
        "the same application on uvicorn's own protocol",
        1.5,
    ),
    Script(
        "fan_out",
        "one run's events until the last of 1,000 and of 5,000 subscribers has them, and the "
        "server's processor time for each",
        "plain ASGI that sends shared bytes, one `send` an event; sse-starlette (`make sse-env`)",
        4,
    ),
    Script(
        "recovery",
        "a killed process's journal, without a snapshot, until the engine serves",
        "reading and parsing the same records",
        1,
    ),
    Script(
        "start",
        "`import stepflow`; `stepflow serve` on an empty directory until it answers",
        "importing what it needs; a bare Starlette app on uvicorn",
        0.3,
    ),
    Script(
        "instructions",
        "bytecode instructions and Python calls a run of three steps, by function",
        "none: it is the same every time",
        0.3,
    ),
    Script(
        "machine_instructions",
        "the processor's instructions a run of three steps, at 1, 64 and 1,000 in flight, and a "
        "trigger over HTTP, counted by callgrind; needs valgrind and a C compiler",
        "a bare loop with the same disk in memory; a bare Starlette echo",
        2,
        long=True,
        in_quick=False,
    ),
    Script(
        "http_instructions",
        "the same for a trigger and for `GET /runs/{runId}`, behind our own connection and mounted "
        "in a host",
        "a bare Starlette echo and a bare GET on uvicorn's own protocol",
        0.5,
    ),
    Script(
        "stream_instructions",
        "bytecode instructions by the subscriber and event, of one run's stream and of `/stream`, "
        "and in how many writes events come",
        "none: it is the same every time",
        0.2,
    ),
    Script(
        "tail",
        "p99.9 of a trigger and of a step while snapshots with compaction, runs put to sleep, "
        "woken and recovered, and 1,000 subscribers go on; the loop's longest stall",
        "the same load alone",
        3,
        long=True,
    ),
    Script(
        "history",
        "a run with 100,000 steps, a run woken 100,000 times",
        "the first tenth of the same history",
        2,
        long=True,
    ),
    Script(
        "scale",
        "one more run, wake-up and look-up from 1,000 waiting runs to 1,000,000; bytes a run; a "
        "snapshot of all with the loop's longest stall; recovery",
        "the smaller sizes: the curve is flat when CPU time does not grow",
        8,
        long=True,
    ),
    Script(
        "peers",
        "the same workflow on DBOS (SQLite and PostgreSQL), Absurd, Restate, llama-agents-server "
        "and llama-index-workflows, and a bare loop with one group commit",
        "ours, in turn, each alone on the machine",
        8,
        long=True,
        in_quick=False,
    ),
    Script(
        "cluster",
        "the same workflow on PostgreSQL in one process and with 1, 2, 4 and 8 workers; what a run "
        "and a step cost in processor time, transactions, log, connections and memory",
        "the local engine, Absurd and DBOS on PostgreSQL, in turn, each alone on the machine",
        5,
        long=True,
        in_quick=False,
    ),
    Script(
        "soak",
        "half the peak for `--seconds` (an hour), beside sleepers, waiters and readers",
        "its own first quarter",
        61,
        long=True,
    ),
)
BY_NAME: Final = {script.name: script for script in SCRIPTS}
SHORT: Final = tuple(script.name for script in SCRIPTS if not script.long)
LONG: Final = tuple(script.name for script in SCRIPTS if script.long and script.name != "soak")
QUICK: Final = tuple(script.name for script in SCRIPTS if script.in_quick)
