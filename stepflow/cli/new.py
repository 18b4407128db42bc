"""`stepflow new`: a project to start from. Its files are here, so that they cannot be missing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from stepflow.cli.errors import USAGE, Failure
from stepflow.cli.templates import TEMPLATES

__all__ = ["files_of", "new"]

_README: Final = """# {name}

```
pip install -e .
{start}
```

In another terminal:

```
{steps}
```

Kill the server in the middle (`kill -9`), start it again: the run goes on where it was. Everything
is kept in `stepflow-data/`; {key}
"""
_KEY_MADE: Final = "its key is in `stepflow-data/api.key`."
_KEY_SET: Final = "the API's keys are what you put into `STEPFLOW_API_KEYS`."

_PYPROJECT: Final = """[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = [{needs}]

[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
only-include = ["app.py"]
"""

_GITIGNORE: Final = "stepflow-data/\n.venv/\n__pycache__/\n"


def files_of(name: str, template: str = "service") -> dict[str, str]:
    """Return the project's files by name."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "app"
    chosen = TEMPLATES[template]
    needs = ", ".join(f'"{each}"' for each in chosen.needs)
    steps = "\n".join(chosen.steps)
    return {
        "app.py": chosen.app,
        "README.md": _README.format(
            name=plain,
            start=chosen.start,
            steps=steps,
            # Inside another application nobody makes a key.
            key=_KEY_MADE if chosen.start.startswith("stepflow serve") else _KEY_SET,
        ),
        "pyproject.toml": _PYPROJECT.format(name=plain, needs=needs),
        ".gitignore": _GITIGNORE,
    }


@click.command()
@click.argument("directory", metavar="DIR")
@click.option(
    "--template",
    type=click.Choice(tuple(TEMPLATES)),
    default="service",
    show_default=True,
    help="What it begins with: a service, a FastAPI application, an agent, a job on a schedule.",
)
def new(directory: str, template: str) -> None:
    """Make a starter project in DIR, which is new or empty."""
    root = Path(directory)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise Failure(f"{directory} is not empty", USAGE, "name a new directory")
    try:
        root.mkdir(parents=True, exist_ok=True)
        for name, text in files_of(root.resolve().name, template).items():
            (root / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write {directory}: {error.strerror}") from error
    click.echo(f"made {directory}; next:\n")
    if directory != ".":
        click.echo(f"  cd {directory}")
    click.echo(f"  {TEMPLATES[template].start.removesuffix(' --reload')}")
