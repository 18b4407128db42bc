"""`stepflow`: the command line. Each command's module is loaded when that command is used.

A client command must not pay for the server's imports, nor the server for the client's; so the
group knows its commands by name alone.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

import click

__all__ = ["Commands", "main"]

_COMMANDS: Final[dict[str, str]] = {
    "serve": "stepflow.cli.serve:serve",
    "trigger": "stepflow.cli.runs:trigger",
    "notify": "stepflow.cli.runs:notify",
    "runs": "stepflow.cli.runs:runs",
    "schedules": "stepflow.cli.schedules:schedules",
    "token": "stepflow.cli.runs:token",
    "export": "stepflow.cli.export:export",
    "keys": "stepflow.cli.keys:keys",
    "check": "stepflow.cli.check:check",
    "verify": "stepflow.cli.data:verify",
    "dump": "stepflow.cli.data:dump",
    "backup": "stepflow.cli.data:backup",
    "repair": "stepflow.cli.data:repair",
    "migrate": "stepflow.cli.migrate:migrate",
    "openapi": "stepflow.cli.openapi:openapi",
    "types": "stepflow.cli.types_command:types",
    "new": "stepflow.cli.new:new",
    "bench": "stepflow.cli.bench:bench",
}


class Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        found: Any = getattr(importlib.import_module(module), name)
        assert isinstance(found, click.Command)
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stepflow", prog_name="stepflow")
def main() -> None:
    """Durable workflows inside one Python process."""


if __name__ == "__main__":
    sys.exit(main())
