"""Durable workflows inside your own process: no database, no broker, one directory."""

from stepflow.auth.handlers import (
    AuthRequest,
    AuthResult,
    allow_all,
    any_of,
    api_key_auth,
    deny_all,
    same_site,
)
from stepflow.auth.principal import Principal
from stepflow.authoring.context import Context, First
from stepflow.authoring.limits import Concurrency, RateLimit
from stepflow.authoring.retention import Retention
from stepflow.authoring.schedule import Schedule
from stepflow.blocking import BlockingFlow, BlockingRun
from stepflow.config import MEMORY, Settings
from stepflow.engine.protocol import RunFilter
from stepflow.errors import (
    AuthoringError,
    ConflictError,
    DataDirLockedError,
    DivergenceError,
    EventNotFoundError,
    EventTimeoutError,
    ForbiddenError,
    InvalidInputError,
    JournalCorruptError,
    NonRetryableError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    RateLimitedError,
    RetryAfterError,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    StepFailedError,
    StepflowError,
    StepInterruptedError,
    UnauthorizedError,
    UnavailableError,
    WorkflowNotFoundError,
)
from stepflow.flow import Stepflow
from stepflow.handles import RunHandle
from stepflow.model.retry import RetryPolicy
from stepflow.model.views import RunPage, RunView
from stepflow.runtime.current import current_step
from stepflow.runtime.logged import RunFields
from stepflow.web.presets import Endpoints

__version__ = "0.1.0"

__all__ = [
    "MEMORY",
    "AuthRequest",
    "AuthResult",
    "AuthoringError",
    "BlockingFlow",
    "BlockingRun",
    "Concurrency",
    "ConflictError",
    "Context",
    "DataDirLockedError",
    "DivergenceError",
    "Endpoints",
    "EventNotFoundError",
    "EventTimeoutError",
    "First",
    "ForbiddenError",
    "InvalidInputError",
    "JournalCorruptError",
    "NonRetryableError",
    "OutcomeUnknownError",
    "PayloadTooLargeError",
    "Principal",
    "RateLimit",
    "RateLimitedError",
    "Retention",
    "RetryAfterError",
    "RetryPolicy",
    "RunCancelledError",
    "RunFailedError",
    "RunFields",
    "RunFilter",
    "RunHandle",
    "RunNotFoundError",
    "RunPage",
    "RunView",
    "Schedule",
    "Settings",
    "StepFailedError",
    "StepInterruptedError",
    "Stepflow",
    "StepflowError",
    "UnauthorizedError",
    "UnavailableError",
    "WorkflowNotFoundError",
    "allow_all",
    "any_of",
    "api_key_auth",
    "current_step",
    "deny_all",
    "same_site",
]
