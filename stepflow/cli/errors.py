"""What a command says when it cannot, and the status it leaves with.

====== ===========================================================
status meaning
====== ===========================================================
0      done; a followed run completed
1      a followed run failed or was cancelled; any other refusal
2      wrong usage, or an input that the server refuses
3      the server cannot be reached, or does not serve now
4      credentials are missing, wrong, or lack the scope
5      no answer in time
6      no such workflow, run or event
64     a setting or target that cannot be used
65     the data directory is damaged
69     `serve` cannot listen on its address
70     a defect, in Stepflow or in the application
74     the disk has failed
75     another process has the data directory
130    interrupted
====== ===========================================================

Every message names the thing, what happened and the next move.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from stepflow.errors import ApiError, OperatorError
from stepflow.log import escaped

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Failure", "failing"]

FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
NO_ENTRY: Final = 4
TIMEOUT: Final = 5
NOT_FOUND: Final = 6
DEFECT: Final = 70
INTERRUPTED: Final = 130

_BY_CODE: Final[dict[str, tuple[int, str]]] = {
    "UNAUTHORIZED": (NO_ENTRY, "set STEPFLOW_API_KEY to a key of this server"),
    "FORBIDDEN": (NO_ENTRY, "use a key that has the scope: stepflow keys create --scope …"),
    "WORKFLOW_NOT_FOUND": (NOT_FOUND, ""),
    "RUN_NOT_FOUND": (NOT_FOUND, "see what there is: stepflow runs list"),
    "EVENT_NOT_FOUND": (
        NOT_FOUND,
        "no live run waits for it or declared it: stepflow runs list --status running",
    ),
    "NOT_FOUND": (NOT_FOUND, "check STEPFLOW_URL: it includes the server's --base-path"),
    "INVALID_INPUT": (USAGE, ""),
    "PAYLOAD_TOO_LARGE": (USAGE, ""),
    "METHOD_NOT_ALLOWED": (USAGE, "check STEPFLOW_URL: it includes the server's --base-path"),
    "UNAVAILABLE": (UNREACHABLE, "nothing was done; try again"),
    "RATE_LIMITED": (UNREACHABLE, "nothing was done; try again later"),
    "OUTCOME_UNKNOWN": (TIMEOUT, "ask again with the same --idempotency-key"),
}


class Failure(click.ClickException):
    """A command's refusal: what happened, the next move, and the exit status."""

    def __init__(self, message: str, exit_code: int = FAILED, hint: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the exception
        self.hint = hint

    def show(self, file: TextIO | Any | None = None) -> None:
        click.echo(f"{click.style('error:', fg='red')} {_lines(self.message)}", file=file, err=True)
        if self.hint:
            click.echo(
                f"{click.style('next:', fg='cyan')}  {_lines(self.hint)}", file=file, err=True
            )


def _lines(text: str) -> str:
    """Return a text of ours that may quote somebody else's; only our line breaks stay."""
    return "\n".join(map(escaped, text.split("\n")))


@contextlib.contextmanager
def failing() -> Generator[None]:
    """Turn the product's own errors into a `Failure`."""
    try:
        yield
    except ApiError as error:
        exit_code, hint = _BY_CODE.get(error.code, (FAILED, ""))
        if error.code == "UNAVAILABLE" and "no connection" in error.message:
            hint = "start it: stepflow serve app.py, or set STEPFLOW_URL to where it is"
        if error.code == "NOT_FOUND" and error.message.startswith("There is no schedule"):
            # Other than where there is no such route.
            hint = "see what there is: stepflow schedules list"
        raise Failure(error.message, exit_code, hint) from error
    except OperatorError as error:
        raise Failure(str(error), error.exit_code) from error
