"""The suite itself: it tells an engine that refuses from one that does wrong, and counts both."""

from __future__ import annotations

import shutil

import pytest

from stepflow.errors import ConflictError, EventNotFoundError, NotSupportedError, RunNotFoundError
from stepflow.testing.conformance import RestartConformance
from stepflow.testing.conformance.claims.base import CLAIM, Claims, needs
from stepflow.testing.conformance.door import Door
from stepflow.testing.conformance.report import gathered, lines, table
from tests.cli_kit import ROOT
from tests.conformance.local_server import LocalServer

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _the_plugin_of_this_tree(monkeypatch):
    # An environment keeps a copy of the plugin's file, as it was when it was made.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


class Made(Claims):
    lacks = ("fork",)

    @needs("fork")
    async def claim(self, error: Exception | None) -> None:
        if error is not None:
            raise error

    async def _instead(self, error: Exception | None) -> None:
        assert error is None

    @needs("fork", otherwise=_instead)
    async def replaced(self, error: Exception | None) -> None:
        raise AssertionError

    @needs("pause")
    async def other(self, error: Exception | None) -> None:
        if error is not None:
            raise error


@pytest.mark.asyncio
async def test_a_claim_that_needs_what_is_lacking_must_come_to_the_clear_refusal():
    await Made().claim(NotSupportedError("This engine has no fork: run it on the local one"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "DID NOT RAISE"),
        (NotSupportedError("no"), "does not say what is lacking"),
    ],
)
async def test_anything_else_where_it_lacks_it_does_not_hold(error, words):
    with pytest.raises((AssertionError, pytest.fail.Exception), match=words):
        await Made().claim(error)
    with pytest.raises(ConflictError):
        await Made().claim(ConflictError("not in this state"))


@pytest.mark.asyncio
async def test_a_refusal_of_what_is_not_declared_as_lacking_does_not_hold():
    with pytest.raises(NotSupportedError):
        await Made().other(NotSupportedError("This engine has no pause"))
    await Made().other(None)


@pytest.mark.asyncio
async def test_what_cannot_be_refused_is_claimed_otherwise():
    await Made().replaced(None)
    with pytest.raises(AssertionError):
        await Made().replaced(ConflictError("no"))


def test_the_report_counts_by_engine_and_capability():
    claims = [
        *(("local|run||held", True), ("local|control|fork|held", True)),
        *(("pg|run||held", True), ("pg|control|fork|refused", True), ("pg|run||held", False)),
        ("pg|waits|event-types|otherwise", True),
    ]
    found = gathered(claims)
    first, second = lines(found)
    assert first == "conformance of local: 2 claims hold"
    assert second == (
        "conformance of pg: 1 claims hold; 1 clearly refused, as declared (fork 1); "
        "1 otherwise, as declared (event-types 1); 1 DO NOT HOLD"
    )
    assert table(found) == (
        "| capability | local | pg |\n"
        "| --- | --- | --- |\n"
        "| what every engine must do | 1 hold | **1 do not hold** |\n"
        "| `event-types` | not claimed | otherwise (1) |\n"
        "| `fork` | 1 hold | refused (1) |\n"
    )


SUITE = """
import pytest
from stepflow.testing.conformance.claims.base import Claims, needs
from stepflow.errors import NotSupportedError


class OurClaims(Claims):
    engine = "mine"
    lacks = ("fork",)

    async def test_good(self): ...

    @needs("fork")
    async def test_lacking(self):
        raise NotSupportedError("there is no fork here")


@pytest.mark.asyncio
class TestOurs(OurClaims): ...
"""


def test_a_run_says_at_its_end_what_holds_and_what_is_refused(pytester: pytest.Pytester):
    pytester.makepyfile(SUITE)
    done = pytester.runpytest_subprocess(
        "-q", "-p", "no:cacheprovider", "--stepflow-conformance-table=table.md"
    )
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines(
        ["conformance of mine: 1 claims hold; 1 clearly refused, as declared (fork 1)"]
    )
    text = (pytester.path / "table.md").read_text()
    assert "| `fork` | refused (1) |" in text


def test_a_claim_that_fails_shows_what_it_compared(pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        from stepflow.testing.conformance import register
        from stepflow.testing.conformance.claims.http.shapes import expect
        import httpx

        def test_it():
            expect(httpx.Response(200, text="this"), 200, "that")
        """
    )
    done = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*(200, 'this') == (200, 'that')*"])


@pytest.mark.asyncio
async def test_the_door_asks_the_nodes_in_turn_and_knows_a_refusal(monkeypatch):
    import httpx

    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.path == "/no":
            return httpx.Response(501, json={"error": "no bulk here", "code": "NOT_SUPPORTED"})
        return httpx.Response(200, json={})

    async with Door(["http://a", "http://b"], "k") as door:
        for client in door._clients:
            client._transport = httpx.MockTransport(answer)
        for _ in range(3):
            await door.get("/x")
        await door.get("/x", node=1)
        with pytest.raises(NotSupportedError, match="no bulk here"):
            await door.post("/no")
    assert asked == ["a", "b", "a", "b", "b"]


def test_a_deployment_keeps_its_address_over_a_restart(tmp_path):
    server = LocalServer(tmp_path)
    server.start()
    try:
        url = server.url
        server.kill("server")
        server.revive("server")
        assert server.url == url == server.base_urls[0]
    finally:
        server.stop()

    assert CLAIM == "stepflow-claim", "what pytest_stepflow.py looks for"


class Forgetful(LocalServer):
    """One that comes back with nothing."""

    def revive(self, process: str) -> None:
        for path in self._data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        super().revive(process)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "claim",
    [
        "test_a_used_key_gives_the_same_run_as_before",
        "test_an_acknowledged_cancel_is_carried_out",
        "test_an_acknowledged_event_is_not_lost",
        "test_a_sleep_ends_although_its_process_was_killed",
    ],
)
async def test_a_service_that_forgets_does_not_conform(tmp_path, claim):
    server = Forgetful(tmp_path)
    server.start()
    try:
        with pytest.raises((AssertionError, RunNotFoundError, EventNotFoundError)):
            await getattr(RestartConformance(), claim)(server, "server")
    finally:
        server.stop()
