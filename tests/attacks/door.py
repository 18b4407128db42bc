"""The whole product behind one ASGI call: engine, routes, every kind of credential, no socket.

The clock that credentials are checked against stands still, so that a table of moments means the
same for as long as it takes to try it. Bad credentials are not slowed down here: that has a test of
its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import unquote

from stepflow import MEMORY, Context, Settings, Stepflow
from stepflow.auth.chain import AuthChain
from stepflow.auth.keys_file import KeysFile
from stepflow.clock import SystemClock
from stepflow.engine.local import LocalEngine
from stepflow.web.app import build_app
from stepflow.web.policy import Policy
from tests.attacks.wire import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from stepflow.auth.principal import Scope
    from stepflow.clock import TimerHandle

__all__ = ["ADMIN", "JWT_SECRET", "TOKEN_KEY", "Door", "Request", "StillClock"]

ADMIN: Final = "admin-key-of-the-door-0123456789"
JWT_SECRET: Final = "k7Qz!p3Wv9hT2mXc-Yb4Nr8Lf6Gd1Sj5"
TOKEN_KEY: Final = "5a" * 32
ORIGIN: Final = "https://app.example.com"
_WAIT_S: Final = 60.0


@dataclass(frozen=True)
class Request:
    """What is sent: the target as it stands in the request line."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    client: str = "192.0.2.7"


class StillClock:
    """A clock whose time moves only when it is told to; it calls nobody."""

    def __init__(self) -> None:
        self.start_ms = SystemClock().wall_ms()
        self.passed_s = 0.0

    def wall_ms(self) -> int:
        return self.start_ms + int(self.passed_s * 1000)

    def monotonic_s(self) -> float:
        return self.passed_s

    def call_later(
        self, delay_s: float, callback: Callable[[], None], *, coarse: bool = False
    ) -> TimerHandle:
        return SystemClock().call_later(delay_s, callback, coarse=coarse)


@dataclass
class Door:
    """Use it as a context manager; `ask` is an ordinary call."""

    jwks: bytes | None = None
    cors: Sequence[str] = ()
    changes: dict[str, Any] = field(default_factory=dict[str, Any])

    def __enter__(self) -> Self:
        self.clock = StillClock()
        # Between two calls this loop stands still: a watchdog would report it.
        usual: dict[str, Any] = {"auth_failures_burst": 10**9, "loop_blocked_s": 0.0}
        self.settings = Settings(**(usual | self.changes))
        self._directory = tempfile.TemporaryDirectory()
        self.directory = Path(self._directory.name)
        self.keys = KeysFile(self.directory / "keys.json")
        self.reader = self.made_key("reader", "read")
        self.runner = asyncio.Runner()
        self.chain = AuthChain.from_env(self._environ(), self.directory, self.settings, self.clock)
        self.engine = LocalEngine(
            _flow().registry,
            MEMORY,
            settings=self.settings,
            sign=self.chain.signer.sign_run,
        )
        policy = Policy(lambda: self.chain, self.clock)
        self.app = build_app(self.engine, policy, self.settings, self.clock, cors=self.cors)
        self.runner.run(self.engine.start())
        self._numbers = itertools.count()
        self.run, self.token = self.trigger("waits", {"id": "1"})
        self.other, self.other_token = self.trigger("waits", {"id": "2"})
        self.absent = "run_0000000000000000000000"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.runner.run(self.engine.stop())
        self.runner.close()
        self._directory.cleanup()

    def _environ(self) -> dict[str, str]:
        environ = {"STEPFLOW_API_KEYS": ADMIN, "STEPFLOW_TOKEN_KEY": TOKEN_KEY}
        if self.jwks is None:
            return environ | {"STEPFLOW_JWT_SECRET": JWT_SECRET}
        path = self.directory / "jwks.json"
        path.write_bytes(self.jwks)
        return environ | {"STEPFLOW_JWT_JWKS": str(path)}

    @property
    def now_s(self) -> int:
        return self.clock.wall_ms() // 1000

    @property
    def secrets(self) -> dict[str, str]:
        """Whatever no answer, log or file may show."""
        return {
            "admin key": ADMIN,
            "reader's key": self.reader,
            "JWT secret": JWT_SECRET,
            "token key": TOKEN_KEY,
        }

    def made_key(self, name: str, *scopes: Scope, expires_ms: int | None = None) -> str:
        """Return a key made as `stepflow keys create` makes it; in force half a second later."""
        text, _ = self.keys.create(name, scopes, self.clock.wall_ms(), expires_ms)
        self.clock.passed_s += 0.6
        return text

    def trigger(self, workflow: str, value: Any) -> tuple[str, str]:
        """Start a run over HTTP; return its id and token."""
        body = json.dumps(value).encode()
        reply = self.ask(Request("POST", f"/trigger/{workflow}", self.as_admin(), body))
        assert reply.status == 200, reply
        answer = json.loads(reply.body)
        return answer["runId"], answer["publicAccessToken"]

    def as_admin(self, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
        return (("X-API-Key", ADMIN), *more)

    def ask(self, request: Request) -> Reply:
        """Send one request; return its whole response."""
        return self.runner.run(self.ask_soon(request))

    async def ask_soon(self, request: Request) -> Reply:
        """Send one request from within the loop."""
        return await asyncio.wait_for(self._call(request), _WAIT_S)

    async def _call(self, request: Request) -> Reply:
        path, _, query = request.target.partition("?")
        given: list[dict[str, Any]] = [{"type": "http.request", "body": request.body}]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if given:
                return given.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "root_path": "",
            "headers": [
                (name.lower().encode("latin-1"), value.encode("utf-8", "surrogateescape"))
                for name, value in (("Host", "stepflow"), *request.headers)
            ],
            "client": (request.client, 50000),
            "server": ("127.0.0.1", 8000),
            "extensions": {},
        }
        await self.app(scope, receive, send)
        headers = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], headers, b"".join(part["body"] for part in sent[1:]))


def _flow() -> Stepflow:
    flow = Stepflow(MEMORY)

    async def echo(ctx: Context, value: Any) -> Any:
        """Return the input."""
        del ctx
        return value

    async def waits(ctx: Context, value: dict[str, Any]) -> Any:
        """Wait for an event."""
        return await ctx.wait_for_event("go", f"go-{value['id']}", timeout="1h")

    async def fails(ctx: Context, value: Any) -> None:
        """Fail with the input as the error's text."""
        del ctx
        raise ValueError(value)

    async def keeps(ctx: Context, value: dict[str, Any]) -> Any:
        """Declare an event, and wait for another."""
        await ctx.wait_for_event("other", f"other-{value['id']}", timeout="1h")
        return await ctx.wait_for_event("kept", f"kept-{value['id']}", timeout="1h")

    flow.workflow("keeps", events=["kept-{id}"])(keeps)
    flow.workflow("echo")(echo)
    flow.workflow("waits", events=["go-{id}"])(waits)
    flow.workflow("fails")(fails)
    return flow
