"""Past one machine, on this one: `make run-cluster`.

    python -m tools.run_cluster [APP] [--workers 2] [--apis 2] [--port 0]

Starts a database, workers, API nodes and a balancer (tools/cluster.py), says what runs where and
how to try it, and ends all of it at Ctrl-C. A process that is killed is said and started again, so
`kill -9` can be tried on any of them. One line a thing, the same in a terminal and in a pipe.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools import nginx
from tools.children import EndedError
from tools.cluster import BALANCER, DATABASE, Cluster
from tools.postgres import programs

if TYPE_CHECKING:
    from types import FrameType

ROOT: Final = Path(__file__).resolve().parents[1]
LOOK_S: Final = 0.2
AWAY_S: Final = 1.0
"""So long a killed process stays away, as one does that a service manager starts again."""


class _OverError(Exception):
    """Asked to end."""


def say(line: str) -> None:
    print(line, flush=True)


def role(process: str) -> str:
    """Return what the process does, in a few words."""
    if process == DATABASE:
        return "PostgreSQL: all that is durable"
    if process == BALANCER:
        return "nginx: where clients and browsers go"
    if process.startswith("api"):
        return "answers calls, serves streams and the dashboard"
    return "runs workflows"


def show(cluster: Cluster) -> None:
    """Say what runs where, and how to try it."""
    say("")
    for process in cluster.processes:
        place = f"{cluster.address(process)}  pid {cluster.pid(process)}"
        say(f"  {process:<10} {place:<32} {role(process)}")
    say("")
    say(f"  URL        {cluster.url}")
    say(f"  dashboard  {cluster.url}/ui")
    say(f"  API key    {cluster.api_key}")
    say(f"  database   {cluster.database_url}")
    say(f"  logs       {cluster.directory}")
    say("")
    say("  Try it in another terminal:")
    say("")
    say(f"    export STEPFLOW_URL={cluster.url} STEPFLOW_API_KEY={cluster.api_key}")
    say("    stepflow runs watch")
    say("    kill -9 PID    # any of these: the others go on, and it is started again")
    say("")
    say("Stepflow is ready; Ctrl-C ends all of it")


def keep(cluster: Cluster) -> None:
    """Start again what ends, until asked to end."""
    while True:
        for process in cluster.dead():
            say(f"{process} has ended; starting it again in {AWAY_S:g} s")
            time.sleep(AWAY_S)
            try:
                cluster.revive(process)
            except EndedError as error:
                say(f"{process} does not start: {error}")
                continue
            say(f"{process} is back: pid {cluster.pid(process)}")
        time.sleep(LOOK_S)


def main() -> int:
    parser = argparse.ArgumentParser(prog="run_cluster", description=__doc__)
    parser.add_argument("app", nargs="?", type=Path, default=ROOT / "examples" / "app.py")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--apis", type=int, default=2)
    parser.add_argument("--port", type=int, default=0, help="the balancer's; 0 takes a free one")
    asked = parser.parse_args()
    for name, found in (("PostgreSQL", programs()), ("nginx", nginx.PROGRAM)):
        if found is None:
            print(f"no {name} on this machine: make system-deps", file=sys.stderr)
            return 69
    signal.signal(signal.SIGTERM, _over)
    signal.signal(signal.SIGINT, _over)
    with tempfile.TemporaryDirectory(prefix="stepflow-cluster-") as directory:
        cluster = Cluster(
            Path(directory),
            asked.app.resolve(),
            workers=asked.workers,
            apis=asked.apis,
            port=asked.port,
            on_line=say,
        )
        try:
            cluster.start()
            show(cluster)
            keep(cluster)
        except _OverError:
            say("ending")
        finally:
            # A second Ctrl-C must not leave anything behind.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            cluster.stop()
    say("all has ended")
    return 0


def _over(_number: int, _frame: FrameType | None) -> None:
    raise _OverError


if __name__ == "__main__":
    sys.exit(main())
