"""Logs: one line an entry, and no secret in it."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest

from stepflow.auth.api_key import make_key
from stepflow.errors import ConfigurationError
from stepflow.log import configure_logging, redacted

if TYPE_CHECKING:
    from collections.abc import Iterator

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlLW9mLWFkYQ"
PAT = "pat_AQGPGEOSAaIRT0mGcnVuX3dlVHVzMTJ2MDNQZG1q"


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(kind: str, level: str = "info") -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    configure_logging(kind, level, stream)
    return logging.getLogger("stepflow.test"), stream


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"GET /runs/r/stream?token={PAT}&x=1", "GET /runs/r/stream?token=***&x=1"),
        (f"the token {PAT} here", "the token pat_*** here"),
        (f"Bearer {JWT}", "Bearer eyJ***"),
        ("a pattern and sf_short stay", "a pattern and sf_short stay"),
    ],
)
def test_secrets_are_taken_out(text, clean) -> None:
    assert redacted(text) == clean


def test_a_made_key_is_taken_out() -> None:
    key, _ = make_key()
    assert key[12:] not in redacted(f"key {key}!")


@pytest.mark.parametrize("kind", ["console", "json"])
def test_no_secret_is_logged_by_argument_extra_or_traceback(root, kind) -> None:
    log, stream = logged(kind)
    log.info("token %s", PAT)
    log.info("plain", extra={"url": f"/x?token={PAT}"})
    try:
        raise ValueError(PAT)
    except ValueError:
        log.exception("failed")
    assert PAT[10:] not in stream.getvalue()
    assert "ValueError" in stream.getvalue()


def test_json_is_one_object_a_line(root) -> None:
    log, stream = logged("json")
    log.warning("two\nlines %d", 1, extra={"run_id": "run_1"})
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry["message"] == "two\nlines 1"
    assert (entry["level"], entry["logger"], entry["run_id"]) == (
        "warning",
        "stepflow.test",
        "run_1",
    )
    assert entry["time"].endswith("Z")


def test_console_lines_carry_what_the_record_carries(root) -> None:
    log, stream = logged("console")
    log.info("begun", extra={"run_id": "run_1"})
    assert stream.getvalue().endswith("INFO     stepflow.test  begun run_id=run_1\n")
    assert "\x1b" not in stream.getvalue()


# What a caller could put into an id, a payload or an error: a line break of every kind, commands to
# a terminal (7-bit, 8-bit, and one that answers), a text that turns round, a lone surrogate.
HOSTILE = {
    "LF": "a\n10:30:00.123 CRITICAL stepflow  forged",
    "CR": "a\r10:30:00.123 CRITICAL stepflow  forged",
    "VT FF": "a\v\fforged",
    "NEL": "a\x85forged",
    "LS PS": "a\u2028\u2029forged",
    "ESC": "a\x1b[2J\x1b]0;forged\x07",
    "CSI in 8 bits": "a\x9b2J\x9d0;forged\x9c",
    "DEL BS NUL": "a\x7f\b\0forged",
    "bidi": "a\u202egnp.exe\u2066forged\u200f",
    "surrogate": "a\udc85forged",
}
FORBIDDEN = set("\v\f\r\x1b\x07\x7f\b\0\x85\x9b\x9c\x9d\u2028\u2029\u202e\u2066\u200f\udc85")


@pytest.mark.parametrize("kind", ["console", "json"])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_forges_a_line_or_commands_a_terminal(root, kind, name) -> None:
    log, stream = logged(kind)
    text = HOSTILE[name]
    log.info("said: %s", text, extra={"run_id": text})
    assert stream.getvalue().count("\n") == 1
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("failed")
    written = stream.getvalue()
    assert not FORBIDDEN & set(written)
    assert "forged" in written
    lines = written.splitlines()
    if kind == "json":
        assert [json.loads(line)["logger"] for line in lines] == ["stepflow.test"] * 2
        assert json.loads(lines[0])["run_id"] == text
    else:
        # Two entries begin at the margin, whatever the exception's own text was.
        assert sum(not line.startswith("    ") for line in lines) == 2


def test_the_level_is_kept(root) -> None:
    log, stream = logged("console", "ERROR")
    log.warning("not said")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("kind", "level"), [("xml", "info"), ("json", "loud")])
def test_a_bad_name_is_refused_with_the_choices(kind, level) -> None:
    with pytest.raises(ConfigurationError, match="is none of"):
        configure_logging(kind, level, io.StringIO())
