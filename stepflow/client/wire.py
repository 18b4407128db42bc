"""What goes over the wire and what it means, without sending anything. PURE.

::

    Call = Request + how to read the answer + whether it may be sent twice
    Attempts.after(Response | Lost) -> Got(value) | Pause(seconds), or raises as the engine does

Both clients do the same with it: send the call's request, ask `Attempts` what the outcome means,
pause and send again, or return the value. When a request is sent again:

================================= =================== ===============================
what came back                    meaning             sent again
================================= =================== ===============================
no connection                     not done            yes
503 UNAVAILABLE                   not done            yes, after `Retry-After`
503 OUTCOME_UNKNOWN, no answer,   perhaps done        only a GET, or a trigger, whose
502 or 504 of a proxy                                 idempotency key makes it safe
anything else                     an answer           no
================================= =================== ===============================

It is sent at most `RetryRule.tries` times, with backoff and jitter; the last outcome is raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from stepflow.clock import rfc3339
from stepflow.errors import (
    ApiError,
    ConfigurationError,
    ForbiddenError,
    InternalError,
    InvalidInputError,
    NotFoundError,
    OutcomeUnknownError,
    RateLimitedError,
    RunCancelledError,
    RunFailedError,
    UnauthorizedError,
    UnavailableError,
    api_error,
)
from stepflow.model.audit import AuditEntry, AuditPage
from stepflow.model.codec import encode
from stepflow.model.durations import format_duration, parse_duration_ms
from stepflow.model.schedules import BackfillView, ScheduleView
from stepflow.model.system import SystemView
from stepflow.model.views import RunPage, RunView, StepView, WorkflowView
from stepflow.model.why import WhyView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stepflow.model.durations import Duration

__all__ = [
    "ApiKey",
    "Attempts",
    "AwaitedEvent",
    "BulkReport",
    "Call",
    "Credentials",
    "Got",
    "Health",
    "Lost",
    "MadeApiKey",
    "Pause",
    "Request",
    "Response",
    "RetryRule",
    "RunsWanted",
    "TokenGrant",
    "TriggeredRun",
    "base_url",
    "refusal",
    "result_of",
]

T = TypeVar("T")

_FINAL: Final = frozenset({"completed", "failed", "cancelled"})
_DOTS: Final = {".": "%2E", "..": "%2E%2E"}


# ---------------------------------------------------------------- what is exchanged


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, relative to the base URL; `path` is percent-encoded."""

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    @property
    def name(self) -> str:
        """What to call it in a message: without its query, which may hold a token."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Response:
    """One whole HTTP response; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """No response came. `sent`: whether the server may have seen the request."""

    why: str
    sent: bool


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, how to read its answer, and whether sending it twice does no harm."""

    request: Request
    read: Callable[[Response], T]
    repeatable: bool = False
    patient: bool = True
    """Whether it may be sent again at all: a probe wants to know at once."""


@dataclass(frozen=True, slots=True)
class Got(Generic[T]):
    """The call's value."""

    value: T


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so long, then send the request again."""

    seconds: float


# ---------------------------------------------------------------- what is read


class TriggeredRun(msgspec.Struct, frozen=True):
    """A run that was triggered, and a token with which a browser may watch it."""

    id: str = msgspec.field(name="runId")
    public_access_token: str = msgspec.field(name="publicAccessToken")


class AwaitedEvent(msgspec.Struct, frozen=True, rename="camel"):
    """An event that live runs wait for; `run_ids` holds the first 100."""

    event_id: str
    runs: int
    run_ids: tuple[str, ...] = ()


class TokenGrant(msgspec.Struct, frozen=True, rename="camel"):
    """A read-only token, and when it ends."""

    public_access_token: str
    expires_at: str


class ApiKey(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An API key that was made at the server; never the key itself."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    created_by: str
    revoked_by: str


class MadeApiKey(ApiKey, frozen=True, kw_only=True):
    """A new API key. `key` is shown this once: the server keeps only its hash."""

    key: str

    def __repr__(self) -> str:
        return f"MadeApiKey({self.name!r}, {self.id!r})"


class Health(msgspec.Struct, frozen=True):
    """The process serves."""

    status: str
    timestamp: str


class _Problem(msgspec.Struct):
    error: str
    code: str


class _Workflows(msgspec.Struct):
    workflows: list[WorkflowView]


class _Schedules(msgspec.Struct):
    schedules: list[ScheduleView]


class _Keys(msgspec.Struct):
    keys: list[ApiKey]


class _Events(msgspec.Struct):
    events: list[AwaitedEvent]


class _RunError(msgspec.Struct):
    type: str = "Exception"
    message: str = ""
    step: str | None = None
    attempts: int | None = None
    compensation: tuple[dict[str, Any], ...] = ()


# ---------------------------------------------------------------- who asks, and where


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """At most one of an API key, a run's public access token and a JWT."""

    api_key: str | None = None
    token: str | None = None
    jwt: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in self.__slots__ if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigurationError(f"give one of {', '.join(given)}: the server reads only one")

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers that every request bears."""
        if self.api_key is not None:
            return (("X-API-Key", self.api_key),)
        if self.jwt is not None:
            return (("Authorization", f"Bearer {self.jwt}"),)
        return ()

    @property
    def params(self) -> tuple[tuple[str, str], ...]:
        """The query that every request bears."""
        return () if self.token is None else (("token", self.token),)


def base_url(url: str) -> str:
    """Return the URL without a slash at its end. Raises `ConfigurationError` for what is none."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(
            f"{url!r} is not the URL of a Stepflow API: write it as http://127.0.0.1:8000 "
            "or https://shop.example/api/stepflow"
        )
    return url.rstrip("/")


# ---------------------------------------------------------------- when it goes wrong


@dataclass(frozen=True, slots=True)
class RetryRule:
    """How often and how soon a request is sent again."""

    tries: int = 4
    initial_s: float = 0.2
    max_s: float = 10.0

    def delay_s(self, failures: int, jitter: float) -> float:
        """Return the wait after that many failures; `jitter` is in [0, 1)."""
        delay = min(self.max_s, self.initial_s * 2.0 ** min(failures - 1, 32))
        return delay * (0.5 + jitter / 2)


class Attempts(Generic[T]):
    """The attempts at one call: what each outcome means."""

    __slots__ = ("_call", "_failures", "_rule")

    def __init__(self, call: Call[T], rule: RetryRule) -> None:
        self._call = call
        self._rule = rule
        self._failures = 0

    def after(self, outcome: Response | Lost, jitter: float) -> Got[T] | Pause:
        """Return the call's value, or how long to wait before the next attempt.

        Raises the `ApiError` that the outcome stands for when there is none.
        """
        call = self._call
        if isinstance(outcome, Response) and 200 <= outcome.status < 300:
            return Got(_read(call, outcome))
        error = refusal(call.request, outcome)
        self._failures += 1
        if not call.patient or self._failures >= self._rule.tries or not _again(call, error):
            raise error
        delay_s = max(self._rule.delay_s(self._failures, jitter), error.retry_after_s or 0)
        if delay_s > self._rule.max_s:
            raise error
        return Pause(delay_s)


def _again(call: Call[Any], error: ApiError) -> bool:
    if isinstance(error, OutcomeUnknownError):
        return call.repeatable
    return isinstance(error, UnavailableError)


def _read(call: Call[T], response: Response) -> T:
    try:
        return call.read(response)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InternalError(
            f"{call.request.name}: the answer is not what this client knows: {error}; "
            "is this the URL of a Stepflow API?"
        ) from None


def refusal(request: Request, outcome: Response | Lost) -> ApiError:
    """Return the error that the outcome stands for, as the embedded engine would raise it."""
    if isinstance(outcome, Lost):
        return _lost(request, outcome)
    retry_after_s = _retry_after_s(outcome)
    try:
        problem = msgspec.json.decode(outcome.body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _strange(request, outcome.status, retry_after_s)
    return api_error(problem.code, problem.error, retry_after_s)


def _lost(request: Request, lost: Lost) -> ApiError:
    if not lost.sent:
        return UnavailableError(f"{request.name}: no connection: {lost.why}; nothing was done")
    if request.method == "GET":
        return UnavailableError(f"{request.name}: no answer: {lost.why}")
    return OutcomeUnknownError(f"{request.name}: sent, but no answer came: {lost.why}")


_BY_STATUS: Final[dict[int, type[ApiError]]] = {
    400: InvalidInputError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    429: RateLimitedError,
    503: UnavailableError,
}


def _strange(request: Request, status: int, retry_after_s: int | None) -> ApiError:
    """Return the error of an answer that is not Stepflow's: of a proxy, or of another service."""
    message = f"{request.name}: status {status} without Stepflow's error; is the URL right?"
    if status in {502, 504}:
        kind: type[ApiError] = UnavailableError if request.method == "GET" else OutcomeUnknownError
    else:
        kind = _BY_STATUS.get(status, InternalError)
    return kind(message, retry_after_s=retry_after_s)


def _retry_after_s(response: Response) -> int | None:
    text = response.headers.get("retry-after", "")
    return int(text[:9]) if text.isascii() and text.isdigit() else None


# ---------------------------------------------------------------- the calls


def _path(*segments: str) -> str:
    """Return a path of these segments, whatever is in them."""
    return "".join(f"/{_DOTS.get(text) or quote(text, safe='')}" for text in segments)


def _as(kind: type[T]) -> Callable[[Response], T]:
    decoder = msgspec.json.Decoder(kind)
    return lambda response: decoder.decode(response.body)


def _text(response: Response) -> str:
    return response.body.decode()


def _nothing(response: Response) -> None:
    del response


_read_run: Final = _as(RunView)
_read_page: Final = _as(RunPage)
_read_triggered: Final = _as(TriggeredRun)
_read_workflows: Final = _as(_Workflows)
_read_workflow: Final = _as(WorkflowView)
_read_events: Final = _as(_Events)
_read_schedules: Final = _as(_Schedules)
_read_schedule: Final = _as(ScheduleView)
_read_backfill: Final = _as(BackfillView)
_read_grant: Final = _as(TokenGrant)
_read_keys: Final = _as(_Keys)
_read_key: Final = _as(ApiKey)
_read_made_key: Final = _as(MadeApiKey)
_read_health: Final = _as(Health)
_read_object: Final = _as(dict[str, Any])
_read_rows: Final = _as(list[dict[str, str]])


def _get(path: str, read: Callable[[Response], T], *params: tuple[str, str]) -> Call[T]:
    return Call(Request("GET", path, params), read, repeatable=True)


def _post(
    path: str,
    body: bytes | None,
    read: Callable[[Response], T],
    *,
    params: tuple[tuple[str, str], ...] = (),
    headers: tuple[tuple[str, str], ...] = (),
    repeatable: bool = False,
) -> Call[T]:
    if body is not None:
        headers = (*headers, ("Content-Type", "application/json"))
    return Call(Request("POST", path, params, headers, body), read, repeatable=repeatable)


def trigger(
    workflow: str, value: object, idempotency_key: str, delay: Duration | None = None
) -> Call[TriggeredRun]:
    """Start a run. The key makes it safe to ask again."""
    headers = (("Idempotency-Key", idempotency_key),)
    return _post(
        _path("trigger", workflow),
        encode(value, "input"),
        _read_triggered,
        params=_delay(delay),
        headers=headers,
        repeatable=True,
    )


def _delay(delay: Duration | None) -> tuple[tuple[str, str], ...]:
    if delay is None:
        return ()
    try:
        return (("delay", format_duration(parse_duration_ms(delay))),)
    except ValueError as error:
        raise InvalidInputError(f"delay: {error}") from None


def trigger_many(
    workflow: str, values: Sequence[object], delay: Duration | None = None
) -> Call[list[TriggeredRun | ApiError]]:
    """Start many runs."""
    body = b"[%b]" % b",".join(encode(value, f"inputs[{i}]") for i, value in enumerate(values))
    return _post(_path("trigger", workflow, "batch"), body, _batch, params=_delay(delay))


def _batch(response: Response) -> list[TriggeredRun | ApiError]:
    return [
        api_error(row["code"], row.get("error"))
        if "code" in row
        else msgspec.convert(row, TriggeredRun)
        for row in _read_rows(response)
    ]


def get_run(run_id: str) -> Call[RunView]:
    """Read a run."""
    return _get(_path("runs", run_id), _read_run)


def list_runs(
    *,
    status: Sequence[str] = (),
    workflow_id: str = "",
    tag: str = "",
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[RunPage]:
    """Read a page of runs, newest first."""
    statuses = [status] if isinstance(status, str) else status
    params = [("status", text) for text in statuses]
    single = {
        "workflowId": workflow_id,
        "tag": tag,
        "createdAfter": _moment(created_after),
        "createdBefore": _moment(created_before),
        "limit": "" if limit is None else str(limit),
        "cursor": cursor or "",
    }
    params += [(name, text) for name, text in single.items() if text]
    return _get("/runs", _read_page, *params)


def _moment(when: datetime | None) -> str:
    if when is None:
        return ""
    if when.tzinfo is None:
        raise InvalidInputError(
            f"{when.isoformat()} has no time zone; write datetime(…, tzinfo=UTC)"
        )
    return rfc3339(round(when.timestamp() * 1000))


def notify(event_id: str, payload: object, run_id: str | None) -> Call[None]:
    """Deliver an event; never sent twice, because it would arrive twice."""
    params = () if run_id is None else (("runId", run_id),)
    return _post(_path("notify", event_id), encode(payload, "payload"), _nothing, params=params)


def cancel(run_id: str, reason: str = "", *, force: bool = False) -> Call[RunView]:
    """Cancel a run."""
    return _act(run_id, "cancel", reason, **({"force": True} if force else {}))


def pause(run_id: str, reason: str = "") -> Call[RunView]:
    """Hold a run before its next effect."""
    return _act(run_id, "pause", reason)


def resume(run_id: str, reason: str = "") -> Call[RunView]:
    """Let a run go on that is paused or was set aside."""
    return _act(run_id, "resume", reason)


def retry(run_id: str, reason: str = "") -> Call[RunView]:
    """Let a failed or cancelled run go on."""
    return _act(run_id, "retry", reason)


def _act(run_id: str, action: str, reason: str, **more: object) -> Call[RunView]:
    asked = {"reason": reason, **more} if reason else more
    return _post(_path("runs", run_id, action), encode(asked) if asked else None, _read_run)


def fork(
    run_id: str,
    from_step: str,
    value: object,
    results: Mapping[str, object] | None,
    reason: str,
) -> Call[TriggeredRun]:
    """Start a run from a step of this one; never sent twice, because it would start two."""
    asked: dict[str, object] = {"fromStep": from_step}
    if value is not msgspec.UNSET:
        asked["input"] = value
    if results:
        asked["results"] = dict(results)
    if reason:
        asked["reason"] = reason
    return _post(_path("runs", run_id, "fork"), encode(asked, "fork"), _read_triggered)


def export_run(run_id: str, mask: Iterable[str]) -> Call[bytes]:
    """Read the run as one file."""
    params = [("mask", name) for name in mask]
    return _get(_path("runs", run_id, "export"), lambda response: response.body, *params)


def get_step(run_id: str, key: str) -> Call[StepView]:
    """Read one step."""
    return _get(_path("runs", run_id, "steps", key), _read_step)


def why(run_id: str) -> Call[WhyView]:
    """Ask why a run waits."""
    return _get(_path("runs", run_id, "why"), _read_why)


def audit(run_id: str) -> Call[list[AuditEntry]]:
    """Ask what was done to a run."""
    return _get(_path("runs", run_id, "audit"), lambda got: _read_audit(got).audit)


def audit_log(run_id: str, limit: int, cursor: str | None) -> Call[AuditPage]:
    """Read a page of the newest acts on all runs."""
    given = {"runId": run_id, "limit": str(limit), "cursor": cursor or ""}
    return _get("/audit", _read_acts, *((k, v) for k, v in given.items() if v))


def bulk(action: str, where: Mapping[str, object], **options: object) -> Call[BulkReport]:
    """Do one thing to many runs."""
    body: dict[str, object] = {"action": action, "filter": dict(where)}
    body |= {name: value for name, value in options.items() if value}
    return _post("/runs/bulk", msgspec.json.encode(body), _read_bulk)


class _RunAudit(msgspec.Struct):
    audit: list[AuditEntry]


class BulkReport(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What one call of a bulk action did, or would do."""

    action: str
    dry_run: bool
    matched: int
    run_ids: list[str]
    skipped: list[dict[str, str]]
    next_cursor: str | None


_read_step: Final = _as(StepView)
_read_why: Final = _as(WhyView)
_read_system: Final = _as(SystemView)
_read_audit: Final = _as(_RunAudit)
_read_acts: Final = _as(AuditPage)
_read_bulk: Final = _as(BulkReport)


def purge(run_id: str, reason: str = "") -> Call[None]:
    """Forget a finished run."""
    params = (("reason", reason),) if reason else ()
    return Call(Request("DELETE", _path("runs", run_id), params), _nothing)


def workflows() -> Call[list[WorkflowView]]:
    """List what can be triggered."""
    return _get("/workflows", lambda response: _read_workflows(response).workflows)


def workflow(workflow_id: str) -> Call[WorkflowView]:
    """Read one workflow."""
    return _get(_path("workflows", workflow_id), _read_workflow)


def events(cursor: str = "") -> Call[list[AwaitedEvent]]:
    """List which events runs wait for: those whose ids come after `cursor`."""
    query = [("cursor", cursor)] if cursor else []
    return _get("/events", lambda response: _read_events(response).events, *query)


def schedules() -> Call[list[ScheduleView]]:
    """List what starts by itself."""
    return _get("/schedules", lambda response: _read_schedules(response).schedules)


def schedule(schedule_id: str, times: int = 0) -> Call[ScheduleView]:
    """Read one schedule, with so many of its times to come."""
    params = (("next", str(times)),) if times else ()
    return _get(_path("schedules", schedule_id), _read_schedule, *params)


def act_on_schedule(schedule_id: str, action: str) -> Call[ScheduleView]:
    """Pause or resume a schedule: harmless twice."""
    return _post(_path("schedules", schedule_id, action), None, _read_schedule, repeatable=True)


def trigger_schedule(schedule_id: str) -> Call[TriggeredRun]:
    """Start a run of a schedule now; never sent twice, because it would start two."""
    return _post(_path("schedules", schedule_id, "trigger"), None, _read_triggered)


def backfill_schedule(
    schedule_id: str, begin: datetime, end: datetime, *, dry_run: bool
) -> Call[BackfillView]:
    """Start the runs of past times: asking twice starts nothing twice."""
    body = {"from": _moment(begin), "to": _moment(end), "dryRun": dry_run}
    path = _path("schedules", schedule_id, "backfill")
    return _post(path, encode(body), _read_backfill, repeatable=True)


def token(run_id: str, ttl: Duration | None) -> Call[TokenGrant]:
    """Make a read-only token; one that nobody got does no harm."""
    body = {} if ttl is None else {"ttl": _ttl(ttl)}
    path = _path("runs", run_id, "token")
    return _post(path, encode(body), _read_grant, repeatable=True)


def wide_token(tag: str, run_ids: Sequence[str], ttl: Duration | None) -> Call[TokenGrant]:
    """Make a read-only token of many runs; one that nobody got does no harm."""
    body: dict[str, object] = {"tag": tag} if tag else {"runIds": list(run_ids)}
    if ttl is not None:
        body["ttl"] = _ttl(ttl)
    return _post("/tokens", encode(body), _read_grant, repeatable=True)


def keys() -> Call[list[ApiKey]]:
    """List the API keys that were made at the server."""
    return _get("/keys", lambda response: _read_keys(response).keys)


def create_key(name: str, scopes: Sequence[str] | None, ttl: Duration | None) -> Call[MadeApiKey]:
    """Make an API key; never sent twice, because it would make two."""
    body: dict[str, object] = {"name": name}
    if scopes is not None:
        body["scopes"] = list(scopes)
    if ttl is not None:
        body["ttl"] = _ttl(ttl)
    return _post("/keys", encode(body), _read_made_key)


def revoke_key(key_id: str) -> Call[ApiKey]:
    """Take an API key back; a second time changes nothing."""
    return Call(Request("DELETE", _path("keys", key_id)), _read_key, repeatable=True)


def system() -> Call[SystemView]:
    """Read the service at a glance."""
    return _get("/system", _read_system)


def _ttl(ttl: Duration) -> str | float:
    return format_duration(parse_duration_ms(ttl)) if isinstance(ttl, timedelta) else ttl


def health() -> Call[Health]:
    """Ask whether the process serves; at once, without a second attempt."""
    return Call(Request("GET", "/health"), _read_health, patient=False)


def ready() -> Call[dict[str, Any]]:
    """Ask whether requests are served; at once, without a second attempt."""
    return Call(Request("GET", "/ready"), _read_object, patient=False)


def metrics() -> Call[str]:
    """Read the metrics as Prometheus text."""
    return _get("/metrics", _text)


def openapi() -> Call[str]:
    """Read the OpenAPI document as YAML."""
    return _get("/openapi.yaml", _text)


def stream_request(run_id: str, last_event_id: str) -> Request:
    """Return the request that opens a run's stream after that event."""
    headers = [("Accept", "text/event-stream")]
    if last_event_id:
        headers.append(("Last-Event-ID", last_event_id))
    return Request("GET", _path("runs", run_id, "stream"), (), tuple(headers))


@dataclass(frozen=True, slots=True)
class RunsWanted:
    """Of which runs, and which of their events, the stream of all is to tell."""

    status: tuple[str, ...] = ()
    workflow_id: str = ""
    tag: str = ""
    run_ids: tuple[str, ...] = ()

    def params(self) -> tuple[tuple[str, str], ...]:
        """Return it as a query."""
        named = (("workflowId", self.workflow_id), ("tag", self.tag))
        return (
            *(pair for pair in named if pair[1]),
            *(("status", status) for status in self.status),
            *(("runId", run_id) for run_id in self.run_ids),
        )


def stream_all_request(wanted: RunsWanted, last_event_id: str) -> Request:
    """Return the request that opens the stream of all runs after that cursor."""
    headers = [("Accept", "text/event-stream")]
    if last_event_id:
        headers.append(("Last-Event-ID", last_event_id))
    return Request("GET", "/stream", wanted.params(), tuple(headers))


# ---------------------------------------------------------------- a run's end


def has_ended(view: RunView) -> bool:
    """Say whether the run is completed, failed or cancelled."""
    return view.status in _FINAL


def result_of(view: RunView) -> Any:
    """Return an ended run's result as JSON's own types.

    Raises `RunFailedError` or `RunCancelledError`, as the run ended.
    """
    if view.status == "completed":
        return msgspec.json.decode(view.result) if view.result is not msgspec.UNSET else None
    error = _RunError()
    if view.error is not msgspec.UNSET:
        error = msgspec.json.decode(view.error, type=_RunError)
    if view.status == "cancelled":
        raise RunCancelledError(view.id, error.message, compensation=error.compensation)
    raise RunFailedError(
        view.id,
        error.type,
        error.message,
        error.step,
        error.attempts,
        compensation=error.compensation,
    )
