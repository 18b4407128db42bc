"""The command line as a stranger uses it: real processes, real files, real signals."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import stat
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli_kit import PROGRAM, ROOT, Process, Served, environment, run_cli, until
from tests.served import doomed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(180)

APP = """
from __future__ import annotations

from stepflow import Context, NonRetryableError, Schedule, Stepflow

flow = Stepflow()


def boom() -> None:
    raise NonRetryableError("the card was refused")


async def note(text: str) -> str:
    return text


@flow.workflow()
async def gated(ctx: Context, name: str) -> str:
    await ctx.step("before", note, name)
    word = await ctx.wait_for_event("gate", f"gate-{name}", timeout=None)
    return await ctx.step("after", note, word)


@flow.workflow(schedule=Schedule("0 2 29 2 *", overlap="allow"))
async def leap(ctx: Context) -> str:
    return "done"


@flow.workflow()
async def failing(ctx: Context) -> None:
    await ctx.step("charge", boom)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "flows.py").write_text(APP)
    return tmp_path


@pytest.fixture
def serve(place: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(target: str | Path = "flows.py", *options: str, **how) -> Served:
        started.append(Served(target, *options, cwd=place, **how))
        return started[-1]

    yield start
    for server in started:
        server.kill()


def key_of(place: Path, data: str = "stepflow-data") -> str:
    return (place / data / "api.key").read_text().strip()


def api(place: Path, url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"X-API-Key": key_of(place)}, timeout=60)


def copied(server: Served, start: str) -> str:
    """The command of the banner that begins so, as it would be copied."""
    found = re.search(rf"^    (\S*\s?.*{start}.*)$", server.out, re.MULTILINE)
    assert found is not None, server.out
    return found[1]


def in_shell(command: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Run a copied command; `stepflow` is this interpreter's."""
    program = " ".join(PROGRAM)
    script = f'stepflow() {{ {program} "$@"; }}\n' + re.sub(r"\S*/stepflow ", "stepflow ", command)
    return subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


# ------------------------------------------------------------ the first minute


def test_the_key_is_printed_at_the_first_start_and_never_again(serve, place) -> None:
    first = serve()
    first.ready()
    assert first.out.count(key_of(place)) == 1
    assert first.stop() == 0
    second = serve()
    second.ready()
    assert second.stop() == 0
    assert key_of(place) not in second.out + second.err + first.err
    assert "in stepflow-data/api.key" in second.out


def test_what_serve_writes_is_private(serve, place) -> None:
    serve().ready()
    directory = place / "stepflow-data"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert set(modes.values()) == {0o600}, modes


@pytest.mark.tool("curl")
def test_the_printed_curl_can_be_copied(serve, place) -> None:
    server = serve()
    server.ready()
    done = in_shell(copied(server, "curl"), place)
    assert set(json.loads(done.stdout)) == {"runId", "publicAccessToken"}


def test_the_printed_follow_command_can_be_copied(serve, place) -> None:
    server = serve(ROOT / "examples" / "welcome.py", "--data", "elsewhere", WELCOME_PAUSE="50ms")
    server.ready()
    done = in_shell(copied(server, "--follow"), place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith('completed  {"success":true}')


def test_colours_are_for_terminals(serve) -> None:
    server = serve()
    server.ready()
    assert "\x1b" not in server.out + server.err


def test_logs_can_be_json(serve) -> None:
    server = serve(STEPFLOW_LOG_FORMAT="json")
    server.ready()
    server.stop()
    lines = [json.loads(line) for line in server.err.splitlines()]
    assert {"time", "level", "logger", "message"} <= lines[0].keys()


def test_the_api_can_live_below_a_path(serve, place) -> None:
    url = serve("flows.py", "--base-path", "api/stepflow/").ready()
    assert url.endswith("/api/stepflow")
    with api(place, url) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/runs").status_code == 200
        root = httpx.get(url.removesuffix("/api/stepflow") + "/health")
    assert (root.status_code, root.json()["code"]) == (404, "NOT_FOUND")


def test_no_auth_opens_the_door_on_loopback_alone(serve, place) -> None:
    url = serve("flows.py", "--no-auth").ready()
    assert httpx.get(f"{url}/runs").status_code == 200
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        assert httpx.post(f"{url}/trigger/gated", headers=headers).status_code == 403
    refused = run_cli("serve", "flows.py", "--no-auth", "--host", "0.0.0.0", cwd=place)  # noqa: S104
    assert refused.code == 64
    assert "stepflow keys create" in refused.err


def test_endpoints_can_be_left_out(serve, place) -> None:
    url = serve("flows.py", "--endpoints", "private").ready()
    with api(place, url) as client:
        assert client.post("/trigger/gated", json="a").status_code == 404
        assert client.get("/runs").status_code == 200


def test_a_memory_server_keeps_nothing(serve, place) -> None:
    server = serve("flows.py", "--data", ":memory:")
    url = server.ready()
    key = re.search(r"sf_\w+", server.out)
    assert key is not None
    assert httpx.get(f"{url}/runs", headers={"X-API-Key": key[0]}).status_code == 200
    assert httpx.get(f"{url}/runs").status_code == 401
    server.stop()
    assert [path.name for path in place.iterdir() if path.is_dir() and path.name[0] != "_"] == []


# ------------------------------------------------------------ starting and stopping


def test_while_the_directory_is_waited_for_the_port_answers_503(serve, place) -> None:
    first = serve()
    first.ready()
    second = serve()
    url = second.listening()
    second.says("waiting for the data directory")
    with api(place, url) as client:
        ready, runs = client.get("/ready"), client.get("/runs")
        assert client.get("/health").status_code == 200
    assert (ready.status_code, runs.status_code) == (503, 503)
    assert runs.json()["code"] == "UNAVAILABLE"
    assert "retry-after" in runs.headers
    first.stop()
    second.ready()
    with api(place, url) as client:
        assert client.get("/ready").status_code == 200
        assert client.get("/runs").status_code == 200


def test_a_server_that_waits_for_the_directory_can_be_stopped(serve, place) -> None:
    serve().ready()
    second = serve()
    second.says("waiting for the data directory")
    assert second.stop() == 0


def test_open_streams_end_cleanly_at_sigterm(serve, place) -> None:
    server = serve()
    url = server.ready()
    with api(place, url) as client:
        told = client.post("/trigger/gated", json="a").json()
        path = f"/runs/{told['runId']}/stream"
        streams = [client.stream("GET", path) for _ in range(3)]
        bodies = [stream.__enter__().iter_text() for stream in streams]
        for body in bodies:
            assert any("event: status" in text for text in body)
        server.signal(signal.SIGTERM)
        for body in bodies:
            list(body)  # an end that is not clean raises RemoteProtocolError
        for stream in streams:
            stream.__exit__(None, None, None)
    assert server.wait() == 0
    assert "Traceback" not in server.err
    assert told["publicAccessToken"] not in server.out + server.err


def damage(place: Path) -> None:
    segment = min((place / "stepflow-data").glob("wal-*.log"))
    data = bytearray(segment.read_bytes())
    data[200] ^= 0xFF
    segment.write_bytes(bytes(data))


def test_damage_ends_the_start_with_65_and_its_place(serve, place) -> None:
    server = serve()
    url = server.ready()
    with api(place, url) as client:
        for _ in range(3):
            client.post("/trigger/gated", json="a")
    server.stop()
    damage(place)
    again = serve()
    assert again.wait() == 65
    assert re.search(r"SFW2\d\d .*wal-0+1\.log", again.err)
    assert run_cli("verify", "stepflow-data", cwd=place).code == 65
    mended = run_cli("repair", "stepflow-data", "--yes", cwd=place)
    assert (mended.code, "broken/" in mended.out) == (0, True)
    serve().ready()


@pytest.mark.parametrize(
    ("words", "env", "code", "said"),
    [
        (["nowhere.py"], {}, 64, "there is no file"),
        (["nowhere"], {}, 64, "there is no module"),
        (["flows.py:flows"], {}, 64, "flows.py:flow"),
        (["empty.py"], {}, 64, "flow = Stepflow()"),
        (["broken.py"], {}, 70, "ZeroDivisionError"),
        (["flows.py"], {"STEPFLOW_THREADS": "many"}, 64, "STEPFLOW_THREADS"),
        (["flows.py"], {"STEPFLOW_LOG_FORMAT": "xml"}, 64, "console, json"),
        (["flows.py"], {"STEPFLOW_API_KEYS": "short"}, 64, "16 to 256"),
        (["flows.py"], {"STEPFLOW_JWT_SECRET": "short"}, 64, "STEPFLOW_JWT_SECRET"),
        (["flows.py", "--data", "flows.py/data"], {}, 74, "cannot make the data directory"),
        (["flows.py", "--port", "http"], {}, 2, "--port"),
    ],
)
def test_what_keeps_serve_from_starting_is_named(place, words, env, code, said) -> None:
    (place / "empty.py").write_text("")
    (place / "broken.py").write_text("1 / 0\n")
    done = run_cli("serve", *words, cwd=place, **env)
    assert done.code == code, done.err
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_directory_in_use_ends_the_start_with_75_and_the_pid(serve, place) -> None:
    first = serve()
    first.ready()
    second = serve(STEPFLOW_LOCK_WAIT_S="0")
    assert second.wait() == 75
    assert f"pid {first._process.pid}" in second.err


def test_a_taken_port_ends_the_start_with_69(serve, place) -> None:
    first = serve()
    first.ready()
    second = serve("flows.py", "--data", "other", port=first.port)
    assert second.wait() == 69
    assert "--port" in second.err


FAILING_DISK = """
from pathlib import Path

from stepflow.journal import disk

real = disk._fdatasync


def fdatasync(fd):
    if Path("broken-disk").exists():
        raise OSError(5, "Input/output error")
    real(fd)


disk._fdatasync = fdatasync
"""


def test_a_disk_that_fails_a_sync_ends_the_server_with_74(serve, place) -> None:
    (place / "flows.py").write_text(APP + FAILING_DISK)
    server = serve()
    url = server.ready()
    (place / "broken-disk").touch()
    try:
        with api(place, url) as client:
            answer = client.post("/trigger/gated", json="a")
    except httpx.ConnectError:
        # A sync of the next segment's has failed first, and the server has ended already.
        answer = None
    if answer is not None:
        # Where the sync that fails is one of the next segment's, nothing of the run was written.
        assert answer.status_code == 503
        assert answer.json()["code"] in {"OUTCOME_UNKNOWN", "UNAVAILABLE"}
    assert server.wait() == 74
    assert "CRITICAL" in server.err
    (place / "broken-disk").unlink()
    serve().ready()


def test_a_server_on_every_address_prints_commands_for_this_machine(serve, place) -> None:
    server = serve("flows.py", "--host", "0.0.0.0")  # noqa: S104
    url = server.ready()
    assert url.startswith("http://127.0.0.1:")
    assert f"URL        {url}" in server.out
    assert "0.0.0.0" in server.err  # noqa: S104


# ------------------------------------------------------------ following a run


def follow(place: Path, url: str, *words: str) -> Process:
    env = {"STEPFLOW_URL": url}
    return Process("trigger", *words, "--follow", cwd=place, env=env)


def test_a_followed_run_goes_on_through_kill_9(serve, place) -> None:
    server = serve()
    url, port = server.ready(), server.port
    following = follow(place, url, "gated", '"a"')
    following.says("waiting for event gate-a")
    server.kill()
    following.says("connection lost")
    server = serve(port=port)
    server.ready()
    following.says("connected again")
    assert run_cli("notify", "gate-a", '"go"', cwd=place, STEPFLOW_URL=url).code == 0
    assert following.wait() == 0, following.err
    assert following.out.count("completed before") == 1
    assert following.out.rstrip().endswith('completed  "go"')


def test_following_a_run_that_fails_ends_with_1_and_why(serve, place) -> None:
    url = serve().ready()
    following = follow(place, url, "failing")
    assert following.wait() == 1
    assert "NonRetryableError: the card was refused (step charge)" in following.out


def test_following_a_run_that_is_cancelled_ends_with_1(serve, place) -> None:
    url = serve().ready()
    following = follow(place, url, "gated", '"a"')
    following.says("waiting for event")
    run_id = following.out.split()[0]
    assert run_cli("runs", "cancel", run_id, cwd=place, STEPFLOW_URL=url).code == 0
    assert following.wait() == 1
    assert "cancelled" in following.out


def test_ctrl_c_leaves_the_run_running_and_says_how_to_come_back(serve, place) -> None:
    url = serve().ready()
    following = follow(place, url, "gated", '"a"')
    following.says("waiting for event")
    following.signal(signal.SIGINT)
    assert following.wait() == 130
    run_id = following.out.split()[0]
    assert f"stepflow runs watch {run_id}" in following.err
    assert "Traceback" not in following.err
    watching = Process("runs", "watch", run_id, cwd=place, env={"STEPFLOW_URL": url})
    watching.says("waiting for event")
    run_cli("notify", "gate-a", '"go"', "--run", run_id, cwd=place, STEPFLOW_URL=url)
    assert watching.wait() == 0


def test_all_runs_are_watched_as_they_come_and_go_over_a_restart(serve, place) -> None:
    server = serve()
    url = server.ready()
    how = {"cwd": place, "STEPFLOW_URL": url}
    watching = Process("runs", "watch", "--workflow", "gated", cwd=place, env={"STEPFLOW_URL": url})
    lines = Process("runs", "watch", "--json", cwd=place, env={"STEPFLOW_URL": url})
    run_id = run_cli("trigger", "gated", '"a"', **how).out.split()[0]
    watching.says(run_id)
    until(lambda: run_cli("trigger", "gated", '"b"', **how).code == 0 and lines.out)
    server.stop()
    watching.says("connection lost")
    serve(port=server.port).ready()
    watching.says("connected again")
    run_cli("notify", "gate-a", '"go"', "--run", run_id, **how)
    watching.says("completed")
    lines.says('"event":"complete"')
    for each in (watching, lines):
        each.signal(signal.SIGINT)
        assert each.wait() == 130
        assert "Traceback" not in each.err
    assert run_cli("runs", "watch", run_id, "--tag", "x", **how).code == 2


def test_in_a_terminal_the_steps_move(serve, place) -> None:
    url = serve().ready()
    main, side = pty.openpty()
    env = environment(STEPFLOW_URL=url, TERM="xterm-256color", COLUMNS="100", LINES="30")
    following = subprocess.Popen(
        doomed([*PROGRAM, "trigger", "gated", '"a"', "--follow"]), cwd=place, env=env, stdout=side
    )
    os.close(side)
    seen = b""
    while "send it: stepflow notify gate-a" not in seen.decode(errors="replace"):
        seen += os.read(main, 65536)
    run_cli("notify", "gate-a", '"go"', cwd=place, STEPFLOW_URL=url)
    while b"result" not in seen:
        seen += os.read(main, 65536)
    assert following.wait() == 0
    os.close(main)
    text = seen.decode(errors="replace")
    assert "\x1b[" in text
    assert "✓" in text


def test_following_as_json_gives_each_event_on_a_line(serve, place) -> None:
    url = serve().ready()
    done = run_cli("trigger", "failing", "--follow", "--json", cwd=place, STEPFLOW_URL=url)
    first, *events = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 1
    assert list(first) == ["runId"]
    assert [event["event"] for event in events][-2:] == ["step", "error"]
    ids = [event["id"] for event in events]
    assert ids == sorted(ids)


# ------------------------------------------------------------ commands of a client


def test_a_run_is_listed_shown_cancelled_and_purged(serve, place) -> None:
    url = serve().ready()

    def cli(*words: str):
        done = run_cli(*words, cwd=place, STEPFLOW_URL=url)
        assert done.code == 0, done.err
        return done.out

    run_id = cli("trigger", "gated", '"a"').strip()
    assert cli("trigger", "gated", '"a"', "--idempotency-key", "k", "--json") == cli(
        "trigger", "gated", '"a"', "--idempotency-key", "k", "--json"
    )
    assert run_id in cli("runs", "list", "--status", "running", "--workflow", "gated")
    assert len(json.loads(cli("runs", "list", "--limit", "1", "--json"))["runs"]) == 1
    assert "gate" in cli("runs", "show", run_id)
    assert json.loads(cli("runs", "show", run_id, "--json"))["id"] == run_id
    cli("runs", "cancel", run_id)
    until(lambda: json.loads(cli("runs", "show", run_id, "--json"))["status"] == "cancelled")
    cli("runs", "purge", run_id)
    assert run_cli("runs", "show", run_id, cwd=place, STEPFLOW_URL=url).code == 6


def test_a_token_reads_its_run_and_nothing_else(serve, place) -> None:
    url = serve().ready()
    run_id = run_cli("trigger", "gated", '"a"', cwd=place, STEPFLOW_URL=url).out.strip()
    token = run_cli("token", run_id, "--ttl", "5m", cwd=place, STEPFLOW_URL=url).out.strip()
    assert httpx.get(f"{url}/runs/{run_id}?token={token}").status_code == 200
    assert httpx.get(f"{url}/runs?token={token}").status_code == 403


@pytest.mark.parametrize(
    ("words", "env", "code", "said"),
    [
        (["trigger", "nothing"], {}, 6, "there are: gated, leap, failing"),
        (["trigger", "gated", "5"], {}, 2, "expected"),
        (["trigger", "gated", "{"], {}, 2, "is not JSON"),
        (["trigger", "gated", "@none.json"], {}, 2, "none.json"),
        (["notify", "nobody"], {}, 6, "Event not found"),
        (["runs", "show", "run_abcdefgh"], {}, 6, "stepflow runs list"),
        (["runs", "show", "nonsense"], {}, 6, "Run not found"),
        (["runs", "list"], {"STEPFLOW_API_KEY": "wrong-key-0123456789"}, 4, "STEPFLOW_API_KEY"),
        (["runs", "list"], {"STEPFLOW_URL": "http://127.0.0.1:1"}, 3, "stepflow serve"),
        (["runs", "list"], {"STEPFLOW_URL": "ftp://x"}, 64, "http://127.0.0.1:8000"),
    ],
)
def test_a_refused_command_says_the_next_move(serve, place, words, env, code, said) -> None:
    url = serve().ready()
    done = run_cli(*words, cwd=place, **{"STEPFLOW_URL": url} | env)
    assert done.code == code, done.err
    assert said in done.err
    assert "Traceback" not in done.err


def test_input_comes_from_a_file_or_the_standard_input(serve, place) -> None:
    url = serve().ready()
    (place / "name.json").write_text('"from a file"')
    for words, stdin in ((["@name.json"], None), (["-"], '"from a pipe"')):
        done = run_cli("trigger", "gated", *words, cwd=place, stdin=stdin, STEPFLOW_URL=url)
        shown = run_cli("runs", "show", done.out.strip(), cwd=place, STEPFLOW_URL=url)
        assert "from a" in shown.out


def test_a_key_is_good_within_a_second_and_refused_when_revoked(serve, place) -> None:
    url = serve().ready()
    made = run_cli("keys", "create", "ci", "--scope", "read", "--json", cwd=place)
    key = json.loads(made.out)

    def status() -> int:
        return httpx.get(f"{url}/runs", headers={"X-API-Key": key["key"]}).status_code

    until(lambda: status() == 200)
    post = httpx.post(f"{url}/trigger/failing", headers={"X-API-Key": key["key"]})
    assert post.status_code == 403
    listed = run_cli("keys", "list", cwd=place)
    assert "ci" in listed.out
    assert key["key"] not in listed.out
    assert run_cli("keys", "revoke", key["id"], cwd=place).code == 0
    until(lambda: status() == 401)


def test_a_served_directory_is_verified_dumped_and_backed_up(serve, place) -> None:
    url = serve().ready()
    run_id = run_cli("trigger", "gated", '"a"', cwd=place, STEPFLOW_URL=url).out.strip()
    assert run_cli("verify", "stepflow-data", cwd=place).code == 0
    dumped = run_cli("dump", "stepflow-data", cwd=place).out.splitlines()
    assert any(json.loads(line).get("r") == run_id for line in dumped)
    assert run_cli("backup", "stepflow-data", "copy", cwd=place).code == 0
    assert run_cli("backup", "stepflow-data", "copy", cwd=place).code == 64
    other = serve("flows.py", "--data", "copy").ready()
    with api(place, other) as client:
        assert client.get(f"/runs/{run_id}").status_code == 200
    refused = run_cli("repair", "stepflow-data", "--yes", cwd=place)
    assert refused.code == 75


# ------------------------------------------------------------ --reload


def test_a_changed_file_restarts_the_server_and_runs_survive(serve, place) -> None:
    pytest.importorskip("watchfiles")
    probe = serve()
    probe.ready()
    port = probe.port
    probe.stop()
    server = serve("flows.py", "--reload", port=port)
    url = server.ready()
    run_id = run_cli("trigger", "gated", '"a"', cwd=place, STEPFLOW_URL=url).out.strip()
    (place / "flows.py").write_text(APP.replace('"after", note, word', '"after", note, word + "!"'))
    server.says("flows.py changed")
    until(lambda: server.out.count("is ready") == 2, lambda: server.err)
    (place / "flows.py").write_text("def broken(")
    server.says("waiting for a change")
    (place / "flows.py").write_text(APP.replace('"after", note, word', '"after", note, word + "?"'))
    until(lambda: server.out.count("is ready") == 3, lambda: server.err)
    run_cli("notify", "gate-a", '"go"', cwd=place, STEPFLOW_URL=url)
    watched = run_cli("runs", "watch", run_id, cwd=place, STEPFLOW_URL=url)
    assert watched.out.rstrip().endswith('completed  "go?"')
    assert server.stop() == 0


# ------------------------------------------------------------ a new project


def test_a_new_project_runs_as_it_is(serve, place) -> None:
    assert run_cli("new", "hello", cwd=place).code == 0
    again = run_cli("new", "hello", cwd=place)
    assert (again.code, "not empty" in again.err) == (2, True)
    url = serve("hello/app.py").ready()
    following = follow(place, url, "hello", '{"name":"Ada"}')
    following.says("greet")
    run_cli("notify", "answer-Ada", '"Hi!"', cwd=place, STEPFLOW_URL=url)
    assert following.wait() == 0
    assert 'completed  "Hello, Ada! Hi!"' in following.out


def test_the_openapi_command_prints_the_committed_document(place) -> None:
    assert run_cli("openapi", cwd=place).out == (ROOT / "openapi.yaml").read_text()


def test_a_pipe_that_closes_early_is_no_error(serve, place) -> None:
    serve().ready()
    command = f"{' '.join(PROGRAM)} dump stepflow-data | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=place,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert os.path.exists(place / "stepflow-data")  # noqa: PTH110


def test_schedules_are_driven_from_the_command_line(place: Path, serve) -> None:
    url = serve().ready()
    how = {"cwd": place, "STEPFLOW_URL": url, "STEPFLOW_API_KEY": key_of(place)}
    listed = run_cli("schedules", "list", **how).out
    assert re.search(r"leap +leap +0 2 29 2 \* UTC +active +20\d\d-02-29T02:00", listed)
    assert run_cli("schedules", "pause", "leap", **how).out.startswith("leap  paused")
    assert run_cli("schedules", "resume", "leap", **how).out.startswith("leap  active")
    times = run_cli("schedules", "next", "leap", "-n", "2", **how).out.split()
    assert [text[4:] for text in times] == ["-02-29T02:00:00.000Z"] * 2
    run_id = run_cli("schedules", "trigger", "leap", **how).out.strip()
    assert "completed" in run_cli("runs", "watch", run_id, **how).out
    span = ("--from", "2020-01-01T00:00Z", "--to", "2021-01-01T00:00Z")
    dry = run_cli("schedules", "backfill", "leap", *span, "--dry-run", **how).out
    assert dry == "2020-02-29T02:00:00.000Z  (dry run)\n"
    assert "run_" in run_cli("schedules", "backfill", "leap", *span, **how).out
    assert "have their run already" in run_cli("schedules", "backfill", "leap", *span, **how).err
    nobody = run_cli("schedules", "pause", "leap-2", **how)
    assert "There is no schedule 'leap-2'" in nobody.err
    assert "next:  see what there is: stepflow schedules list" in nobody.err
    wrong = run_cli("schedules", "backfill", "leap", "--from", "now", "--to", "now", **how)
    assert wrong.code == 2
    assert "write it as" in wrong.err
    assert run_cli("schedules", "pause", "other", **how).code != 0
    delayed = run_cli("trigger", "failing", "--delay", "1h", **how).out.strip()
    assert "pending" in run_cli("runs", "show", delayed, **how).out


def test_a_run_is_paused_resumed_retried_forked_explained_and_audited(serve, place) -> None:
    url = serve().ready()
    how = {"cwd": place, "STEPFLOW_URL": url}

    def cli(*words: str) -> str:
        done = run_cli(*words, **how)
        assert done.code == 0, done.err
        return done.out

    run_id = cli("trigger", "gated", '"a"').strip()
    until(lambda: "gate-a" in cli("runs", "why", run_id))
    assert "nobody has sent it" in cli("runs", "why", run_id)
    (row,) = json.loads(cli("runs", "why", run_id, "--json"))["waitingFor"]
    assert (row["kind"], row["eventId"]) == ("event", "gate-a")
    assert cli("runs", "pause", run_id, "--reason", "look at it") == f"{run_id}  running, paused\n"
    assert "look at it" in cli("runs", "why", run_id)
    again = run_cli("runs", "retry", run_id, **how)
    assert (again.code, "Traceback" in again.err) == (1, False)
    assert "running" in cli("runs", "resume", run_id)

    fork = cli("runs", "fork", run_id, "--from", "gate", "--pin", 'gate="pinned"').strip()
    assert fork != run_id
    until(lambda: json.loads(cli("runs", "show", fork, "--json"))["status"] == "completed")
    assert json.loads(cli("runs", "show", fork, "--json"))["result"] == "pinned"
    other = json.loads(
        cli("runs", "fork", run_id, "--from", "before#1", "--input", '"b"', "--json")
    )["runId"]
    until(lambda: "gate-b" in cli("runs", "why", other))
    assert run_cli("runs", "fork", run_id, "--from", "nothing", **how).code == 2
    assert run_cli("runs", "fork", run_id, "--from", "gate", "--pin", "gate", **how).code == 2

    failing = cli("trigger", "failing").strip()
    until(lambda: json.loads(cli("runs", "show", failing, "--json"))["status"] == "failed")
    cli("runs", "retry", failing, "--reason", "the bank is back")
    until(lambda: json.loads(cli("runs", "show", failing, "--json"))["status"] == "failed")
    cli("runs", "cancel", other, "--force", "--reason", "enough")
    assert json.loads(cli("runs", "show", other, "--json"))["status"] == "cancelled"
    cli("runs", "purge", failing, "--reason", "asked for")
    told = [re.split(r"\s{2,}", line)[1:] for line in cli("runs", "audit", failing).splitlines()]
    key = told[0][1]
    assert key.startswith("key:")
    assert told == [["retry", key, "the bank is back"], ["purge", key, "asked for"]]
    acts = json.loads(cli("runs", "audit", run_id, "--json"))["audit"]
    assert [act["action"] for act in acts] == ["resume", "pause"]


def test_bulk_takes_runs_by_status_time_and_ids(serve, place) -> None:
    url = serve().ready()
    how = {"cwd": place, "STEPFLOW_URL": url}

    def bulk(*words: str, stdin: str | None = None) -> list[str]:
        done = run_cli("runs", "bulk", *words, stdin=stdin, **how)
        assert done.code == 0, done.err
        return done.out.splitlines()

    runs = [run_cli("trigger", "gated", f'"{n}"', **how).out.strip() for n in range(4)]
    views = [json.loads(run_cli("runs", "show", run, "--json", **how).out) for run in runs]
    newest, middle, oldest = [runs[3], runs[2]], views[1]["createdAt"], runs[0]
    assert bulk("pause", "--after", middle, "--dry-run") == [f"{r}  would pause" for r in newest]
    assert bulk("pause", "--before", middle, "--dry-run") == [f"{oldest}  would pause"]
    listed = run_cli("runs", "list", "--after", middle, "--json", **how).out
    assert [run["id"] for run in json.loads(listed)["runs"]] == newest

    assert bulk("pause", "--id", runs[0], "--id", runs[2]) == [
        f"{runs[2]}  pause",
        f"{runs[0]}  pause",
    ]
    (place / "ids.txt").write_text(f"{runs[1]}\n{runs[1]}\n")
    assert bulk("pause", "--id", "@ids.txt") == [f"{runs[1]}  pause"]
    assert bulk("resume", "--id", "-", stdin="\n".join(runs)) == [
        f"{run}  resume" for run in (runs[2], runs[1], runs[0])
    ]
    (report,) = bulk("cancel", "--status", "running", "--workflow", "gated", "--json")
    assert (json.loads(report)["matched"], json.loads(report)["nextCursor"]) == (4, None)
    for words, said in (
        ((), "needs a filter"),
        (("--after", "yesterday"), "write it as 2024-01-15T10:30Z"),
        (("--before", "2024-01-15"), "write it as 2024-01-15T10:30Z"),
        (("--id", "@none.txt"), "none.txt"),
        (("--id", "-"), "names no run"),
        (("--status", "odd"), "odd"),
    ):
        refused = run_cli("runs", "bulk", "cancel", *words, stdin="", **how)
        assert (refused.code, said in refused.err) == (2, True), refused.err
