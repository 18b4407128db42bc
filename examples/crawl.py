"""A crawl of an API that allows so many requests a minute and host: the others wait, durably.

stepflow serve examples/crawl.py
stepflow trigger crawl '{"host":"api.example.com","pages":12}' --follow
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from stepflow import Context, RateLimit, Stepflow

flow = Stepflow()


@dataclass
class Site:
    host: str
    pages: int


@dataclass
class Page:
    host: str
    number: int


def fetch(host: str, number: int) -> int:
    # A stand-in for a request: the number of items on the page.
    return len(host) + number


@flow.workflow("fetch-page", rate_limit=RateLimit(10, per="1m", key="input.host"))
async def fetch_page(ctx: Context, page: Page) -> int:
    return await ctx.step("fetch", fetch, page.host, page.number)


@flow.workflow("crawl", description="Fetch all pages of an API, ten a minute")
async def crawl(ctx: Context, site: Site) -> int:
    pages = [Page(site.host, number) for number in range(site.pages)]
    found: list[int] = await asyncio.gather(*(ctx.call(fetch_page, page) for page in pages))
    return sum(found)
