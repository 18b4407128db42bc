"""What the commands of a client print and read alike: JSON, tables, a run's state."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
import orjson

from stepflow.cli.errors import USAGE, Failure
from stepflow.log import escaped_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.model.views import RunView

__all__ = ["json_option", "print_json", "print_table", "read_json", "state_text"]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    click.echo(escaped_json(msgspec.json.encode(value).decode()))


def state_text(run: RunView) -> str:
    """Return `running, waiting`: the status, and the finer state where it says more."""
    state = run.state or run.status
    return run.status if state in {run.status, "active"} else f"{run.status}, {state}"


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


def _read_file(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {name}: {error.strerror}", USAGE) from None
