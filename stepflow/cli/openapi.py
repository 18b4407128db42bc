"""`stepflow openapi`: the document, made from the routes as they are."""

from __future__ import annotations

import click

__all__ = ["openapi"]


@click.command()
def openapi() -> None:
    """Print the OpenAPI 3.1 document of the HTTP API, as YAML."""
    from stepflow.web.openapi import document, to_yaml  # noqa: PLC0415  not for --help

    click.echo(to_yaml(document()), nl=False)
