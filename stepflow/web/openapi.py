"""The OpenAPI 3.1 document, made from the operations that the endpoints declare.

`document()` builds it, `to_yaml()` writes it, `python -m stepflow.web.openapi FILE…` puts it into
`openapi.yaml` at the root of the repository and into the package, from where it is served. A test
fails when either is stale.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import msgspec

from stepflow.auth.sessions import COOKIE
from stepflow.engine.protocol import BulkReport, BulkSkipped, WaitingEvent
from stepflow.errors import InternalError, UnauthorizedError, UnavailableError
from stepflow.model.audit import AuditEntry, AuditPage
from stepflow.model.schedules import BackfillRun, BackfillView, ScheduleView
from stepflow.model.system import (
    CommitFigures,
    JournalFigures,
    LoopFigures,
    MemoryFigures,
    ProcessFigures,
    RunFigures,
    SnapshotFigures,
    StreamFigures,
    SystemView,
    WorkflowPace,
)
from stepflow.model.views import EventName, RunPage, RunView, StepView, WorkflowView
from stepflow.model.why import NearMiss, WaitingFor, WhyView
from stepflow.web import schemas
from stepflow.web.app import ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stepflow.errors import ApiError
    from stepflow.web.operations import Content, Operation

__all__ = ["VERSION", "document", "main", "to_yaml"]

VERSION: Final = "1.0.0"
_REF: Final = "#/components/schemas/{name}"
_RUN_ID: Final = "^run_[A-Za-z0-9]{8,64}$"

# What structs are called in the document, which is read by people and by generators of clients.
_NAMES: Final[Mapping[str, str]] = {
    "ChildView": "RunChild",
    "ParentView": "RunParent",
    "RunView": "Run",
    "StepView": "Step",
    "WorkflowView": "Workflow",
    "SystemView": "System",
    "WaitingEvent": "AwaitedEvent",
    "ScheduleView": "Schedule",
    "BackfillView": "Backfill",
    "QueueView": "QueuePlace",
    "SessionView": "Session",
    "KeyView": "ApiKey",
    "Problem": "Error",
}
_STRUCTS: Final[tuple[type[msgspec.Struct], ...]] = (
    schemas.Problem,
    schemas.TriggerResult,
    schemas.BatchFailure,
    schemas.Success,
    schemas.Health,
    schemas.Readiness,
    schemas.TokenRequest,
    schemas.WideTokenRequest,
    schemas.CancelRequest,
    schemas.ReasonRequest,
    schemas.ForkRequest,
    schemas.BulkFilter,
    schemas.BulkRequest,
    schemas.RunAudit,
    schemas.LoginRequest,
    schemas.SessionView,
    schemas.KeyRequest,
    schemas.KeyView,
    schemas.KeyList,
    schemas.MadeKey,
    BulkReport,
    BulkSkipped,
    AuditEntry,
    AuditPage,
    NearMiss,
    WaitingFor,
    WhyView,
    schemas.TokenGrant,
    schemas.RunError,
    schemas.EventList,
    schemas.ScheduleList,
    schemas.BackfillRequest,
    ScheduleView,
    BackfillView,
    BackfillRun,
    SystemView,
    WorkflowPace,
    RunFigures,
    JournalFigures,
    CommitFigures,
    SnapshotFigures,
    LoopFigures,
    StreamFigures,
    MemoryFigures,
    ProcessFigures,
    schemas.WorkflowList,
    schemas.StatusEvent,
    schemas.StepEvent,
    schemas.CompleteEvent,
    schemas.ErrorEvent,
    schemas.EmitEvent,
    schemas.ProgressEvent,
    schemas.ExpiredEvent,
    RunView,
    RunPage,
    StepView,
    WorkflowView,
    WaitingEvent,
)
_PATH_PARAMS: Final[Mapping[str, dict[str, Any]]] = {
    "workflowId": {
        "schema": {"type": "string", "minLength": 1},
        "description": "The workflow's id.",
        "example": "welcome-user",
    },
    "runId": {
        "schema": {"type": "string", "pattern": _RUN_ID},
        "description": "The run's id.",
        "example": "run_4fXo2bKq9TzW1mYc7RdE5h",
    },
    "scheduleId": {
        "schema": {"type": "string", "minLength": 1},
        "description": "The schedule's id.",
        "example": "nightly-report",
    },
    "keyId": {
        "schema": {"type": "string", "pattern": "^[0-9A-Za-z]{8}$"},
        "description": "The key's id: the part of the key that is no secret.",
        "example": "Ab3dEf9h",
    },
    "stepKey": {
        "schema": {"type": "string", "minLength": 1},
        "description": "The step's key: the rest of the path, percent-encoded.",
        "example": "charge#1",
    },
    "eventId": {
        "schema": {"type": "string", "minLength": 1},
        "description": "The event's id: the rest of the path, percent-encoded.",
        "example": "paid-1042",
    },
}
_TAGS: Final = (
    ("Workflows", "What can be triggered, and triggering it."),
    ("Runs", "One triggered instance of a workflow each; they survive restarts."),
    ("Schedules", "What starts by itself, on cron lines and intervals."),
    ("Events", "Outside facts that runs wait for."),
    ("Keys", "API keys that were made here."),
    ("Service", "Health, readiness, metrics, documents."),
)
_INFO: Final = {
    "title": "Stepflow",
    "version": VERSION,
    "summary": "Durable workflows over HTTP and server-sent events.",
    "description": (
        "Trigger a workflow, watch its run, send it events. An answer means durable: what was "
        "acknowledged survives a crash.\n\n"
        "Paths are relative to wherever the host has mounted the API. Send an API key as "
        "`X-API-Key`, or a JWT as `Authorization: Bearer`. A run's public access token, "
        "`?token=pat_…`, reads that one run and its stream from a browser, and nothing else.\n\n"
        "Every response that is not 2xx has the shape of `Error`."
    ),
    "license": {"name": "MIT", "identifier": "MIT"},
}
_SECURITY_SCHEMES: Final = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "publicAccessToken": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "A run's `publicAccessToken`. It reads that run and its stream.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": (
            "The dashboard's login, `POST /session`. It counts on requests of pages of this "
            "origin, where no header and no `token` says who calls."
        ),
    },
}


def document() -> dict[str, Any]:
    """Return the document."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        operation = endpoint.operation
        if not operation.documented:
            continue
        item = paths.setdefault(operation.path, _path_item(operation.path))
        item[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": _INFO,
        "servers": [{"url": "http://127.0.0.1:8000", "description": "stepflow serve"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


# ---------------------------------------------------------------- paths


def _path_item(path: str) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", path)
    if not names:
        return {}
    return {
        "parameters": [
            {"name": name, "in": "path", "required": True, **_PATH_PARAMS[name]} for name in names
        ]
    }


def _operation(operation: Operation) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    if operation.description:
        made["description"] = operation.description
    made["security"] = _security(operation)
    if operation.scope:
        made["x-required-scope"] = operation.scope
    if operation.params:
        made["parameters"] = [_parameter(param) for param in operation.params]
    if operation.body is not None:
        made["requestBody"] = {
            "description": operation.body.description,
            "required": operation.body.required,
            "content": _content(operation.body),
        }
    made["responses"] = _responses(operation)
    return made


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if operation.scope is None and not operation.any_scope:
        return []
    ways: list[dict[str, list[str]]] = [{"apiKey": []}, {"jwt": []}, {"session": []}]
    return [*ways, {"publicAccessToken": []}] if operation.token else ways


def _parameter(param: Any) -> dict[str, Any]:
    made = {
        "name": param.name,
        "in": param.place,
        "required": False,
        "description": param.description,
        "schema": param.schema,
    }
    return made if param.example is None else {**made, "example": param.example}


def _content(content: Content) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": _schema_of(content.schema)}
    if content.example is not None:
        media["example"] = content.example
    if content.examples:
        media["examples"] = {name: {"value": value} for name, value in content.examples.items()}
    return {content.media: media}


def _responses(operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, content in operation.replies.items():
        reply: dict[str, Any] = {"description": content.description}
        if content.headers:
            reply["headers"] = {
                name: {"schema": {"type": "string"}, "example": text}
                for name, text in content.headers.items()
            }
        if content.schema is not None:
            reply["content"] = _content(content)
        responses[str(status)] = reply
    for status, errors in sorted(_by_status(_errors(operation)).items()):
        responses[str(status)] = _refusal(status, errors)
    return responses


def _errors(operation: Operation) -> list[type[ApiError]]:
    """Return what the operation can refuse, and what the edge before it can."""
    if operation.scope is None and not operation.any_scope:
        return list(operation.errors)
    return list(
        dict.fromkeys((*operation.errors, UnauthorizedError, UnavailableError, InternalError))
    )


def _by_status(errors: Iterable[type[ApiError]]) -> dict[int, list[type[ApiError]]]:
    by_status: dict[int, list[type[ApiError]]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error)
    return by_status


_HEADERS: Final[Mapping[int, tuple[str, dict[str, Any]]]] = {
    401: ("WWW-Authenticate", {"type": "string"}),
    429: ("Retry-After", {"type": "integer", "minimum": 1}),
    503: ("Retry-After", {"type": "integer", "minimum": 1}),
}


def _refusal(status: int, errors: Sequence[type[ApiError]]) -> dict[str, Any]:
    made: dict[str, Any] = {"description": "; ".join(error.default for error in errors)}
    if status in _HEADERS:
        name, schema = _HEADERS[status]
        made["headers"] = {name: {"required": True, "schema": schema}}
    first = errors[0]
    made["content"] = {
        "application/json": {
            "schema": {"$ref": _REF.format(name="Error")},
            "example": {"error": first.default, "code": first.code},
        }
    }
    return made


# ---------------------------------------------------------------- schemas


def _schema_of(kind: Any) -> Any:
    if isinstance(kind, dict):
        return cast("dict[str, Any]", kind)
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    return _renamed(schema)


def _schemas() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(_STRUCTS, ref_template=_REF)
    made = {_NAMES.get(name, name): _renamed(schema) for name, schema in components.items()}
    for schema in made.values():
        schema.pop("title", None)
    _refine(made)
    made["JsonValue"] = _JSON_VALUE
    made["StreamEvent"] = _STREAM_EVENT
    return dict(sorted(made.items()))


# No schema can say that an integer has at most 64 bits: to JSON Schema 1e20 is an integer too.
_JSON_VALUE: Final[dict[str, Any]] = {
    "description": "Any JSON value; integers of at most 64 bits, at most 64 levels deep.",
}
_STREAM_EVENT: Final[dict[str, Any]] = {
    "description": "One server-sent event. `data` is the JSON of the schema that `event` names.",
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "Send it as `Last-Event-ID` to go on after it."},
        "event": {"type": "string", "enum": list(get_args(EventName))},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}


# What a struct's docstring says to the reader of the code and not to the reader of the document.
_WORDS: Final[Mapping[str, str]] = {
    "AwaitedEvent": "An event that live runs wait for. `runIds` holds the first 100 of them.",
    "Run": "One run. Rows of a list have no `steps`.",
    "RunPage": "One page of runs, newest first.",
    "Step": "What a workflow asked for by name. It has no `result` while it has none.",
    "Workflow": "A workflow. Its schemas are JSON Schema 2020-12.",
}


def _refine(made: dict[str, Any]) -> None:
    """Say what the structs cannot: formats, and the schemas of what they hold as JSON text."""
    error = {"$ref": _REF.format(name="RunError")}
    made["Run"]["properties"]["error"] = error
    made["Step"]["properties"]["error"] = error
    made["EventList"]["properties"]["events"]["items"] = {"$ref": _REF.format(name="AwaitedEvent")}
    made["ScheduleList"]["properties"]["schedules"]["items"] = {
        "$ref": _REF.format(name="Schedule")
    }
    made["WorkflowList"]["properties"]["workflows"]["items"] = {
        "$ref": _REF.format(name="Workflow")
    }
    for schema_name, schema in made.items():
        schema["description"] = _WORDS.get(schema_name, schema["description"])
        if not schema["required"]:
            del schema["required"]
        for name, part in schema["properties"].items():
            _refine_property(name, part)


def _refine_property(name: str, part: dict[str, Any]) -> None:
    if name.endswith("At") or name == "timestamp":
        part["format"] = "date-time"
    if name in {"input", "result", "data"}:
        part["description"] = "Any JSON value"
    # Generators of clients want to be told what the values of an enumeration are.
    if "enum" in part:
        values = part.pop("enum")
        part["type"] = "boolean" if values == [True] else "string"
        part["enum"] = values


def _renamed(schema: Any) -> Any:
    text = json.dumps(schema)
    for old, new in _NAMES.items():
        text = text.replace(f'"{_REF.format(name=old)}"', f'"{_REF.format(name=new)}"')
    return json.loads(text)


# ---------------------------------------------------------------- YAML

_PLAIN: Final = re.compile(
    r"[A-Za-z_/$][A-Za-z0-9_./${}-]*(?: [A-Za-z0-9_./(-][A-Za-z0-9_./()-]*)*"
)
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
# YAML 1.1 reads these as something else than text, and many parsers still speak 1.1.
_RESERVED: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"})


def to_yaml(value: Any) -> bytes:
    """Return a JSON value as YAML that every parser, old or new, reads back as the same value."""
    return ("\n".join(_lines(value)) + "\n").encode()


def _lines(value: Any, indent: str = "") -> list[str]:
    if isinstance(value, dict) and value:
        lines: list[str] = []
        for key, part in cast("dict[str, Any]", value).items():
            lines += _entry(f"{indent}{_scalar(key)}:", part, indent + "  ")
        return lines
    if isinstance(value, list | tuple) and value:
        lines = []
        for part in cast("Sequence[Any]", value):
            nested = _lines(part, indent + "  ")
            lines += [f"{indent}- {nested[0].lstrip(' ')}", *nested[1:]]
        return lines
    return [indent + _scalar(value)]


def _entry(key: str, value: Any, indent: str) -> list[str]:
    if isinstance(value, dict | list | tuple) and value:
        return [key, *_lines(value, indent)]
    return [f"{key} {_scalar(value)}"]


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _RESERVED
        return value if plain else _quoted(value)
    if isinstance(value, dict | list | tuple):
        return "{}" if isinstance(value, dict) else "[]"
    text = json.dumps(value)
    # 1e+16 is a number in JSON and a text in YAML 1.1.
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text


def _quoted(text: str) -> str:
    return _UNPRINTABLE.sub(_escaped, json.dumps(text, ensure_ascii=False))


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def main(paths: Sequence[str]) -> None:
    """Write the document to each of `paths`; to standard output when there is none."""
    text = to_yaml(document())
    for path in paths:
        Path(path).write_bytes(text)
    if not paths:
        sys.stdout.buffer.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
