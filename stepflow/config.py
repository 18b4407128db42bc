"""Every knob and every bound, once.

Each field's metadata says its unit, the environment variable that sets it, and what happens at the
edge. `Settings()` is the default; `Settings.from_env()` reads the environment.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MEMORY", "MIB", "Settings"]

MEMORY: Final = ":memory:"
"""`data_dir=MEMORY` keeps everything in memory, for tests."""

KIB: Final = 1024
MIB: Final = 1024 * 1024


def _knob(default: Any, unit: str, edge: str) -> Any:
    return field(default=default, metadata={"unit": unit, "edge": edge})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. Set `STEPFLOW_<FIELD>` (upper case) to change one from the environment."""

    # ------------------------------------------------------------ journal
    segment_bytes_first: int = _knob(1 * MIB, "bytes", "the first segment after a start")
    segment_bytes_max: int = _knob(64 * MIB, "bytes", "segments double up to this size")
    frame_bytes_max: int = _knob(1 * MIB, "bytes", "a group commit is closed at this size")
    room_reserve_bytes: int = _knob(1 * MIB, "bytes", "kept for cancels; else read-only, 503")
    reserve_file_bytes: int = _knob(8 * MIB, "bytes", "given up first when the disk is full")
    free_bytes_min: int = _knob(64 * MIB, "bytes", "with less free disk only made segments count")
    lazy_delay_s: float = _knob(0.005, "seconds", "a lazy record is written after this long")
    sync_slow_s: float = _knob(1.0, "seconds", "a slower sync is logged as a warning")
    sync_stalled_s: float = _knob(
        30.0, "seconds", "a sync that hangs so long: read-only, not ready"
    )
    sync_dead_s: float = _knob(120.0, "seconds", "a sync that hangs so long has failed: exit 74")
    outcome_wait_s: float = _knob(30.0, "seconds", "then a caller gets OUTCOME_UNKNOWN")
    lock_wait_s: float = _knob(30.0, "seconds", "then DataDirLockedError, exit 75")
    snapshot_wal_bytes: int = _knob(64 * MIB, "bytes", "journal since the last snapshot; then one")
    snapshot_interval_s: float = _knob(900.0, "seconds", "a snapshot at least so often")
    snapshot_slice_runs: int = _knob(200, "runs", "encoded in one turn of the loop")

    # ------------------------------------------------------------ values
    input_bytes_max: int = _knob(1 * MIB, "bytes", "413 PAYLOAD_TOO_LARGE")
    result_bytes_max: int = _knob(1 * MIB, "bytes", "the step fails and says so")
    event_bytes_max: int = _knob(1 * MIB, "bytes", "413 PAYLOAD_TOO_LARGE")
    run_bytes_max: int = _knob(64 * MIB, "bytes", "the step fails and says so")
    run_emits_max: int = _knob(100_000, "events", "a run emits so many; then AuthoringError")
    run_emit_bytes_max: int = _knob(32 * MIB, "bytes", "a run emits so much; then AuthoringError")
    json_depth_max: int = _knob(64, "levels", "400 INVALID_INPUT")
    traceback_bytes_max: int = _knob(16 * KIB, "bytes", "cut in the middle")
    batch_max: int = _knob(1000, "inputs", "400 INVALID_INPUT")
    batch_bytes_max: int = _knob(16 * MIB, "bytes", "413 PAYLOAD_TOO_LARGE")

    # ------------------------------------------------------------ runtime
    threads: int = _knob(32, "threads", "sync steps wait for a free one")
    loop_blocked_s: float = _knob(2.0, "seconds", "code that holds the loop is named; 0: never")
    quiet_passes: int = _knob(8, "loop passes", "a run with no task stepped so long is quiet")
    plain_calls_max: int = _knob(1000, "calls", "more between two awaits: AuthoringError")
    drain_timeout_s: float = _knob(1.0, "seconds", "steps get so long to end at shutdown")
    cancel_grace_s: float = _knob(30.0, "seconds", "then a cancelled run is ended by force")
    passivate_after_s: float = _knob(5.0, "seconds", "a waiting run gives up its task")
    timers_per_second: int = _knob(10_000, "timers", "more due at once are fired later")
    wakes_per_second: int = _knob(10_000, "runs", "woken after a restart")
    clock_check_s: float = _knob(1.0, "seconds", "a jump of the wall clock is noticed so soon")
    kept_events_max: int = _knob(1000, "events", "a run keeps so many, then 429 RATE_LIMITED")
    kept_bytes_max: int = _knob(1 * MIB, "bytes", "a run keeps so much, then 429 RATE_LIMITED")
    notify_frame_waiters: int = _knob(100, "waiters", "more go into further frames")
    idempotency_ttl_s: float = _knob(86_400.0, "seconds", "then the key starts a new run")
    queue_runs_max: int = _knob(
        100_000, "runs", "wait for their turn under one key; then 429 RATE_LIMITED"
    )
    live_runs_max: int = _knob(1_000_000, "runs", "503 UNAVAILABLE")
    live_bytes_max: int = _knob(
        1024 * MIB, "bytes", "of records in live runs; then 503 UNAVAILABLE"
    )

    # ------------------------------------------------------------ retention
    finished_bytes_max: int = _knob(256 * MIB, "bytes", "the oldest finished runs are purged")
    finished_runs_max: int = _knob(1_000_000, "runs", "the oldest finished runs are purged")
    completed_age_s: float = _knob(7 * 86_400.0, "seconds", "then a completed run is purged")
    failed_age_s: float = _knob(30 * 86_400.0, "seconds", "then a failed or cancelled one is")

    # ------------------------------------------------------------ the code and the runs
    check_runs_max: int = _knob(
        10_000, "runs", "checked against the code after a start, the oldest; 0: none"
    )
    check_time_s: float = _knob(60.0, "seconds", "then that check ends with what it has found")

    audit_entries_max: int = _knob(10_000, "acts", "the oldest acts on runs are forgotten")
    audit_bytes_max: int = _knob(8 * MIB, "bytes", "the oldest acts on runs are forgotten")
    bulk_max: int = _knob(1000, "runs", "a bulk action takes so many a call, its cursor goes on")

    # ------------------------------------------------------------ HTTP
    header_bytes_max: int = _knob(32 * KIB, "bytes", "431")
    headers_max: int = _knob(100, "headers", "431")
    url_bytes_max: int = _knob(8 * KIB, "bytes", "414")
    header_deadline_s: float = _knob(10.0, "seconds", "408, closed")
    body_deadline_s: float = _knob(30.0, "seconds", "408, closed")
    authorization_bytes_max: int = _knob(8 * KIB, "bytes", "401")
    connections_max: int = _knob(12_000, "connections", "503 UNAVAILABLE, closed")
    connections_per_address_max: int = _knob(
        1000, "connections", "of one address but this machine's own: 429, closed"
    )
    send_buffer_bytes: int = _knob(64 * KIB, "bytes", "the kernel holds no more for a slow reader")
    linger_s: float = _knob(1.0, "seconds", "a refused connection may still read its answer")
    http_drain_s: int = _knob(5, "seconds", "open requests get so long at shutdown, then are cut")
    page_max: int = _knob(200, "runs", "a longer page is cut to this")
    page_bytes_max: int = _knob(8 * MIB, "bytes", "a page ends early, its cursor goes on")
    bodies_bytes_max: int = _knob(128 * MIB, "bytes", "of large bodies read at once; then 503")
    answers_bytes_max: int = _knob(256 * MIB, "bytes", "of large answers sent at once; then 503")
    page_default: int = _knob(50, "runs", "a page's length when none is asked for")
    stream_kept_events: int = _knob(
        50_000, "events", "of all runs are kept for /stream; an older cursor gets a resync"
    )
    stream_kept_bytes: int = _knob(
        64 * MIB, "bytes", "of them are kept at most; an older cursor gets a resync"
    )
    stream_slice_bytes: int = _knob(32 * KIB, "bytes", "of history are written in one go")
    stream_blocked_s: float = _knob(30.0, "seconds", "a subscriber blocked so long is closed")
    stream_comment_s: float = _knob(15.0, "seconds", "a comment line keeps proxies awake")
    stream_age_s: float = _knob(
        3600.0, "seconds", "a stream ends cleanly after about so long and is resumed; 0: never"
    )
    streams_max: int = _knob(11_000, "streams", "503 UNAVAILABLE")
    streams_per_run_max: int = _knob(5_000, "streams", "of one run's own: 429 RATE_LIMITED")
    streams_per_key_max: int = _knob(10_000, "streams", "of one credential: 429 RATE_LIMITED")
    stream_retry_ms: int = _knob(1000, "milliseconds", "a browser reconnects after this")
    token_ttl_s: float = _knob(86_400.0, "seconds", "a public access token's life")
    token_ttl_min_s: float = _knob(60.0, "seconds", "400 below")
    token_ttl_max_s: float = _knob(30 * 86_400.0, "seconds", "400 above")
    jwt_lifetime_max_s: float = _knob(86_400.0, "seconds", "401 for a longer exp - iat")
    jwt_leeway_s: float = _knob(30.0, "seconds", "clock difference allowed in a JWT")
    jwks_refresh_min_s: float = _knob(
        30.0, "seconds", "an unknown key id asks again at most so often"
    )
    jwks_age_s: float = _knob(600.0, "seconds", "then a key set is fetched again")
    jwks_timeout_s: float = _knob(5.0, "seconds", "a fetch of a key set is given up")
    jwks_bytes_max: int = _knob(256 * KIB, "bytes", "a bigger key set is refused")
    keys_check_s: float = _knob(0.5, "seconds", "a changed keys.json is noticed so soon")
    keys_max: int = _knob(1000, "keys", "in keys.json; revoke or remove some first")
    token_runs_max: int = _knob(100, "runs", "400 for a token that names more")
    session_ttl_s: float = _knob(
        43_200.0, "seconds", "a login ends; sooner where its credential does"
    )
    sessions_max: int = _knob(1000, "sessions", "the oldest of who has the most is ended")
    auth_failures_per_s: float = _knob(10.0, "failures", "a second and address, then 429")
    auth_failures_burst: int = _knob(20, "failures", "at once and address, then 429")
    auth_hosts_max: int = _knob(10_000, "addresses", "the least recent one is forgotten")

    # ------------------------------------------------------------ exported runs
    mask_names: str = _knob("", "names", "comma-separated: masked beside password, token and such")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Return the settings that `STEPFLOW_<FIELD>` variables and `overrides` give.

        Raises `ConfigurationError` for a value that is not a number or is negative.
        """
        env = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for knob in fields(cls):
            name = f"STEPFLOW_{knob.name.upper()}"
            text = env.get(name)
            if text is None:
                continue
            if isinstance(knob.default, str):
                values[knob.name] = text
                continue
            kind = int if isinstance(knob.default, int) else float
            try:
                value: float = kind(text)
            except ValueError:
                message = f"{name}={text!r} is not a number of {knob.metadata['unit']}"
                raise ConfigurationError(message) from None
            if value < 0:
                message = f"{name}={text!r} is negative"
                raise ConfigurationError(message)
            values[knob.name] = value
        return cls(**(values | overrides))
