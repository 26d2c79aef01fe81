"""Which spare pods are kept, given up and claimed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import SETTINGS, run_view, shared_task, workflow
from maze_crds import names
from maze_operator.core import spares
from maze_operator.core.shapes import Shapes
from maze_operator.core.spares import Kind, Situation, Spare, Trouble, choose, decide, fits, make_kinds
from maze_operator.core.values import Shape, SpareKind

WITH = replace(SETTINGS, tools_image="tools")
PLAIN, SIZED = make_kinds(replace(WITH, spares=(SpareKind("maze", 1), SpareKind("maze", 2, cpu="1", memory="1Gi"))))
CALM = Situation(now=1000.0, full=1000.0)


def shape_of(priority: int = 0, **task: Any) -> Shape:
    spec = workflow(shared_task("t", **task))
    found = Shapes(spec, priority, WITH).of(spec.tasks[0], 1.0)
    assert found is not None
    return found


def spare(kind: Kind = SIZED, number: int = 1, **state: Any) -> Spare:
    """One that waits."""
    name = f"{kind.prefix}{number}"
    plain = Spare(namespace=kind.namespace, name=name, uid=name, base=kind.shape.base, resources=kind.shape.resources)
    return replace(plain, **{"ready": True, "heard": True, **state})


def starting(kind: Kind = SIZED, number: int = 1, **state: Any) -> Spare:
    return spare(kind, number, **{"ready": False, "heard": False, **state})


def decided(kinds: tuple[Kind, ...], *there: Spare, **situation: Any) -> tuple[list[Kind], list[Spare]]:
    found = decide(kinds, there, replace(CALM, **situation))
    return list(found.create), list(found.delete)


# what is kept


def test_as_many_as_the_settings_say_one_after_the_other() -> None:
    assert decided((PLAIN, SIZED)) == ([PLAIN, SIZED], [])
    assert decided((SIZED,), starting()) == ([], [])
    assert decided((SIZED,), spare()) == ([SIZED], [])
    assert decided((SIZED,), spare(), starting(number=2)) == ([], [])
    assert decided((SIZED,), spare(), spare(number=2)) == ([], [])
    assert decided((SIZED,), spare(), spare(number=2, taken=True)) == ([SIZED], [])


def test_none_of_a_count_of_zero() -> None:
    none = replace(SIZED, count=0)
    assert decided((none,), spare()) == ([], [spare()])


def test_too_many_are_given_up_and_those_that_wait_are_kept() -> None:
    late = starting(number=3)
    assert decided((SIZED,), late, spare(), spare(number=2)) == ([], [late])


@pytest.mark.parametrize(
    "useless",
    [
        spare(ended=True),
        starting(ended=True),
        starting(quiet=spares.START_SECONDS),
        spare(namespace="elsewhere"),
        spare(PLAIN, name="maze-spare-of-an-older-version"),
        spare(resources={"requests": {"cpu": "1", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}),
    ],
    ids=["ended", "failed", "silent", "namespace", "spec", "resized"],
)
def test_what_is_of_no_use_goes_and_another_one_comes(useless: Spare) -> None:
    assert decided((SIZED,), useless) == ([SIZED], [useless])


def test_one_that_is_being_deleted_is_counted_no_more() -> None:
    assert decided((SIZED,), spare(deleting=True), spare(number=2)) == ([SIZED], [])


def test_amounts_are_compared_not_how_they_are_written() -> None:
    resources = {"requests": {"cpu": "0.01", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    assert decided((SIZED,), spare(resources=resources), spare(number=2)) == ([], [])


# when


def test_no_spare_is_made_while_a_run_gets_its_pods() -> None:
    busy = replace(CALM, busy=CALM.now - 0.25)
    found = decide((SIZED,), (), busy)
    assert (found.create, found.again) == ((), 0.75)
    assert decide((SIZED,), (), replace(busy, now=CALM.now + 0.75)).create == (SIZED,)


def test_where_runs_always_get_pods_spares_are_made_after_a_while() -> None:
    assert decided((SIZED,), busy=1000.0, full=1000.0 - spares.PATIENCE) == ([SIZED], [])


@pytest.mark.parametrize("there", [(), (spare(), spare(PLAIN), starting(number=2))])
def test_all_are_given_up_while_a_run_lacks_room_and_for_a_while_after(there: tuple[Spare, ...]) -> None:
    assert decided((PLAIN, SIZED), *there, short=1000.0) == ([], list(there))
    assert decided((PLAIN, SIZED), *there, short=1000.1 - spares.RELIEF) == ([], list(there))
    assert decide((PLAIN,), (), replace(CALM, short=990.0)).again == spares.RELIEF - 10
    assert decided((PLAIN, SIZED), short=1000.0 - spares.RELIEF) == ([PLAIN, SIZED], [])


def test_one_that_is_being_claimed_is_not_given_up() -> None:
    assert decided((SIZED,), spare(taken=True), short=1000.0) == ([], [])


def test_after_failures_the_pauses_grow_up_to_five_minutes() -> None:
    trouble, pauses = Trouble(), []
    for _ in range(10):
        trouble = spares.after_failure(trouble, 1.0, 1000.0)
        pauses.append(trouble.until - 1000)
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    held = replace(CALM, trouble={spares.key_of(SIZED): trouble})
    assert decide((PLAIN, SIZED), (), held).create == (PLAIN,)
    assert decide((SIZED,), (), held).again == 300


def test_the_end_of_one_that_has_served_long_is_no_failure_of_the_kind() -> None:
    assert spares.after_failure(Trouble(7, 0.0), spares.LIVED, 1000.0) == Trouble(1, 1002.0)


@pytest.mark.parametrize(
    ("message", "lacks"),
    [
        ("0/1 nodes are available: 1 Insufficient cpu.", True),
        ("0/3 nodes are available: 1 Insufficient memory, 2 Insufficient nvidia.com/gpu.", True),
        ("0/1 nodes are available: 1 Too many pods.", True),
        ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", False),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {a: b}.", True),
        ("", True),
    ],
)
def test_spares_are_given_up_for_what_they_take(message: str, lacks: bool) -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    pod: dict[str, Any] = {"metadata": {}, "status": {"phase": "Pending", "conditions": [condition]}}
    assert spares.lacks_room(pod) is lacks
    assert not spares.lacks_room({**pod, "metadata": {"deletionTimestamp": "now"}})
    assert not spares.lacks_room({**pod, "status": {**pod["status"], "phase": "Failed"}})
    assert not spares.lacks_room({"metadata": {}, "status": {"phase": "Pending"}})


@pytest.mark.parametrize(
    ("status", "message", "never"),
    [
        (404, "the server could not find the requested resource", True),
        (404, 'pods "maze-spare-1" not found', False),
        (403, 'User "maze-operator" cannot patch resource "pods/resize" in API group ""', True),
        (403, 'pods "maze-spare-1" is forbidden: exceeded quota: q', False),
        (422, "Pod QOS Class may not change as a result of resizing", True),
        (409, "the object has been modified", False),
        (429, "slow down", False),
        (503, "later", False),
        (0, "can't be reached", False),
    ],
)
def test_what_a_refused_resize_says_of_all_pods(status: int, message: str, never: bool) -> None:
    assert spares.never_resizable(status, message, "maze-spare-1") is never


# which one a Run can have


@pytest.mark.parametrize(
    ("kind", "task", "exact", "resized"),
    [
        (PLAIN, {}, True, True),
        (PLAIN, {"resources": {"cpu": "2", "memory": "100M"}}, False, True),
        (SIZED, {"resources": {"cpu": "1000m", "memory": "1024Mi"}}, True, True),
        (SIZED, {"resources": {"cpu": "500m", "memory": "2Gi"}}, False, True),
        (SIZED, {"resources": {"cpu": "1"}}, False, False),
        (SIZED, {}, False, False),
        (PLAIN, {"resources": {"gpu": 1}}, False, False),
        (PLAIN, {"env": [{"name": "A", "value": "b"}]}, False, False),
        (PLAIN, {"python": {"source": "def f(p): pass", "image": "python:3.12"}}, False, False),
    ],
)
def test_which_tasks_a_spare_is_good_for(kind: Kind, task: dict[str, Any], exact: bool, resized: bool) -> None:
    assert fits(spare(kind), shape_of(**task), resizable=False) is exact
    assert fits(spare(kind), shape_of(**task), resizable=True) is resized


def test_a_run_of_another_priority_gets_none() -> None:
    classed = replace(WITH, priority_classes=((0, "normal"), (5, "high")), spares=(SpareKind("maze", 1),))
    (kind,) = make_kinds(classed)
    spec = workflow(shared_task("t"))
    for priority, fitting in ((0, True), (4, True), (5, False)):
        shape = Shapes(spec, priority, classed).of(spec.tasks[0], 1.0)
        assert shape is not None
        assert fits(spare(kind), shape, resizable=True) is fitting


def test_a_spare_of_the_tools_image_is_good_for_tool_tasks_alone() -> None:
    (kind,) = make_kinds(replace(WITH, spares=(SpareKind("maze", 1, image="tools"),)))
    spec = workflow({"name": "t", "tool": {"name": "add"}})
    shape = Shapes(spec, 0, WITH).of(spec.tasks[0], 1.0)
    assert shape is not None
    assert fits(spare(kind), shape, resizable=False)
    assert not fits(spare(kind), shape_of(), resizable=True)


def test_an_image_without_the_runner_can_not_be_kept() -> None:
    with pytest.raises(ValueError, match=r"'python:3.12'.*no runner.*: runner, tools"):
        make_kinds(replace(WITH, spares=(SpareKind("maze", 1, image="python:3.12"),)))


def test_the_same_size_is_chosen_first_then_the_one_that_others_can_use_least() -> None:
    plain, sized = spare(PLAIN), spare(SIZED)
    there = [plain, sized]
    assert choose(there, shape_of(), "maze", True) == [plain]
    assert choose(there, shape_of(resources={"cpu": "1", "memory": "1Gi"}), "maze", True) == [sized, plain]
    assert choose(there, shape_of(resources={"cpu": "2", "memory": "1Gi"}), "maze", True) == [sized, plain]
    assert choose(there, shape_of(resources={"cpu": "2"}), "maze", True) == [plain]
    assert choose(there, shape_of(resources={"cpu": "2"}), "maze", False) == []
    assert choose(there, shape_of(), "elsewhere", True) == []


@pytest.mark.parametrize("state", [{"ready": False}, {"taken": True}, {"ended": True}, {"deleting": True}])
def test_only_one_that_waits_can_be_had(state: dict[str, Any]) -> None:
    assert choose([spare(PLAIN, **state)], shape_of(), "maze", True) == []


# what is written


def test_a_spare_requests_next_to_nothing_and_never_more_than_its_limits() -> None:
    assert PLAIN.shape.resources == {"requests": {"cpu": "10m", "memory": "16777216"}}
    tiny = replace(WITH, spares=(SpareKind("maze", 1, cpu="5m", memory="8Mi"),))
    assert make_kinds(tiny)[0].shape.resources == {
        "limits": {"cpu": "5m", "memory": "8388608"},
        "requests": {"cpu": "5m", "memory": "4194304"},
    }


@pytest.mark.parametrize(
    ("kind", "wanted", "limits", "requests"),
    [
        (PLAIN, {}, None, {"cpu": "10m", "memory": "16777216"}),
        (PLAIN, {"cpu": "1"}, {"cpu": "1000m"}, {"cpu": "1000m", "memory": "16777216"}),
        (PLAIN, {"memory": "1Ki"}, {"memory": "1024"}, {"cpu": "10m", "memory": "1024"}),
        (
            SIZED,
            {"cpu": "2", "memory": "1Ki"},
            {"cpu": "2000m", "memory": "1024"},
            {"cpu": "2000m", "memory": "1023"},
        ),
    ],
)
def test_a_claimed_one_takes_the_size_of_its_tasks_and_stays_burstable(
    kind: Kind, wanted: dict[str, Any], limits: dict[str, str] | None, requests: dict[str, str]
) -> None:
    found = spares.target_resources(spare(kind), shape_of(resources=wanted))
    assert found == ({"limits": limits, "requests": requests} if limits else {"requests": requests})


def test_a_claim_makes_it_a_pod_of_the_run_and_keeps_what_others_have_written() -> None:
    labels = {names.LABEL_RUN_UID: "", names.LABEL_SPARE: "base", "team": "a"}
    pod = {"metadata": {"uid": "u", "labels": labels, "annotations": {"net": "b"}}}
    shape = shape_of()
    patch = spares.claim_patch(pod, run_view(workflow(shared_task("t"))), shape, resized=True)
    tests = {each["path"]: each["value"] for each in patch if each["op"] == "test"}
    writes = {each["path"]: each["value"] for each in patch if each["op"] != "test"}
    assert tests == {
        "/metadata/uid": "u",
        "/metadata/labels/maze.dev~1run-uid": "",
        "/metadata/deletionTimestamp": None,
    }
    assert writes["/metadata/labels"] == {
        names.LABEL_RUN: "r",
        names.LABEL_RUN_UID: "uid-1",
        names.LABEL_SHAPE: shape.key,
        "team": "a",
    }
    assert writes["/metadata/annotations"] == {"net": "b", names.ANNOTATION_RESIZED: "true"}
    assert [owner["uid"] for owner in writes["/metadata/ownerReferences"]] == ["uid-1"]


@pytest.mark.parametrize(
    ("resized", "condition", "failed"),
    [
        (True, {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}, True),
        (True, {"type": "PodResizePending", "status": "True", "reason": "Deferred"}, True),
        (True, {"type": "PodResizeInProgress", "status": "True", "reason": "Error"}, True),
        (True, {"type": "PodResizeInProgress", "status": "True"}, False),
        (True, {"type": "PodScheduled", "status": "True"}, False),
        (False, {"type": "PodResizePending", "status": "True", "reason": "Deferred"}, False),
    ],
)
def test_a_pod_that_does_not_get_its_size_is_noticed(resized: bool, condition: dict[str, str], failed: bool) -> None:
    annotations = {names.ANNOTATION_RESIZED: "true"} if resized else {}
    assert (
        spares.resize_failed({"metadata": {"annotations": annotations}, "status": {"conditions": [condition]}})
        is failed
    )


TARGET = {"limits": {"cpu": "500m"}, "requests": {"cpu": "50m", "memory": "16777216"}}
SMALL = {"cpu": "10m", "memory": "16Mi"}
LARGE = {"cpu": "50m", "memory": "16Mi"}


@pytest.mark.parametrize(
    ("allocated", "limits", "condition", "verdict"),
    [
        (SMALL, {"cpu": "1"}, None, None),
        (SMALL, {"cpu": "1"}, {"type": "PodResizePending", "status": "True", "reason": "Deferred"}, False),
        (SMALL, {"cpu": "1"}, {"type": "PodResizePending", "status": "False"}, None),
        (LARGE, {"cpu": "1"}, {"type": "PodResizeInProgress", "status": "True"}, True),
        (None, {"cpu": "1"}, {"type": "PodResizeInProgress", "status": "True"}, True),
        (LARGE, {"cpu": "1"}, {"type": "PodResizeInProgress", "status": "True", "reason": "Error"}, False),
        (LARGE, {"cpu": "1"}, None, True),
        (None, {"cpu": "0.5"}, None, True),
        (None, None, None, None),
    ],
)
def test_what_the_node_says_of_a_new_size(allocated: Any, limits: Any, condition: Any, verdict: bool | None) -> None:
    container = {"allocatedResources": allocated, "resources": {"limits": limits}}
    status = {"containerStatuses": [container], "conditions": [condition] if condition else []}
    assert spares.resize_verdict({"status": status}, TARGET) is verdict


def test_before_the_kubelet_has_said_anything_nothing_is_known() -> None:
    assert spares.resize_verdict({}, TARGET) is None


# always

ACTS = st.sampled_from(["claim", "claim", "ask", "fail", "short", "room", "wait", "wait"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(ACTS, st.integers(0, 5), st.sampled_from([0.5, 1.0, 40.0])), max_size=60))
def test_never_more_than_the_count_none_under_pressure_and_each_claimed_once(
    acts: list[tuple[str, int, float]],
) -> None:
    there: dict[str, Spare] = {}
    claimed: list[str] = []
    situation, short, made = CALM, False, 0
    for act, which, seconds in acts:
        situation = replace(situation, now=situation.now + seconds)
        found = list(there.values())
        one = found[which % len(found)] if found else None
        if act == "claim":
            wanted = shape_of(resources={"cpu": "1", "memory": "1Gi"})
            for chosen in choose(found, wanted, "maze", True)[:1]:
                claimed.append(chosen.uid)
                there[chosen.uid] = replace(chosen, taken=True)
                situation = replace(situation, busy=situation.now)
        elif act == "ask" and one:
            there[one.uid] = replace(one, ready=not one.ended, heard=True)
        elif act == "fail" and one:
            there[one.uid] = replace(one, ended=True, ready=False)
        elif act in ("short", "room"):
            short = act == "short"
        if short:
            situation = replace(situation, short=situation.now)
        decision = decide((PLAIN, SIZED), there.values(), situation)
        for gone in decision.delete:
            assert not gone.taken
            del there[gone.uid]
        for kind in decision.create:
            made += 1
            new = starting(kind, made)
            there[new.uid] = new
        free = [each for each in there.values() if not each.taken]
        for kind in (PLAIN, SIZED):
            own = [each for each in free if spares.belongs(each, kind)]
            assert len(own) <= kind.count
            assert sum(not each.heard for each in own) <= 1
        if short:
            assert free == []
    assert len(claimed) == len(set(claimed))
