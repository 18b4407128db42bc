"""The committed results: the documents say what they say, and no more."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks import compare, results, table
from benchmarks.catalog import BY_NAME, LONG, QUICK, SHORT
from benchmarks.report import ROOT
from benchmarks.rows import ROWS, Row, label, missing, spread_at


def spread(low, middle, high):
    return {"min": low, "median": middle, "max": high}


ROW = Row("in_process", "runs", "rate", "a loop", "loop", "ratio")
TAIL = Row("tail", "p99.9", "busy", "alone", "alone", "ratio", less_is_better=True)


def test_the_documents_have_the_figures_of_the_committed_results():
    assert table.stale(results.read()) == []


def test_each_block_of_results_stands_in_a_document():
    text = "".join(page.read_text(encoding="utf-8") for page in table.PAGES)
    assert set(re.findall("<!-- results: ([a-z-]+) -->", text)) == set(table.BLOCKS)


def test_every_script_of_the_catalogue_is_a_module_and_the_other_way_round():
    for name in BY_NAME:
        script = ROOT / "benchmarks" / name
        assert script.with_suffix(".py").exists() or (script / "__main__.py").exists(), name
    scripts = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if "--json" in path.read_text(encoding="utf-8") or "arguments(" in path.read_text("utf-8")
    }
    assert scripts - {"__main__", "report"} - {"results"} <= set(BY_NAME)


def test_short_and_long_are_all_but_the_soak():
    assert {*SHORT, *LONG, "soak"} == set(BY_NAME)
    assert set(QUICK) <= set(BY_NAME)


def test_every_row_is_of_a_script_of_the_catalogue():
    assert {row.script for row in ROWS} <= set(BY_NAME)


def test_the_page_names_every_script():
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert [name for name in BY_NAME if f"| `{name}`" not in page] == []


def test_each_result_says_where_it_was_taken_and_how_durable():
    for script, of in results.read()[results.FULL].items():
        assert {"machine", "versions", "commit", "durability"} <= set(of["taken"]), script


def test_a_row_whose_figure_is_missing_is_told():
    assert "runs_per_s_64" in missing("in_process", {"runs_per_s_1": spread(1, 2, 3)})


def test_what_another_engine_lacks_is_no_fault_of_the_script():
    assert missing("peers", {"contestants": {}}) == []
    assert any(row.script == "peers" for row in ROWS)


def test_figures_without_what_is_published_are_refused():
    with pytest.raises(ValueError, match="in_process gave no runs_per_s_1"):
        results.put({"figures": {}, "quick": {}}, "in_process", {})


def test_a_place_leads_into_lists_and_to_plain_numbers():
    assert spread_at({"a": {"b": [1.5, 2.5]}}, "a.b.-1") == spread(2.5, 2.5, 2.5)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (spread(5, 6, 7), "better"),
        (spread(0.1, 0.2, 0.3), "WORSE"),
        (spread(0.5, 0.6, 1.1), ""),
        (spread(2.9, 6, 7), ""),
    ],
)
def test_only_ranges_that_do_not_meet_are_marked(now, said):
    assert compare.verdict(ROW, spread(1, 2, 3), now) == said


def test_where_less_is_better_more_is_worse():
    assert compare.verdict(TAIL, spread(1, 2, 3), spread(5, 6, 7)) == "WORSE"
    assert compare.verdict(TAIL, spread(1, 2, 3), spread(0.1, 0.2, 0.3)) == "better"


def test_a_comparison_names_then_and_now():
    row = next(row for row in ROWS if row.ratio)
    then, now = ({row.script: {row.ratio: spread(*of)}} for of in ((1, 2, 3), (5, 6, 7)))
    head, line = compare.lines(then, now)
    assert "then" in head
    assert "2 (1–3)" in line
    assert "6 (5–7)" in line


def test_facts_of_the_script_stand_in_the_label():
    row = Row("fan_out", "to $subscribers of {them}", "x", "y", "y", "ratio")
    assert label(row, {"subscribers": 1000}) == "to 1,000 of {them}"


def test_what_the_old_results_lack_is_left_out_of_the_comparison():
    row = next(row for row in ROWS if row.ratio)
    assert len(list(compare.lines({row.script: {}}, {row.script: {row.ratio: 1.0}}))) == 1


def test_results_are_replaced_script_by_script(tmp_path):
    path = tmp_path / "results.json"
    kept = results.read(path)
    results.put(kept, "soak", {"commit": "abc", "stretches": []})
    results.write(kept, path)
    again = results.read(path)
    results.put(again, "instructions", {"calls_per_run_1": 1})
    results.write(again, path)
    found = json.loads(path.read_bytes())["figures"]
    assert set(found) == {"soak", "instructions"}
    assert found["soak"]["taken"]["commit"] == "abc"
    assert "commit" not in {name for name in found["soak"] if name != "taken"}


def test_a_soak_taken_elsewhere_is_put_in_by_one_command(tmp_path, monkeypatch):
    path, soak = tmp_path / "results.json", tmp_path / "soak.json"
    soak.write_text(json.dumps({"commit": "abc", "stretches": [], "flat": {}}), encoding="utf-8")
    monkeypatch.setattr(results, "RESULTS", path)
    monkeypatch.setattr("sys.argv", ["results", "soak", str(soak)])
    results.main()
    assert results.read(path)["figures"]["soak"]["taken"]["commit"] == "abc"


def test_what_is_beside_an_engine_that_is_not_installed_here_is_left_out_of_the_comparison() -> (
    None
):
    row = next(row for row in ROWS if row.optional and row.ratio and "." not in row.ratio)
    kept = {row.script: {row.ratio: spread(1, 2, 3)}}
    assert len(list(compare.lines(kept, {row.script: {}}))) == 1
    needed = next(row for row in ROWS if not row.optional and row.ratio and "." not in row.ratio)
    with pytest.raises(LookupError):
        list(compare.lines({needed.script: {needed.ratio: 1.0}}, {needed.script: {}}))
