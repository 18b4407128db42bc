"""What the commands of a client print alike: JSON, tables, a run's state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from stepflow.log import escaped_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.model.views import RunView

__all__ = ["json_option", "print_json", "print_table", "state_text"]

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
