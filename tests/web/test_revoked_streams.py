"""A stream ends with the credential that opened it: within a second, idle, busy or blocked.

The contract has one event for that, whatever ended the credential: `expired`, with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from web_harness import Call, rest

from stepflow.auth.chain import AuthChain
from stepflow.auth.keys_file import KeyFollower, KeysFile
from stepflow.web.app import build_app
from stepflow.web.policy import Policy

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine
    from starlette.applications import Starlette
    from web_harness import ManualClock

    from stepflow.auth.public_token import TokenSigner
    from stepflow.config import Settings

pytestmark = pytest.mark.asyncio

RUN = "run_0123456789abcdefABCDEF"
PATH = f"/runs/{RUN}/stream"
EXPIRED = b'event: expired\ndata: {"reason":"expired"}\n\n'
REVOKED = b'event: expired\ndata: {"reason":"revoked"}\n\n'


@pytest.fixture
def file(tmp_path: Path) -> KeysFile:
    return KeysFile(tmp_path / "keys.json")


@pytest.fixture
def app(
    file: KeysFile,
    engine: FakeEngine,
    clock: ManualClock,
    settings: Settings,
    signer: TokenSigner,
) -> Starlette:
    engine.begin(RUN)
    follower = KeyFollower(file, clock, settings)
    chain = AuthChain(clock=clock, settings=settings, signer=signer, follower=follower)
    return build_app(engine, Policy(lambda: chain, clock), settings, clock)


async def watch(
    app: Starlette, file: KeysFile, clock: ManualClock, **more: Any
) -> tuple[Call, str]:
    text, row = file.create("monitor", ["read"], clock.wall_ms())
    await clock.advance(0.5)
    call = await Call(app, PATH, headers={"X-API-Key": text}, **more).start()
    assert call.status == 200
    return call, row.id


async def be_busy(engine: FakeEngine, clock: ManualClock, call: Call, seconds: float) -> None:
    """Tell an event every 10 ms, so that the stream never waits for long."""
    for _ in range(round(seconds * 100)):
        if call.done:
            return
        engine.tell(RUN, len(engine.runs[RUN].events) + 1, "emit", {})
        await clock.advance(0.01)


async def test_an_idle_stream_of_a_revoked_key_ends_within_a_second(app, engine, clock, file):
    call, key_id = await watch(app, file, clock)
    await clock.advance(7.3)
    assert not call.done
    file.revoke(key_id, clock.wall_ms())
    await clock.advance(1)
    assert call.done
    assert call.ended
    assert call.body.endswith(REVOKED)
    assert not engine.runs[RUN].subscribers
    assert clock.pending == 0


async def test_a_busy_stream_of_a_revoked_key_ends_within_a_second(app, engine, clock, file):
    call, key_id = await watch(app, file, clock)
    await be_busy(engine, clock, call, 3)
    assert not call.done
    file.revoke(key_id, clock.wall_ms())
    await be_busy(engine, clock, call, 1)
    assert call.done
    assert call.ended
    assert call.body.endswith(REVOKED)
    assert clock.pending == 0


async def test_a_busy_stream_ends_with_its_token(app, engine, clock, signer):
    token = signer.sign_run(RUN, clock.wall_ms() + 2000)
    call = await Call(app, PATH, query=f"token={token}").start()
    await be_busy(engine, clock, call, 1.9)
    assert not call.done
    await be_busy(engine, clock, call, 0.2)
    assert call.done
    assert call.body.endswith(EXPIRED)


async def test_a_reader_that_does_not_read_is_cut_off_when_its_key_is_revoked(
    app, engine, clock, file
):
    aborted: list[str] = []
    extension = {"stepflow.abort": {"abort": lambda: aborted.append("cut")}}
    call, key_id = await watch(app, file, clock, extensions=extension)
    call.hold()
    engine.tell(RUN, 2, "emit", {})
    await rest()
    file.revoke(key_id, clock.wall_ms())
    await clock.advance(1)
    assert call.done
    assert aborted == ["cut"]
    assert b"id: 2" not in call.body
    assert clock.pending == 0


async def test_the_streams_of_other_keys_go_on(app, engine, clock, file):
    one, key_id = await watch(app, file, clock)
    other, _ = await watch(app, file, clock)
    file.revoke(key_id, clock.wall_ms())
    await clock.advance(1)
    assert one.done
    assert not other.done
    engine.tell(RUN, 2, "emit", {})
    await rest()
    assert other.body.endswith(b"id: 2\nevent: emit\ndata: {}\n\n")
    await other.hang_up()
    await other.end()
    assert clock.pending == 0


async def test_every_stream_of_made_keys_ends_when_the_file_goes(app, engine, clock, file):
    one, _ = await watch(app, file, clock)
    other, _ = await watch(app, file, clock)
    file.path.unlink()
    await clock.advance(1)
    assert one.done
    assert other.done
