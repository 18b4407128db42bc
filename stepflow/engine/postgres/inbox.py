"""What others want of a run: a closed set of letters, as the inbox keeps them. PURE."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from stepflow.model.records import NOTHING
from stepflow.runtime import messages as msg

__all__ = ["AdmittedLetter", "EventLetter", "Letter", "act_letter", "cancel_letter"]
__all__ += ["child_letter", "decode_event", "decode_letter", "event_letter", "text", "wanted"]


class EventLetter(msgspec.Struct, frozen=True):
    """An event came for it."""

    event: str
    payload: Raw
    by: str = ""


class CancelLetter(msgspec.Struct, frozen=True):
    """Somebody cancels it."""

    by: str = ""
    reason: str = ""
    force: bool = False


class ActLetter(msgspec.Struct, frozen=True):
    """Somebody pauses it, lets it go on or retries it."""

    by: str = ""
    reason: str = ""


class ChildLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A child that it awaits has ended."""

    key: str
    child: str
    result: Raw = NOTHING
    error: Raw = NOTHING


class AdmittedLetter(msgspec.Struct, frozen=True):
    """It was let in, and may begin."""


Letter = EventLetter | CancelLetter | ActLetter | ChildLetter | AdmittedLetter
Wanted = msg.CancelAsked | msg.PauseAsked | msg.ResumeAsked | msg.RetryAsked | msg.ChildFinished

_KINDS: Final[dict[str, type[Letter]]] = {
    "event": EventLetter,
    "cancel": CancelLetter,
    "pause": ActLetter,
    "resume": ActLetter,
    "retry": ActLetter,
    "child": ChildLetter,
    "admitted": AdmittedLetter,
}
_encode: Final = msgspec.json.Encoder().encode
_Act = type[msg.PauseAsked] | type[msg.ResumeAsked] | type[msg.RetryAsked]
_ACTS: Final[dict[str, _Act]] = {
    "pause": msg.PauseAsked,
    "resume": msg.ResumeAsked,
    "retry": msg.RetryAsked,
}


def event_letter(event: str, payload: bytes, by: str) -> bytes:
    """Return the bytes of a letter with an event."""
    return _encode(EventLetter(event, Raw(payload), by))


def act_letter(by: str, reason: str) -> bytes:
    """Return the bytes of a letter with an operator's act."""
    return _encode(ActLetter(by, reason))


def cancel_letter(by: str, reason: str, *, force: bool) -> bytes:
    """Return the bytes of a letter that cancels."""
    return _encode(CancelLetter(by, reason, force))


def child_letter(key: str, child: str, result: Raw, error: Raw) -> bytes:
    """Return the bytes of a letter that tells of a child's end."""
    return _encode(ChildLetter(key, child, result, error))


def decode_event(body: bytes) -> EventLetter:
    """Return a letter with an event. Raises `msgspec.MsgspecError` for what is none."""
    return msgspec.json.decode(body, type=EventLetter)


def decode_letter(kind: str, body: bytes) -> Letter:
    """Return the letter. Raises `msgspec.MsgspecError` or `KeyError` for what is none."""
    return msgspec.json.decode(body, type=_KINDS[kind])


def wanted(kind: str, letter: Letter) -> Wanted | None:
    """Return the message that the letter is to an actor; None for what is more than one."""
    match letter:
        case CancelLetter():
            return msg.CancelAsked(letter.by, letter.reason, letter.force)
        case ActLetter():
            return _ACTS[kind](letter.by, letter.reason)
        case ChildLetter():
            return msg.ChildFinished(letter.key, letter.child, letter.result, letter.error)
        case EventLetter() | AdmittedLetter():
            return None


def text(value: str) -> str:
    """Return the text as PostgreSQL can hold it: it has no NUL."""
    return value.replace("\x00", "\ufffd") if "\x00" in value else value
