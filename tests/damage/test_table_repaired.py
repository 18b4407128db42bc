"""Every case of the table that names `stepflow repair` starts after it, with what can be saved."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from stepflow import Stepflow
from stepflow.cli.data import repair
from stepflow.engine.protocol import RunFilter
from stepflow.journal.disk import RealDisk
from stepflow.journal.verify import verify
from tests.damage import directories as on
from tests.damage.app import SETTINGS, register
from tests.damage.damage_kit import tree_of
from tests.damage.table import TABLE, Row

if TYPE_CHECKING:
    from pathlib import Path

    from tests.damage.directories import Directories

MENDABLE = [row for row in TABLE if row.exit_code == 65 and "stepflow repair" in row.says]
HOPELESS = [row for row in TABLE if row.exit_code == 65 and "stepflow repair" not in row.says]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Directories:
    return on.make(tmp_path_factory.mktemp("directories"))


def damaged(made: Directories, row: Row, place: Path) -> Path:
    data = place / "data"
    source: Path = getattr(made, row.of)
    shutil.copytree(source, data)
    row.damage(data)
    return data


async def serve(data: Path) -> dict[str, str]:
    """Start, let the waiting run end, run another; return how each run stands."""
    async with register(Stepflow(data, settings=SETTINGS)) as flow:
        await flow.notify("go", 1)
        assert (await flow.engine.wait(on.WAITING)).status == "completed"
        assert (await flow.engine.wait((await flow.trigger("adds", 1)).id)).status == "completed"
        page = await flow.engine.list_runs(RunFilter(), limit=1000, cursor=None)
        return {run.id: run.status for run in page.runs}


@pytest.mark.parametrize("row", MENDABLE, ids=str)
def test_a_repaired_directory_serves_what_could_be_saved(
    made: Directories, tmp_path: Path, row: Row
) -> None:
    data = damaged(made, row, tmp_path)
    before = tree_of(data)
    done = CliRunner().invoke(repair, [str(data), "--yes"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == "ok"
    assert "broken/" in done.output or "FORMAT" in done.output or "anew" in done.output
    contents = {content for content, _ in tree_of(data).values()}
    gone = [name for name, (content, _) in before.items() if content not in contents]
    assert gone == [], "a copy of every byte is left"
    # The two oldest runs are in every snapshot: they are never lost, nor their end.
    first = asyncio.run(serve(data))
    assert first[on.DONE] == "completed"
    assert asyncio.run(serve_again(data)) == first
    report = verify(RealDisk(data))
    assert report.exit_code == 0 or all("SFW107" in m for m in report.messages[1:])


async def serve_again(data: Path) -> dict[str, str]:
    async with register(Stepflow(data, settings=SETTINGS)) as flow:
        page = await flow.engine.list_runs(RunFilter(), limit=1000, cursor=None)
        return {run.id: run.status for run in page.runs}


@pytest.mark.parametrize("row", HOPELESS, ids=str)
def test_what_no_repair_can_mend_is_refused_by_it_too(
    made: Directories, tmp_path: Path, row: Row
) -> None:
    data = damaged(made, row, tmp_path)
    before = tree_of(data)
    done = CliRunner().invoke(repair, [str(data), "--yes"])
    after = tree_of(data)
    after.pop("LOCK", None)
    before.pop("LOCK", None)
    assert after == before
    if row.codes == ("SFW302",):
        # A record is the application's: the files are whole, so there is nothing to repair.
        assert done.output.splitlines()[-1] == "ok: nothing had to be done"
    else:
        assert done.exit_code == 65
        assert row.codes[0] in done.output
