"""Write the tables that the docs take from the code.

A document marks a place with `<!-- generated: NAME -->` … `<!-- end -->`; what stands between is
replaced by what the generator of that name returns. `--check` changes nothing and exits 1 when a
document is stale.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from dataclasses import Field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import yaml

from stepflow import errors
from stepflow.config import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).resolve().parents[1]
PLACE: Final = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
SIZES: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
METHODS: Final = ("get", "post", "put", "patch", "delete")
CREDENTIALS: Final = {
    "apiKey": "key",
    "jwt": "JWT",
    "publicAccessToken": "token",
    "session": "cookie",
}
SPANS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))


def settings_table() -> str:
    rows = ["| environment variable | default | unit | at the edge |", "|---|---|---|---|"]
    for knob in fields(Settings):
        name = f"STEPFLOW_{knob.name.upper()}"
        unit, edge = knob.metadata["unit"], knob.metadata["edge"]
        rows.append(f"| `{name}` | {_default(knob)} | {unit} | {edge} |")
    return "\n".join(rows)


def _default(knob: Field[Any]) -> str:
    value = knob.default
    if not isinstance(value, int | float):
        return f"`{value}`"
    plain = f"`{value:g}`" if isinstance(value, float) and value < 1e6 else f"`{int(value)}`"
    scale = {"bytes": SIZES, "seconds": SPANS}.get(knob.metadata["unit"], ())
    for suffix, size in scale:
        if value >= size and value % size == 0:
            return f"{plain} ({int(value / size)} {suffix})"
    return plain


def api_errors_table() -> str:
    rows = ["| code | status | Python | meaning |", "|---|---|---|---|"]
    classes = sorted(_tree(errors.ApiError), key=lambda cls: (cls.status, cls.code))
    rows += [f"| `{c.code}` | {c.status} | `{c.__name__}` | {_meaning(c)} |" for c in classes]
    return "\n".join(rows)


def author_errors_table() -> str:
    rows = ["| error | meaning |", "|---|---|"]
    others = (errors.ApiError, errors.OperatorError)
    classes = [c for c in _tree(errors.StepflowError) if not issubclass(c, others)]
    rows += [f"| `{c.__name__}` | {_meaning(c)} |" for c in [*classes, *_tree(errors.ControlFlow)]]
    return "\n".join(rows)


def operator_errors_table() -> str:
    rows = ["| exit code | error | meaning |", "|---|---|---|"]
    classes = sorted(_tree(errors.OperatorError), key=lambda cls: cls.exit_code)
    rows += [f"| {c.exit_code} | `{c.__name__}` | {_meaning(c)} |" for c in classes]
    return "\n".join(rows)


def _tree(root: type[Any]) -> Iterator[type[Any]]:
    for cls in root.__subclasses__():
        if cls.__module__ == errors.__name__:
            yield cls
            yield from _tree(cls)


def _meaning(cls: type[Any]) -> str:
    text = " ".join((cls.__doc__ or "").split("\n\n")[0].split())
    return _cell(text)


def routes_table() -> str:
    document = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
    rows = ["| route | does | credentials | errors |", "|---|---|---|---|"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method in METHODS:
                rows.append(_route(f"{method.upper()} {path}", operation))
    return "\n".join(rows)


def _route(name: str, operation: dict[str, Any]) -> str:
    schemes = [scheme for entry in operation.get("security", []) for scheme in entry]
    shown = " ".join(CREDENTIALS[scheme] for scheme in schemes) or "–"
    failures = [status for status in operation["responses"] if status >= "400"]
    return f"| `{name}` | {operation['summary']} | {shown} | {' '.join(failures) or '–'} |"


def cli_reference() -> str:
    from stepflow.cli.main import main  # noqa: PLC0415  other tables need no CLI

    parts: list[str] = []
    for path, command in _commands("stepflow", main):
        parts.append(f"### `{path}`\n\n{_help(command)}\n")
        rows = [_parameter(parameter) for parameter in command.params]
        if rows:
            parts.append("\n".join(["| argument | default | |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts).rstrip()


def _commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command, info_name=path)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        if child is not None and not child.hidden:
            yield from _commands(f"{path} {name}", child)


def _help(command: click.Command) -> str:
    """Return the help text as Markdown: click's paragraphs that keep their lines become code."""
    paragraphs = inspect.cleandoc(command.help or "").split("\f")[0].split("\n\n")
    return "\n\n".join(_paragraph(text.strip("\n")) for text in paragraphs if text.strip())


def _paragraph(text: str) -> str:
    if not text.startswith("\b"):
        return text
    title, _, rest = text.removeprefix("\b").strip("\n").partition("\n")
    if not title.endswith(":"):
        title, rest = "", f"{title}\n{rest}".strip("\n")
    return f"{title}\n\n```console\n{inspect.cleandoc(rest)}\n```".lstrip("\n")


def _parameter(parameter: click.Parameter) -> str:
    info = parameter.to_info_dict()
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if info["param_type_name"] == "argument":
        names = f"`{_cell(parameter.metavar) or (parameter.name or '').upper()}`"
    default = info.get("default")
    shown = (
        "" if default in {None, False, "", ()} or "Sentinel" in repr(default) else f"`{default}`"
    )
    return f"| {names} | {shown} | {_cell(info.get('help'))} |"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def example(path: Path) -> str:
    return f"```python\n{path.read_text(encoding='utf-8')}```"


EXAMPLES: Final = sorted((ROOT / "examples" / "hosts").glob("*.py"))
GENERATORS: Final[dict[str, Callable[[], str]]] = {
    "settings": settings_table,
    "routes": routes_table,
    "api-errors": api_errors_table,
    "author-errors": author_errors_table,
    "operator-errors": operator_errors_table,
    "cli": cli_reference,
    **{f"examples/hosts/{path.name}": partial(example, path) for path in EXAMPLES},
}


def generated(text: str) -> str:
    """Return the document with every marked place filled in anew."""
    return PLACE.sub(lambda m: f"{m[1]}{GENERATORS[m[2]]()}\n{m[3]}", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 when stale")
    check = parser.parse_args().check
    stale = 0
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        fresh = generated(text)
        if fresh != text:
            stale += 1
            print(f"{path.relative_to(ROOT)}: {'stale, run make docs' if check else 'written'}")
            if not check:
                path.write_text(fresh, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
