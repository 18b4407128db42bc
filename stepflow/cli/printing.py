"""What the commands of a client print and read alike: JSON, tables, a run's state."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
import orjson

from stepflow.cli.errors import USAGE, Failure
from stepflow.log import escaped_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.model.views import RunView

__all__ = [
    "COLOURS",
    "json_option",
    "print_json",
    "print_table",
    "read_ids",
    "read_json",
    "read_moment",
    "state_text",
]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    click.echo(escaped_json(msgspec.json.encode(value).decode()))


COLOURS: Final = {"completed": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}
"""Of a run's status, where the output is a terminal."""


def state_text(run: RunView) -> str:
    """Return `running, waiting`: the status, and the finer state where it says more.

    Of a run in a queue also its place: `pending, queued as 4`.
    """
    state = run.state or run.status
    text = run.status if state in {run.status, "active"} else f"{run.status}, {state}"
    return f"{text} as {run.queue.position}" if run.queue else text


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns; the first is their heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for place, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(cells).rstrip()
        click.echo(click.style(line, dim=True) if place == 0 else line)


def read_json(text: str | None) -> Any:
    """Return the JSON value of an argument: the text itself, `@file`, or `-` for the input.

    Raises `Failure` that shows the place.
    """
    if text is None:
        return None
    if text == "-":
        source, data = "the standard input", sys.stdin.buffer.read()
    elif text.startswith("@"):
        source, data = text[1:], _read_file(text[1:])
    else:
        source, data = "the argument", text.encode("utf-8", "surrogateescape")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        hint = "a text is JSON with its quotes: '\"hello\"'; a file is @name.json, the input is -"
        raise Failure(f"{source} is not JSON: {error}", USAGE, hint) from None


def read_ids(words: Sequence[str]) -> list[str]:
    """Return the ids that options name, each once: an id, or `@file` or `-` with some in it."""
    found: list[str] = []
    for word in words:
        if word == "-":
            found += sys.stdin.read().split()
        elif word.startswith("@"):
            found += _read_file(word[1:]).decode("utf-8", "replace").split()
        else:
            found.append(word)
    return list(dict.fromkeys(found))


def read_moment(option: str, text: str | None) -> datetime | None:
    """Return the time that an option gives, with its zone. Raises `Failure`."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Failure(f"{option} {text!r} is no time; write it as 2024-01-15T10:30Z", USAGE)
    return moment


def _read_file(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {name}: {error.strerror}", USAGE) from None
