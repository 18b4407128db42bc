"""A document pipeline: a thousand pages read in parallel, then one summary.

stepflow serve examples/documents.py
stepflow trigger documents '{"name":"annual","pages":1000}' --follow
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from stepflow import Context, Stepflow

flow = Stepflow()


@dataclass
class Document:
    name: str
    pages: int = 1000


class Summary(TypedDict):
    name: str
    pages: int
    words: int
    longest: int


def split(name: str, pages: int) -> list[str]:
    return [f"{name}/{page}" for page in range(pages)]


def read(page: str) -> int:
    # A stand-in for text recognition: how many words are on the page.
    return 200 + sum(page.encode()) % 101


# A restart in the middle reads no page again that has been read.
@flow.workflow("documents", description="Read all pages of a document at once")
async def documents(ctx: Context, document: Document) -> Summary:
    pages = await ctx.step("split", split, document.name, document.pages)
    words = await ctx.map("read", read, pages, key=lambda page: page)
    return {
        "name": document.name,
        "pages": len(pages),
        "words": sum(words),
        "longest": max(words),
    }
