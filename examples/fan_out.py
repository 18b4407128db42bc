"""A thousand items at once: `ctx.map` records each result, and a restart repeats none of them.

stepflow serve examples/fan_out.py
stepflow trigger count-words '{"pages":1000}' --follow
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from stepflow import Context, Stepflow

flow = Stepflow()


@dataclass
class Book:
    pages: int = 1000
    limit: int = 100


class Count(TypedDict):
    pages: int
    words: int


def count_words(page: int) -> int:
    # A stand-in for something that takes a while: a download, a model, a database.
    return 200 + page * 7919 % 101


@flow.workflow("count-words", description="Count the words of a book, many pages at once")
async def count_words_of_book(ctx: Context, book: Book) -> Count:
    counts = await ctx.map("count-page", count_words, range(book.pages), limit=book.limit)
    ctx.progress(book.pages, book.pages, "all pages counted")
    return {"pages": len(counts), "words": sum(counts)}
