"""Every error Stepflow raises on purpose, in one tree.

::

    BaseException
    └── ControlFlow               the engine's own; `except Exception` cannot swallow it
        ├── RunSuspended          the run is put to sleep or the process stops
        └── DivergenceError       replayed code asks for another step than was recorded
    Exception
    └── StepflowError
        ├── AuthoringError        a workflow uses the API wrongly          (author acts)
        │   └── EncodingError     a value that is not JSON, by its path
        ├── StepFailedError       a step failed after its last attempt     (author)
        ├── EventTimeoutError     nobody sent the event in time            (author)
        ├── StepInterruptedError  an at-most-once step was cut             (author)
        ├── NonRetryableError     raised by a step: do not try again       (author)
        ├── RetryAfterError       raised by a step: try again at that time (author)
        ├── ExportedRunError      a file is no exported run, or damaged    (author)
        ├── RunCancelledError     `.result()` of a cancelled run           (caller)
        ├── RunFailedError        `.result()` of a failed run              (caller)
        ├── ApiError              has `.code` and `.status`                (caller)
        │   ├── WorkflowNotFoundError  404    ├── ConflictError          409
        │   ├── RunNotFoundError       404    ├── PayloadTooLargeError   413
        │   ├── EventNotFoundError     404    ├── RateLimitedError       429
        │   ├── NotFoundError          404    ├── UnavailableError       503
        │   ├── MethodNotAllowedError  405    ├── OutcomeUnknownError    503
        │   ├── UnauthorizedError      401    └── InternalError          500
        │   ├── ForbiddenError         403
        │   ├── InvalidInputError      400
        │   └── NotSupportedError      501
        └── OperatorError         has `.exit_code`                         (operator)
            ├── ConfigurationError     64
            ├── JournalCorruptError    65, `.code` is an SFW number
            ├── DiskFailedError        74
            └── DataDirLockedError     75
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ApiError",
    "AuthoringError",
    "ConfigurationError",
    "ConflictError",
    "ControlFlow",
    "DataDirLockedError",
    "DiskFailedError",
    "DivergenceError",
    "EncodingError",
    "EventNotFoundError",
    "EventTimeoutError",
    "ExportedRunError",
    "ForbiddenError",
    "InternalError",
    "InvalidInputError",
    "JournalCorruptError",
    "MethodNotAllowedError",
    "NonRetryableError",
    "NotFoundError",
    "NotSupportedError",
    "OperatorError",
    "OutcomeUnknownError",
    "PayloadTooLargeError",
    "RateLimitedError",
    "RetryAfterError",
    "RunCancelledError",
    "RunFailedError",
    "RunNotFoundError",
    "RunSuspended",
    "StepFailedError",
    "StepInterruptedError",
    "StepflowError",
    "UnauthorizedError",
    "UnavailableError",
    "WorkflowNotFoundError",
    "api_error",
]


class ControlFlow(BaseException):
    """The engine's own control flow; never caught by `except Exception` in a workflow."""


class RunSuspended(ControlFlow):
    """Ends a run's task because the run is passivated or the process stops."""


class DivergenceError(ControlFlow):
    """Replayed code asked for another step than the journal has under that key.

    The run is parked: its status stays `running`, and it goes on when fitting code is deployed.
    """

    def __init__(self, key: str, recorded: str, asked: str) -> None:
        self.key = key
        self.recorded = recorded
        self.asked = asked
        super().__init__(
            f"step {key!r}: the journal has a result of {recorded}, the code now calls {asked}; "
            f"deploy fitting code, or declare renamed={{{recorded!r}: {asked!r}}}"
        )


class StepflowError(Exception):
    """The root of every error that is not the engine's control flow."""


# ---------------------------------------------------------------- the author acts


class AuthoringError(StepflowError):
    """A workflow uses the API wrongly: a bad name, a key used twice, a value that is not JSON."""


class ExportedRunError(StepflowError):
    """A file is no exported run, is damaged, or was written by another version."""


class EncodingError(AuthoringError):
    """A value that JSON cannot hold. `.path` says where it is: `result.items[3].conn`."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(path, why)

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


class StepFailedError(StepflowError):
    """A step failed after its last attempt; equal live and on replay.

    `.name` is the step, `.error_type` and `.message` describe its last exception, `.attempts`
    counts the attempts made, `.data` is the JSON value the exception carried in `data`, if any.
    """

    def __init__(
        self, name: str, error_type: str, message: str, attempts: int, data: Any = None
    ) -> None:
        self.name = name
        self.error_type = error_type
        self.message = message
        self.attempts = attempts
        self.data = data
        super().__init__(name, error_type, message, attempts)

    def __str__(self) -> str:
        tries = "attempt" if self.attempts == 1 else "attempts"
        return (
            f"step {self.name!r} failed after {self.attempts} {tries}: "
            f"{self.error_type}: {self.message}"
        )


class EventTimeoutError(StepflowError):
    """Nobody sent the event in time. `.name` is the wait, `.event_id` the event."""

    def __init__(self, name: str, event_id: str) -> None:
        self.name = name
        self.event_id = event_id
        super().__init__(name, event_id)

    def __str__(self) -> str:
        return f"wait {self.name!r}: event {self.event_id!r} did not arrive in time"


class StepInterruptedError(StepflowError):
    """An `at_most_once` step was cut by the process's end; whether it took effect is unknown.

    Also raised where an attempt emits that is over: it has timed out, or nobody waits for it.
    """

    def __init__(self, name: str, *, late: bool = False) -> None:
        self.name = name
        self._late = late
        super().__init__(name)

    def __str__(self) -> str:
        if self._late:
            return (
                f"this attempt of step {self.name!r} is over (timed out, cancelled or given up): "
                "what it emits is refused; let it end"
            )
        return f"step {self.name!r} was interrupted and may have taken effect; it is not run again"


class NonRetryableError(StepflowError):
    """Raise it in a step to stop its retries."""


class RetryAfterError(StepflowError):
    """Raise it in a step to say when to try again: seconds, a `timedelta` or `"30s"`."""

    def __init__(self, after: Any, message: str = "") -> None:
        self.after = after
        super().__init__(message or f"try again after {after}")


# ---------------------------------------------------------------- the caller acts


class RunCancelledError(StepflowError):
    """The run was cancelled. `.run_id` names it.

    `.compensation` has the steps that were not undone, as the run's error lists them.
    """

    def __init__(
        self, run_id: str, message: str = "", *, compensation: Sequence[dict[str, Any]] = ()
    ) -> None:
        self.run_id = run_id
        self.compensation = tuple(compensation)
        super().__init__(message or f"run {run_id} was cancelled")


class RunFailedError(StepflowError):
    """The run failed. `.error_type`, `.message`, `.step` and `.attempts` say why.

    `.compensation` has the steps that were not undone, as the run's error lists them.
    """

    def __init__(
        self,
        run_id: str,
        error_type: str,
        message: str,
        step: str | None = None,
        attempts: int | None = None,
        *,
        compensation: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.run_id = run_id
        self.compensation = tuple(compensation)
        self.error_type = error_type
        self.message = message
        self.step = step
        self.attempts = attempts
        super().__init__(f"run {run_id} failed: {error_type}: {message}")


class ApiError(StepflowError):
    """An answer that is not 2xx. `.code` and `.status` are those of the HTTP API."""

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500
    default: ClassVar[str] = "Internal error"

    def __init__(self, message: str | None = None, *, retry_after_s: int | None = None) -> None:
        self.message = message or self.default
        self.retry_after_s = retry_after_s
        super().__init__(self.message)


class WorkflowNotFoundError(ApiError):
    """No workflow of that id is registered."""

    code = "WORKFLOW_NOT_FOUND"
    status = 404
    default = "Workflow not found"


class RunNotFoundError(ApiError):
    """No such run, or none this caller may know of."""

    code = "RUN_NOT_FOUND"
    status = 404
    default = "Run not found"


class EventNotFoundError(ApiError):
    """The event reached nobody: no live run waits for it or declared it."""

    code = "EVENT_NOT_FOUND"
    status = 404
    default = "Event not found"


class NotFoundError(ApiError):
    """No such route."""

    code = "NOT_FOUND"
    status = 404
    default = "Not found"


class MethodNotAllowedError(ApiError):
    """The route exists, not with that method."""

    code = "METHOD_NOT_ALLOWED"
    status = 405
    default = "Method not allowed"


class UnauthorizedError(ApiError):
    """No credentials, or bad ones. The body never says which."""

    code = "UNAUTHORIZED"
    status = 401
    default = "Unauthorized"


class ForbiddenError(ApiError):
    """Good credentials without the scope."""

    code = "FORBIDDEN"
    status = 403
    default = "Forbidden"


class InvalidInputError(ApiError):
    """The body or a parameter is not what the route takes; the message names the field."""

    code = "INVALID_INPUT"
    status = 400
    default = "Invalid input"


class ConflictError(ApiError):
    """The state does not allow it: a taken run id, another input under a used idempotency key."""

    code = "CONFLICT"
    status = 409
    default = "Conflict"


class PayloadTooLargeError(ApiError):
    """A body over its limit."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413
    default = "Payload too large"


class RateLimitedError(ApiError):
    """Too many; `.retry_after_s` says when to come back."""

    code = "RATE_LIMITED"
    status = 429
    default = "Too many requests"


class UnavailableError(ApiError):
    """Starting, draining or out of disk space: certainly not done. Try again."""

    code = "UNAVAILABLE"
    status = 503
    default = "Service unavailable"


class OutcomeUnknownError(ApiError):
    """It may or may not have been done; ask again with the same idempotency key."""

    code = "OUTCOME_UNKNOWN"
    status = 503
    default = "Outcome unknown: ask again with the same Idempotency-Key"


class NotSupportedError(ApiError):
    """This engine does not do it: `engine.capabilities` says what it does."""

    code = "NOT_SUPPORTED"
    status = 501
    default = "Not supported by this engine"


class InternalError(ApiError):
    """A defect in Stepflow or in the host; the log has the traceback."""


_BY_CODE: dict[str, type[ApiError]] = {
    cls.code: cls
    for cls in (
        WorkflowNotFoundError,
        RunNotFoundError,
        EventNotFoundError,
        NotFoundError,
        MethodNotAllowedError,
        UnauthorizedError,
        ForbiddenError,
        InvalidInputError,
        ConflictError,
        PayloadTooLargeError,
        RateLimitedError,
        UnavailableError,
        OutcomeUnknownError,
        NotSupportedError,
        InternalError,
    )
}


def api_error(code: str, message: str | None = None, retry_after_s: int | None = None) -> ApiError:
    """Return the error of that `code`; an unknown code gives `InternalError`."""
    return _BY_CODE.get(code, InternalError)(message, retry_after_s=retry_after_s)


# ---------------------------------------------------------------- the operator acts


class OperatorError(StepflowError):
    """Something the operator must mend before the service can run. `.exit_code` is `serve`'s."""

    exit_code: ClassVar[int] = 70


class ConfigurationError(OperatorError):
    """A setting that cannot be used."""

    exit_code = 64


class JournalCorruptError(OperatorError):
    """The data directory is damaged where no crash can have damaged it.

    `.code` is the SFW number of docs/operations.md, `.path` and `.offset` say where.
    """

    exit_code = 65

    def __init__(self, code: str, message: str, path: str = "", offset: int | None = None) -> None:
        self.code = code
        self.path = path
        self.offset = offset
        super().__init__(f"{code} {message}")


class DiskFailedError(OperatorError):
    """A write or a sync failed; the state of the file is unknown, so the engine has stopped."""

    exit_code = 74


class DataDirLockedError(OperatorError):
    """Another process has the data directory. `.pid` is the one the lock file names, if any."""

    exit_code = 75

    def __init__(self, path: str, pid: int | None, since: str | None = None) -> None:
        self.path = path
        self.pid = pid
        self.since = since
        super().__init__(
            f"SFW501 data directory {path} is in use by pid {pid} since {since}; "
            "run one worker, or give each its own directory"
        )
