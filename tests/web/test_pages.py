"""`/ui`: which answers, to whom, kept for how long, and what the browser may do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from web_harness import Call

from stepflow.dashboard.assets import assets

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' "
    "data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
VERSION = assets().version


async def test_the_page_is_there_for_everybody_with_the_published_policy(stranger):
    for path in ("/ui", "/ui/"):
        response = await stranger.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["content-security-policy"] == POLICY
        assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/ui", "/ui/", "/ui/app.js", f"/ui/{VERSION}/vendor/preact.js"])
async def test_a_browser_may_not_guess_frame_or_tell(stranger, path):
    headers = (await stranger.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["content-security-policy"] == POLICY


@pytest.mark.parametrize("path", ["/ui", "/ui/"])
async def test_each_address_of_the_page_leads_to_its_files(stranger, path):
    page = await stranger.get(path)
    found = [word for word in page.text.split('"') if word.startswith("./")]
    assert len(found) > 3
    for name in found:
        url = httpx.URL(f"http://stepflow{path}").join(name)
        response = await stranger.get(url)
        assert (response.status_code, url.path.startswith(f"/ui/{VERSION}/")) == (200, True), name


async def test_a_file_of_a_version_is_kept_for_ever_and_one_without_is_asked_for_again(stranger):
    fixed = await stranger.get(f"/ui/{VERSION}/base.js")
    bare = await stranger.get("/ui/base.js")
    assert fixed.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert bare.headers["cache-control"] == "no-cache"
    assert fixed.content == bare.content
    assert bare.headers["content-type"] == "text/javascript; charset=utf-8"
    other = "0" * 16
    assert (await stranger.get(f"/ui/{other}/base.js")).status_code == 404


@pytest.mark.parametrize(
    ("known", "status"),
    [
        ("{etag}", 304),
        ('"a", W/{etag}', 304),
        ("*", 304),
        ('"a"', 200),
        ('{etag}, "b"', 304),
        ("", 200),
        ('"', 200),
    ],
)
async def test_what_the_browser_has_is_not_sent_again(stranger, known, status):
    etag = (await stranger.get("/ui/")).headers["etag"]
    response = await stranger.get("/ui/", headers={"If-None-Match": known.format(etag=etag)})
    assert response.status_code == status
    assert response.headers["etag"] == etag
    assert response.headers["content-security-policy"] == POLICY
    assert (response.content == b"") == (status == 304)


async def test_head_answers_as_get_without_the_body(stranger):
    for path in ("/ui", "/ui/", "/ui/app.js"):
        got, headed = await stranger.get(path), await stranger.head(path)
        assert (headed.status_code, headed.content) == (200, b"")
        assert headed.headers == got.headers


async def test_another_method_is_refused(stranger):
    response = await stranger.post("/ui/")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path",
    [
        "/ui/../web/app.py",
        "/ui/../../etc/passwd",
        "/ui/vendor/../../assets.py",
        "/ui//app.js",
        "/ui/vendor",
        "/ui/app.js/",
        "/ui/.",
        "/ui/..",
        "/ui/app.js\0.html",
        "/ui/app.js\n",
        "/ui/..\\assets.py",
        "/ui//etc/passwd",
        "/ui/assets.py",
        "/ui\n",
        "/ui/C:/app.js",
    ],
)
async def test_no_path_leads_out_of_the_files(app, path):
    call = await Call(app, path).start()
    await call.end()
    assert call.status == 404
    assert b'"NOT_FOUND"' in call.body


async def test_the_page_is_there_while_the_engine_starts(stranger, engine):
    engine.state = "starting"
    for path in ("/ui", "/ui/app.js"):
        assert (await stranger.get(path)).status_code == 200


@pytest.mark.parametrize("prefix", ["", "/api/stepflow", "/ui", "/a/ui/b"])
async def test_below_any_prefix_the_page_finds_its_files(
    make_app: Callable[..., Starlette], call_with: Any, prefix
):
    host = Starlette(routes=[Mount(prefix, make_app())])
    client = call_with(host, None)
    for path in ("/ui", "/ui/"):
        page = await client.get(prefix + path)
        name = next(word for word in page.text.split('"') if word.endswith("/app.js"))
        url = httpx.URL(f"http://stepflow{prefix}{path}").join(name)
        assert url.path == f"{prefix}/ui/{VERSION}/app.js"
        assert (await client.get(url)).status_code == 200
    response = await client.get(f"{prefix}/", headers={"Accept": "text/html"})
    assert response.headers["location"] == "ui/"


async def test_without_pages_for_people_there_are_none(make_app, call_with):
    client = call_with(make_app(ui=False))
    for path in ("/", "/ui", "/ui/", "/ui/app.js", "/docs"):
        response = await client.get(path, headers={"Accept": "text/html"})
        assert (response.status_code, response.json()["code"]) == (404, "NOT_FOUND")
    assert (await client.get("/openapi.yaml")).status_code == 200
