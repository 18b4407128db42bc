"""`stepflow new`: a project to start from. Its files are here, so that they cannot be missing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from stepflow.cli.errors import USAGE, Failure

__all__ = ["files_of", "new"]

_APP: Final = '''"""A workflow that greets, waits and asks: stepflow serve app.py --reload."""

from __future__ import annotations

from dataclasses import dataclass

from stepflow import Context, EventTimeoutError, Stepflow

flow = Stepflow()


@dataclass
class Guest:
    name: str


async def greet(name: str) -> str:
    # Whatever touches the world goes into a function like this one, run as a step: its result is
    # recorded once, and after that it never runs again.
    return f"Hello, {name}!"


@flow.workflow(events=["answer-{name}"])
async def hello(ctx: Context, guest: Guest) -> str:
    greeting = await ctx.step("greet", greet, guest.name)
    await ctx.sleep("a-moment", "5s")
    try:
        answer = await ctx.wait_for_event("answer", f"answer-{guest.name}", timeout="10m")
    except EventTimeoutError:
        return f"{greeting} (no answer)"
    return f"{greeting} {answer}"
'''

_README: Final = """# {name}

```
pip install -e .
stepflow serve app.py --reload
```

In another terminal:

```
stepflow trigger hello '{{"name":"Ada"}}' --follow
stepflow notify answer-Ada '"Hello yourself!"'
```

Kill the server in the middle (`kill -9`), start it again: the run goes on where it was. Everything
is kept in `stepflow-data/`; its key is in `stepflow-data/api.key`.
"""

_PYPROJECT: Final = """[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["stepflow[cli,fast,reload]"]

[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
only-include = ["app.py"]
"""

_GITIGNORE: Final = "stepflow-data/\n.venv/\n__pycache__/\n"


def files_of(name: str) -> dict[str, str]:
    """Return the project's files by name."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "app"
    return {
        "app.py": _APP,
        "README.md": _README.format(name=plain),
        "pyproject.toml": _PYPROJECT.format(name=plain),
        ".gitignore": _GITIGNORE,
    }


@click.command()
@click.argument("directory", metavar="DIR")
def new(directory: str) -> None:
    """Make a starter project in DIR, which is new or empty."""
    root = Path(directory)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise Failure(f"{directory} is not empty", USAGE, "name a new directory")
    try:
        root.mkdir(parents=True, exist_ok=True)
        for name, text in files_of(root.resolve().name).items():
            (root / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write {directory}: {error.strerror}") from error
    click.echo(f"made {directory}; next:\n")
    if directory != ".":
        click.echo(f"  cd {directory}")
    click.echo("  stepflow serve app.py")
