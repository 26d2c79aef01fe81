"""Where CPU time goes: who used it, and what the table makes of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from cpu import PARTS, Process, Snapshot, pods_file, program, spent
from cpu_report import TITLES, cpu_table

MORE = ("runners", "bench", "others", "rest")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (b"/usr/bin/kubelet\0--config=x\0", "kubelet"),
        (b"python3\0-m\0maze_operator\0", "maze_operator"),
        (b"/usr/bin/python3.11\0-S\0-m\0maze_runner\0", "maze_runner"),
        (b"python3\0-m", "python3"),
        (b"", ""),
    ],
)
def test_programs_are_known_by_their_command(command: bytes, name: str) -> None:
    assert program(command) == name


@pytest.mark.parametrize(
    ("groups", "file"),
    [
        pytest.param(
            "2:cpuacct:/maze/kubepods/burstable/pod1/c\n1:cpu:/maze/kubepods/burstable/pod1/c\n0::/maze/kubepods/pod1",
            "cpuacct/maze/kubepods/cpuacct.usage",
            id="cgroup v1 beside v2",
        ),
        pytest.param("4:cpu,cpuacct:/kubepods/pod1\n", "cpu,cpuacct/kubepods/cpuacct.usage", id="two controllers"),
        pytest.param(
            "0::/kubepods.slice/kubepods-burstable.slice/c", "kubepods.slice/cpu.stat", id="cgroup v2 with systemd"
        ),
        pytest.param("2:cpuacct:/\n0::/init.scope", "", id="in no pod"),
    ],
)
def test_the_cgroup_above_all_pods(groups: str, file: str) -> None:
    assert pods_file(groups) == file


def test_pods_that_are_gone_have_used_what_the_others_did_not() -> None:
    before = Snapshot(
        10.0,
        100.0,
        50.0,
        {
            ("1", "a"): Process("operator", 5.0, True),
            ("2", "a"): Process("control", 3.0, False),
            ("6", "a"): Process("others", 3.0, False),
            ("3", "a"): Process("", 1.0, False),
            ("4", "a"): Process("node", 7.0, False),
        },
    )
    after = Snapshot(
        14.0,
        107.5,
        54.0,
        {
            ("1", "a"): Process("operator", 6.0, True),
            ("3", "a"): Process("", 1.5, False),
            ("4", "b"): Process("node", 2.0, False),
            ("5", "a"): Process("store", 0.5, True),
            ("6", "a"): Process("others", 3.25, False),
        },
    )
    found = spent(before, after)
    assert (found["operator"], found["store"], found["runners"]) == (1.0, 0.5, 2.5)
    assert found["node"] == 2.0, "an id that is used again is another process"
    assert (found["all"], found["wall"]) == (7.5, 4.0)
    assert (found["others"], found["rest"]) == (0.25, 1.25)
    assert sum(found[part] for part in found if part not in ("all", "wall")) == found["all"]


def test_every_part_has_a_line() -> None:
    assert set(TITLES) == {*PARTS.values(), *MORE}


def test_the_table_says_how_far_it_is_from_what_the_cores_could_do() -> None:
    parts = {f"tiny.cpu.{part}": 0.001 for part in TITLES}
    measured = parts | {"tiny.cpu.all": 0.008, "tiny.cpu.wall": 0.005, "loop.rate": 361.4}
    results = {"machine": {"cores": 2}, "sizes": {"tiny": 1000}, "rounds": [measured]}
    text = cpu_table(results)
    assert "| the operator | 1.00 (12%) |" in text
    assert "| what 2 cores had in that time | 10.00 |" in text
    assert "8.00 ms of CPU for each task allow 250 tasks/s on 2 cores; it was 200/s" in text
    assert "busy for 80% of the time" in text
    assert "does 361/s" in text
    assert "with spare pods" not in text
    assert cpu_table({**results, "rounds": [{"tiny.rate": 3.0}]}) == ""
