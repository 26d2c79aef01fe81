"""The benchmark of large and many Runs: what it makes, what it reads out of what it sees, and what its table says of that."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from scale import PARTS, write_parts
from scale_etcd import COUNTERS, Etcd, Objects, parse_etcd, spent
from scale_events import wrong_numbers
from scale_operator import _pod_uid
from scale_pods import build_fake_pod, spread
from scale_recovery import longest_silence
from scale_report import ROWS, Sizes, build_part, missed, read_parts, table
from scale_runs import CONTAINERS, SHAPES, containers
from seen import BenchError

from maze_cluster.kwok import FAKE, GPU_MEMORY_LABEL, GPU_MEMORY_MIB, build_config, build_node
from maze_cluster.layout import Layout
from maze_crds.graph import check_workflow
from maze_crds.workflow import Task, WorkflowSpec
from maze_operator.core.podspec import build_affinity
from maze_operator.core.values import Settings

LAYOUT = Layout(Path("/checkout"), Path("/cache"))
MACHINE = {
    "cores": 2,
    "memory_gib": 8,
    "kernel": "6",
    "python": "3.11",
    "load": [0, 0, 0],
    "time": "now",
    "commit": "c",
}
UID = "3b0d2f6e-9a53-4f6e-8a54-0b8a4b9a7c11"


def part(**measures: float) -> dict[str, Any]:
    """`a__b` is the measure a.b."""
    return build_part({key.replace("__", "."): value for key, value in measures.items()}, Sizes(), MACHINE)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [100, 101, 1000])
def test_a_large_run_is_a_valid_workflow(shape: str, count: int) -> None:
    spec = WorkflowSpec.model_validate({"tasks": SHAPES[shape](count, "image")})
    assert len(spec.tasks) == count
    assert not check_workflow(spec)


@pytest.mark.parametrize("shape", ["layers", "pods_layers"])
def test_each_task_of_a_layer_waits_for_three_of_the_layer_before(shape: str) -> None:
    made = {task["name"]: task["dependsOn"] for task in SHAPES[shape](100, "image")}
    assert [made[f"t{number}"] for number in (0, 9)] == [[], []]
    assert made["t10"] == ["t0", "t1", "t2"]
    assert made["t99"] == ["t80", "t81", "t89"]


def test_containers_are_flat_or_one_after_the_other() -> None:
    made = {
        shape: [task["dependsOn"] for task in CONTAINERS[shape](4, "image")] for shape in ("pods_flat", "pods_chain")
    }
    assert made == {"pods_flat": [[]] * 4, "pods_chain": [[], ["t0"], ["t1"], ["t2"]]}


def test_tasks_and_bare_pods_go_to_fake_nodes_by_the_same_rule() -> None:
    task = Task.model_validate(containers(1, "image")[0])
    assert task.resources is not None
    settings = Settings(default_image="image", report_url="http://operator")
    assert build_fake_pod("bare", "image")["spec"]["affinity"] == build_affinity(task.resources, settings)
    labels = build_node(0)["metadata"]["labels"]
    assert int(labels[GPU_MEMORY_LABEL]) == GPU_MEMORY_MIB


def test_a_fake_node_keeps_others_away_and_is_the_only_kind_that_is_played() -> None:
    node = build_node(3)
    assert [taint["effect"] for taint in node["spec"]["taints"]] == ["PreferNoSchedule"]
    assert node["status"]["allocatable"]["cpu"] == node["status"]["allocatable"]["memory"] == "0"
    config, *rest = [json.loads(text) for text in build_config(LAYOUT, 1.5).split("\n---\n")]
    assert config["options"]["manageAllNodes"] is False
    key, _, value = config["options"]["manageNodesWithAnnotationSelector"].partition("=")
    assert node["metadata"]["annotations"][key] == value == FAKE
    delays = {one["metadata"]["name"]: one["spec"]["delay"] for one in rest if "delay" in one["spec"]}
    assert delays == {"pod-end": {"durationMilliseconds": 1500}}


def test_bytes_that_come_at_rest_are_taken_off() -> None:
    text = "".join(
        f"# TYPE {name} counter\n{name} {value}\n" for name, value in zip(COUNTERS.values(), (1e3, 2e3, 5), strict=True)
    )
    before = parse_etcd(text, at=10.0)
    assert before == Etcd(10.0, 1000.0, 2000.0, 5.0)
    after, rest = Etcd(14.0, 1700.0, 3000.0, 10.0), Etcd(1.0, 100.0, 100.0, 1.0)
    assert spent(before, after, rest) == {"put": 300.0, "log": 600.0, "puts": 1.0}


def test_an_etcd_that_does_not_count_is_told() -> None:
    with pytest.raises(BenchError, match="does not count"):
        parse_etcd("etcd_disk_wal_write_bytes_total 5\n", 0.0)


def test_sizes_of_all_versions_and_of_the_largest() -> None:
    found = Objects()
    for name in ("a", "aaa", "aa"):
        found.take({"kind": "Run", "name": name})
    small = len('{"kind":"Run","name":"a"}')
    assert (found.put, found.versions, found.largest) == (3 * small + 3, 3, small + 2)


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        pytest.param([2, 3, 4, 5], 0, id="all"),
        pytest.param([2, 3, 5], 1, id="one is missing"),
        pytest.param([2, 3, 3, 4, 5], 1, id="one is there twice"),
        pytest.param([1, 2, 3, 4, 5, 6], 2, id="two that should not be there"),
        pytest.param([2, 4, 3, 5], 1, id="not in order"),
        pytest.param([], 4, id="none"),
    ],
)
def test_numbers_of_events(numbers: list[int], wrong: int) -> None:
    assert wrong_numbers(numbers, 4) == wrong


def test_the_silence_of_a_dead_operator_is_the_longest_time_in_which_no_task_begins() -> None:
    assert longest_silence([1.0, 9.9, 10.5, 17.5, 18.0], at=10.0) == 7.0
    assert longest_silence([1.0, 14.0, 15.0], at=10.0) == 4.0
    with pytest.raises(BenchError, match="take more"):
        longest_silence([1.0, 9.0], at=10.0)


@pytest.mark.parametrize(
    "groups",
    [
        f"5:cpuacct:/maze/kubepods/burstable/pod{UID}/{'c' * 64}\n",
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice/cri-x.scope\n",
    ],
)
def test_the_pod_of_a_process(groups: str) -> None:
    assert _pod_uid(groups) == UID
    assert _pod_uid("0::/init.scope\n") == ""


def test_the_table_has_ratios_goals_and_what_was_not_measured() -> None:
    run, bare = "pods__run__rate", "pods__bare__rate"
    parts = {"pods": part(**{run: 80.0, bare: 100.0}), "flat": part(flat__largest=512 * 1024.0, flat__replay_wrong=0.0)}
    text = table(parts, ["Not measured: chain: why"])
    first, largest, wrong = text.splitlines()[2:5]
    assert "1,000 container tasks" in first
    assert first.endswith("| 80.0/s | 100.0/s | 1,000 bare pods there | 0.80 | ≥ ratio 0.85 | NOT MET |")
    assert largest.endswith("| 512.0 KiB |  |  |  | ≤ 512.0 KiB | met |")
    assert wrong.endswith("| ≤ 0 | met |")
    assert text.endswith("Not measured: chain: why")
    assert missed(parts) == [first.split(" | ")[0].removeprefix("| ")]


def test_only_mazes_own_bytes_have_a_goal_where_each_task_has_a_pod() -> None:
    measured = {"put": 14_000.0, "own_put": 5_001.0}
    parts = {
        shape: part(**{f"{shape}__{key}": value for key, value in measured.items()})
        for shape in ("pods_flat", "pods_chain", "flat")
    }
    assert missed(parts) == [
        "10,000 container tasks, flat: of these, Maze's own objects",
        "10,000 tasks, flat: bytes put into etcd for a task",
    ]


def test_all_shapes_have_the_same_rows() -> None:
    assert len({tuple(row.key.removeprefix(shape) for row in ROWS[shape]) for shape in SHAPES}) == 1


def test_a_line_of_kubectl_must_stay_below_200_characters() -> None:
    assert not missed({"flat": part(flat__line=199.0)})
    assert missed({"flat": part(flat__line=200.0)})


def test_a_run_of_another_namespace_begins_within_two_seconds() -> None:
    measured = {"beside": 2.5, "alone": 1.0, "first_pod": 0.25, "waiting": 41.0}
    found = part(**{f"fair_namespaces__{key}": value for key, value in measured.items()})
    late, first_pod, waiting = table({"fair_namespaces": found}, []).splitlines()[2:5]
    assert late.endswith("| 2.50 s | 1.00 s | alone | 2.50 | ≤ 2.00 s | NOT MET |")
    assert first_pod.endswith("| 0.25 s |  |  |  |  |  |")
    assert "of the 50 Runs" in waiting
    assert waiting.endswith("| 41 |  |  |  |  |  |")


def test_noise_is_told_as_percent_of_the_middle() -> None:
    assert spread([92.0, 100.0, 108.0]) == pytest.approx(16.0)


def test_what_was_measured_is_in_the_file_after_each_part(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for parts in ({"pods": part()}, {"pods": part(), "many": part()}):
        write_parts(path, parts)
        assert json.loads(path.read_text()) == parts
    assert list(tmp_path.iterdir()) == [path]


def test_every_part_has_rows_and_every_row_belongs_to_its_part() -> None:
    assert PARTS.keys() == ROWS.keys()
    assert all(row.key.split(".")[0] == name for name, rows in ROWS.items() for row in rows)


def test_parts_are_chosen_by_name_or_group() -> None:
    assert read_parts("chain,flat") == ("flat", "chain")
    assert set(read_parts("kwok")) < set(ROWS)
    assert read_parts("fair_namespaces,pods_chain") == ("pods_chain", "fair_namespaces")
    with pytest.raises(argparse.ArgumentTypeError, match="nothing"):
        read_parts("flat,nothing")
