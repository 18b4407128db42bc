"""Several processes on one database, as past one machine: what runs where, killed and revived.

::

    balancer (nginx) ──► api-1 … api-n      answer calls and serve streams, run nothing
    database         ◄── worker-1 … worker-n run workflows, and answer health alone

Every process is one of the system's or `stepflow serve`. Addresses stay over restarts. All are
started from one thread of the object's, which they do not outlive (tools/children.py).
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tools import nginx
from tools.children import PAUSE_S, Child, EndedError
from tools.ports import free_port
from tools.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT: Final = Path(__file__).resolve().parents[1]
DATABASE: Final = "database"
BALANCER: Final = "balancer"
_LISTENING: Final = re.compile(r"listening on (http://\S+)")


class Cluster:
    """The processes, by name. Used as a context manager. Satisfies the suite's `Deployment`."""

    def __init__(  # noqa: PLR0913  as many as there are things to choose
        self,
        directory: Path,
        app: Path,
        *,
        workers: int = 2,
        apis: int = 2,
        claim_timeout_s: int = 2,
        port: int = 0,
        api_key: str = "",
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`directory` gets the logs and the credentials; the database has one of its own."""
        self.directory = directory
        self.api_key = api_key or secrets.token_urlsafe(24)
        self.workers = tuple(f"worker-{number + 1}" for number in range(workers))
        self.apis = tuple(f"api-{number + 1}" for number in range(apis))
        self.processes = (DATABASE, *self.workers, *self.apis, BALANCER)
        self._app = app
        self._on_line = on_line
        self._children: dict[str, Child] = {}
        self._ports: dict[str, int] = {BALANCER: port}
        self._postgres = Postgres()
        self._lock = threading.Lock()
        self._starter = ThreadPoolExecutor(1, "cluster")
        given = {name: text for name, text in os.environ.items() if "STEPFLOW" not in name}
        self._env = given | {
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "STEPFLOW_API_KEYS": self.api_key,
            "STEPFLOW_TOKEN_KEY": secrets.token_hex(32),
            "STEPFLOW_CLAIM_TIMEOUT_S": str(claim_timeout_s),
            **(env or {}),
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._ports[BALANCER]}"

    @property
    def base_urls(self) -> tuple[str, ...]:
        return tuple(f"http://127.0.0.1:{self._ports[name]}" for name in self.apis)

    @property
    def spare(self) -> tuple[str, ...]:
        return (
            *(self.workers if len(self.workers) > 1 else ()),
            *(self.apis if len(self.apis) > 1 else ()),
        )

    @property
    def database_url(self) -> str:
        return self._postgres.url_of("stepflow")

    def pid(self, process: str) -> int:
        """The process id that `kill -9` goes to."""
        return self._postgres.pid if process == DATABASE else self._children[process].pid

    def address(self, process: str) -> str:
        """Where it listens."""
        port = self._postgres.port if process == DATABASE else self._ports[process]
        return f"127.0.0.1:{port}"

    def dead(self) -> list[str]:
        """The names of those that were started and have ended, the database first."""
        gone = [name for name, child in self._children.items() if child.status is not None]
        return [*(() if self._postgres.alive or not self._postgres.pid else (DATABASE,)), *gone]

    # ------------------------------------------------------------ all of them

    def start(self) -> None:
        self._starter.submit(self._start).result()

    def _start(self) -> None:
        try:
            self._on_line("starting the database")
            self._postgres.start()
            self._postgres.make_database("stepflow")
            # The first one makes the tables; the others would only wait for it.
            for name in (*self.apis, *self.workers):
                self._on_line(f"starting {name}")
                self._revive(name)
            self._on_line("starting the balancer")
            self._revive(BALANCER)
        except BaseException:
            self._end()
            raise

    def stop(self) -> None:
        """Ask all to end, the database last; what does not end is killed."""
        self._starter.submit(self._end).result()
        self._starter.shutdown()

    def _end(self) -> None:
        with self._lock:
            for name in (BALANCER, *self.apis, *self.workers):
                if (child := self._children.get(name)) is not None and child.status is None:
                    os.kill(child.pid, signal.SIGTERM)
            for child in self._children.values():
                child.stop()
            self._children.clear()
            self._postgres.close()

    # ------------------------------------------------------------ one of them

    def kill(self, process: str) -> None:
        if process == DATABASE:
            self._postgres.kill()
        else:
            self._children[process].kill()

    def revive(self, process: str) -> None:
        self._starter.submit(self._revive, process).result()

    def _revive(self, process: str) -> None:
        if process == DATABASE:
            self._postgres.start()
        elif process == BALANCER:
            self._start_balancer()
        else:
            self._serve(process)
        # All of it serves: who had lost the database has it again.
        for name in (*self.apis, *self.workers):
            if name in self._children:
                self._until_ready(name)

    def _serve(self, process: str) -> None:
        role = process.partition("-")[0]
        port = self._ports.get(process, 0)
        credentials = self.directory / "credentials"
        credentials.mkdir(exist_ok=True)
        child = self._children[process] = Child(
            [
                *(sys.executable, "-m", "stepflow.cli.main", "serve", str(self._app)),
                *("--port", str(port)),
            ],
            self.directory / f"{process}.log",
            env=self._env
            | {
                "STEPFLOW_DATABASE_URL": self.database_url,
                "STEPFLOW_ROLE": role,
                "STEPFLOW_DATA_DIR": str(credentials),
            },
            cwd=ROOT,
        )
        child.until(lambda: _LISTENING.search(child.said))
        found = _LISTENING.search(child.said)
        assert found is not None
        self._ports[process] = int(found[1].rpartition(":")[2])

    def _start_balancer(self) -> None:
        port = self._ports[BALANCER] = self._ports[BALANCER] or free_port()
        place = self.directory / "nginx"
        nodes = [self.address(name) for name in self.apis]
        config = nginx.write_config(place, port, nodes)
        child = Child(nginx.command(place, config), self.directory / "balancer.log", cwd=place)
        self._children[BALANCER] = child
        child.until(lambda: _status(f"{self.url}/health") == 200)

    def _until_ready(self, process: str) -> None:
        child = self._children[process]
        try:
            child.until(lambda: _status(f"http://{self.address(process)}/ready") == 200)
        except EndedError:
            # It was killed beside the one that is being revived: who did that, revives it.
            time.sleep(PAUSE_S)


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  loopback, http
            status: int = answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
    return status
