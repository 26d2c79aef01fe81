"""One runner serves many attempts, one after the other: the real process against servers that this test plays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from maze_runner.build_pyz import build_archive
from runner_stage import Stage, source


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "runner.pyz").write_bytes(build_archive())
    with Stage(tmp_path) as found:
        yield found


def test_the_next_lease_is_in_the_answer_and_all_goes_over_one_connection(stage: Stage) -> None:
    stage.offer(source('return {"a": 0}'))
    stage.more = [
        stage.make(source('return {"a": params["n"]}'), task=f"t{n}", inputs={"n": {"value": n}}) for n in (1, 2)
    ]
    code, _, err = stage.run()
    assert code == 0, err
    assert [(each["task"], each["result"]["outputs"]["a"]["value"]) for each in stage.completed] == [
        ("count", 0),
        ("t1", 1),
        ("t2", 2),
    ]
    assert stage.count("/v1/lease") == 2, "a lease that was there was asked for"
    assert len(stage.connections) == 1
