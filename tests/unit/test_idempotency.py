"""The table of idempotency keys against a plain model of it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stepflow.model.run import RunSummary
from stepflow.runtime.idempotency import IdempotencyKeys

TTL = 100


def summary(workflow: str, by: str, key: str, created_ms: int) -> RunSummary:
    return RunSummary(
        workflow=workflow,
        status="running",
        created_ms=created_ms,
        updated_ms=created_ms,
        lsn=1,
        tags=(),
        idem=key,
        by=by,
    )


_places = st.tuples(st.sampled_from("ab"), st.sampled_from(["", "ann"]), st.sampled_from("xyz"))
_acts = st.lists(
    st.one_of(
        st.tuples(st.just("trigger"), _places),
        st.tuples(st.just("pass"), st.integers(0, 60)),
        st.tuples(st.just("purge"), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(_acts)
def test_a_key_names_its_run_until_it_expires_or_the_run_is_purged(acts: list[Any]) -> None:
    keys = IdempotencyKeys(TTL)
    now = 0
    runs: list[tuple[RunSummary, str]] = []
    model: dict[tuple[str, str, str], tuple[str, int]] = {}
    for act, value in acts:
        if act == "pass":
            now += value
        elif act == "purge" and value < len(runs):
            row, run_id = runs[value]
            keys.remove(row, run_id)
            place = (row.workflow, row.by, row.idem)
            if model.get(place, ("", 0))[0] == run_id:
                del model[place]
        elif act == "trigger":
            known = model.get(value)
            expected = known[0] if known is not None and known[1] + TTL > now else None
            found = keys.find([value[0]], value[1], value[2], now)
            assert found == expected
            if found is None:
                run_id = f"run{len(runs)}"
                runs.append((summary(*value, now), run_id))
                keys.add(*runs[-1])
                model[value] = (run_id, now)


def test_a_run_without_a_key_has_no_row() -> None:
    keys = IdempotencyKeys(TTL)
    keys.add(summary("a", "", "", 0), "run")
    assert len(keys) == 0
    keys.remove(summary("a", "", "", 0), "run")


def test_what_has_expired_is_dropped_when_a_key_is_looked_for() -> None:
    keys = IdempotencyKeys(TTL)
    for number in range(50):
        keys.add(summary("a", "", f"k{number}", number), f"run{number}")
    assert keys.find(["a"], "", "k49", 120) == "run49"
    assert len(keys) == 29
    assert keys.find(["b", "a"], "", "k49", 120) == "run49"
