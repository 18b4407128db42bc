"""`stepflow types`: what the workflows take and give, for the TypeScript of those who call them."""

from __future__ import annotations

from pathlib import Path

import click

from stepflow.cli.errors import Failure, failing
from stepflow.cli.loader import load_or_fail
from stepflow.cli.typescript import typescript_of

__all__ = ["types"]


@click.command()
@click.argument("target")
@click.option("--out", metavar="FILE", help="Where to; the standard output otherwise.")
@click.option("--check", is_flag=True, help="Write nothing; leave with 1 when FILE is stale.")
def types(target: str, out: str | None, check: bool) -> None:
    """Print TypeScript types of the workflows of TARGET, which no server need run.

    They are made from the schemas that `GET /workflows` shows.

    \b
    Examples:
      stepflow types shop.py --out web/src/workflows.ts
      stepflow types shop.py --out web/src/workflows.ts --check
    """
    if check and out is None:
        raise click.UsageError("--check compares with a file: give --out")
    with failing():
        registry = load_or_fail(target).registry
        text = typescript_of(registry.all(), target)
    if out is None:
        click.echo(text, nl=False)
        return
    path = Path(out)
    try:
        if check:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                raise Failure(f"{out} is stale", 1, f"stepflow types {target} --out {out}")
            return
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"cannot write {out}: {error.strerror}") from None
