"""What `serve` prints when it is ready: where it is, how to call it, what to do next.

The key itself is printed once, at the start that made it; the command reads it from its file, so it
can be copied at any later start too, and no log or screen recording holds the key.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stepflow.cli.connection import DEFAULT_URL, default_data_dir
from stepflow.cli.samples import sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepflow.cli.access import Access
    from stepflow.model.views import WorkflowView

__all__ = ["banner", "curl_of", "follow_of"]


def banner(
    url: str,
    access: Access,
    workflows: Sequence[WorkflowView],
    *,
    data_dir: str,
    recovered: str,
    docs: bool = True,
) -> str:
    """Return the lines. Colours are stripped by `click.echo` where there is no terminal."""
    return "\n".join(_lines(url, access, workflows, data_dir, recovered, docs=docs))


def _lines(
    url: str,
    access: Access,
    workflows: Sequence[WorkflowView],
    data_dir: str,
    recovered: str,
    *,
    docs: bool,
) -> Iterator[str]:
    yield ""
    yield f"  {click.style('Stepflow', bold=True, fg='green')} is ready"
    yield ""
    yield _row("URL", click.style(url, fg="cyan"))
    yield _row("API key", _key(access))
    yield _row("data", f"{data_dir}{recovered}")
    if docs:
        yield _row("dashboard", f"{url}/ui")
        yield _row("docs", f"{url}/docs")
    yield _row("workflows", ", ".join(workflow.id for workflow in workflows) or "none")
    if workflows:
        yield ""
        yield "  Start a run:"
        yield ""
        yield f"    {curl_of(url, access, workflows[0])}"
        yield ""
        yield "  or follow it in the terminal:"
        yield ""
        yield f"    {follow_of(url, access, workflows[0])}"
    yield ""


def _row(name: str, value: str) -> str:
    return f"  {click.style(f'{name:<10}', dim=True)} {value}"


def _key(access: Access) -> str:
    if access.open_to_all:
        return click.style("none asked for (--no-auth)", fg="yellow")
    if access.made is not None:
        kept = f"kept in {access.key_file}" if access.key_file else "gone with this process"
        return f"{click.style(access.made, fg='yellow')}  (shown once, {kept})"
    if access.key_file is not None:
        return f"in {access.key_file}"
    return access.said


def curl_of(url: str, access: Access, workflow: WorkflowView) -> str:
    """Return a command that starts a run of the workflow."""
    words = ["curl", "-s", "-X", "POST", f"{url}/trigger/{workflow.id}"]
    text = shlex.join(words)
    if not access.open_to_all:
        text += f' -H "X-API-Key: {_key_in_shell(access)}"'
    body = sample(workflow.input_schema)
    if body is not None:
        given = shlex.quote(json.dumps(body, separators=(",", ":")))
        text += f" -H 'Content-Type: application/json' -d {given}"
    return text


def follow_of(url: str, access: Access, workflow: WorkflowView) -> str:
    """Return the command that starts a run and shows it."""
    words = [_program(), "trigger", workflow.id]
    body = sample(workflow.input_schema)
    if body is not None:
        words.append(json.dumps(body, separators=(",", ":")))
    words.append("--follow")
    return _environment(url, access) + shlex.join(words)


def _program() -> str:
    """Return how to call this program where the reader stands: by name, if their shell finds it."""
    if shutil.which("stepflow") or not sys.argv[0].endswith("/stepflow"):
        return "stepflow"
    return os.path.relpath(sys.argv[0])


def _environment(url: str, access: Access) -> str:
    """Return what the client commands could not find out by themselves."""
    text = "" if url == DEFAULT_URL else f"STEPFLOW_URL={shlex.quote(url)} "
    if access.key_file is not None and access.key_file.parent != Path(default_data_dir()):
        text += f'STEPFLOW_API_KEY="{_key_in_shell(access)}" '
    return text


def _key_in_shell(access: Access) -> str:
    if access.key_file is None:
        return "$STEPFLOW_API_KEY"
    return f"$(cat {shlex.quote(str(access.key_file))})"
