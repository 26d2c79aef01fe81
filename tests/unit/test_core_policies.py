"""One table for each policy of the operator's core."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builders import SETTINGS, T0, container_task, pod, python_task, run_view, succeeded, workflow
from maze_crds import names
from maze_crds.inputs import check_inputs, fill_defaults
from maze_crds.protocol import Output, Result
from maze_crds.run import Cause, FailedAttempt
from maze_crds.workflow import Retry
from maze_operator.core.diagnosis import diagnose_ended
from maze_operator.core.outputs import (
    InputMissing,
    ResultLost,
    container_inputs,
    container_result,
    failed_result,
    lease_inputs,
)
from maze_operator.core.podspec import PodNotPossible, build_affinity, build_pod, build_resources
from maze_operator.core.podview import view_pod
from maze_operator.core.retry import memory_scale, retry_delay
from maze_operator.core.values import AttemptId, Ended, Settings, Waiting, Workflow
from maze_operator.election import may_take
from maze_operator.executor import escape_env
from maze_operator.tokens import make_token, token_fits


def attempts(*causes: Cause) -> list[FailedAttempt]:
    return [
        FailedAttempt(attempt=n, cause=cause, reason="R", completion_time=T0, end_event=n)
        for n, cause in enumerate(causes, start=1)
    ]


USER, NODE, MEMORY = Cause.USER_ERROR, Cause.INFRASTRUCTURE, Cause.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("policy", "earlier", "cause", "reason", "delay"),
    [
        (Retry(), [], USER, "UserException", None),
        (Retry(), [], NODE, "PodLost", 1),
        (Retry(), [NODE, NODE], NODE, "PodLost", 4),
        (Retry(), [NODE, NODE, NODE], NODE, "PodLost", None),
        (Retry(limit=1), [NODE, NODE, NODE], USER, "UserException", 1),
        (Retry(limit=1), [USER], NODE, "PodLost", 1),
        (Retry(limit=9), [], USER, "CodeNotLoadable", None),
        (Retry(limit=99, max_backoff_seconds=30), [USER] * 20, USER, "UserException", 30),
    ],
)
def test_every_cause_has_its_own_retries(
    policy: Retry, earlier: list[Cause], cause: Cause, reason: str, delay: float | None
) -> None:
    assert retry_delay(policy, attempts(*earlier), cause, reason) == delay


def test_memory_grows_with_every_death_by_memory_only() -> None:
    assert memory_scale(Retry(memory_factor=1.5), attempts(MEMORY, USER, MEMORY)) == 2.25


@pytest.mark.parametrize(
    ("ended", "cause", "reason"),
    [
        (None, NODE, "PodLost"),
        (Ended(False, "Evicted", "low on memory"), NODE, "Evicted"),
        (Ended(False, "OOMKilled", exit_code=137), MEMORY, "OOMKilled"),
        (Ended(False, "DeadlineExceeded"), Cause.TIMEOUT, "TimedOut"),
        (Ended(False, "Error", exit_code=3), USER, "Exited"),
        (Ended(False, "Error", exit_code=139), USER, "Killed"),
        (Ended(False, "StartError", "exec: no such file", 128), USER, "ContainerStartFailed"),
        (Ended(True, "Completed", exit_code=0), NODE, "NoResult"),
    ],
)
def test_every_end_of_a_pod_has_one_cause(ended: Ended | None, cause: Cause, reason: str) -> None:
    found = diagnose_ended(pod("t") if ended else None, ended)
    assert (found["cause"], found["reason"]) == (cause.value, reason)


def test_a_failed_container_shows_the_end_of_its_log() -> None:
    found = diagnose_ended(pod("t"), Ended(False, "Error", exit_code=1, termination_message="cannot open file"))
    assert "cannot open file" in found["message"]


@pytest.mark.parametrize(
    ("message", "declared", "outputs", "reason"),
    [
        ('{"a": 1}', [], {"a": 1}, None),
        ('{"a": 1, "b": 2}', ["a"], {"a": 1}, None),
        ("", [], {}, None),
        ("all done", [], {}, None),
        ("all done", ["a"], {}, "OutputNotJSON"),
        ('{"b": 1}', ["a"], {}, "MissingOutput"),
        ("[1]", ["a"], {}, "OutputNotJSON"),
    ],
)
def test_outputs_of_a_container(message: str, declared: list[str], outputs: dict[str, Any], reason: str | None) -> None:
    result = container_result(Ended(True, exit_code=0, termination_message=message), declared, "s", "c")
    assert {key: output["value"] for key, output in result["outputs"].items()} == outputs
    assert result.get("failure", {}).get("reason") == reason


UPSTREAM: dict[str, Result] = {
    "up": {
        **succeeded(),
        "outputs": {
            "small": Output(encoding="json", size=1, sha256="s", value=1),
            "pickled": Output(encoding="pickle", size=1, sha256="s", data="AA=="),
            "large": Output(encoding="json", size=10**6, sha256="s", key=True),
        },
    }
}


def leased(**inputs: Any) -> dict[str, Any]:
    task = workflow(python_task("t", inputs=inputs)).tasks[0]
    return dict(lease_inputs(task, {"n": 5}, UPSTREAM, "signed:{}".format, "{}/{}".format))


def test_inputs_reach_the_runner_by_the_shortest_way() -> None:
    assert leased(x={"value": {"from": "me"}}) == {"x": {"value": {"from": "me"}}}
    assert leased(x={"from": "input.n"}) == {"x": {"value": 5}}
    assert leased(x={"from": "up.output.small"}) == {"x": {"value": 1}}
    assert leased(x={"from": "up.output.pickled"})["x"]["stored"]["data"] == "AA=="
    assert leased(x={"from": "up.output.large"})["x"]["stored"]["url"] == "signed:up/large"


def test_an_output_that_was_not_returned_is_named_with_those_that_were() -> None:
    with pytest.raises(InputMissing, match=r"up\.output\.nope.*'small', 'pickled', 'large'"):
        leased(x={"from": "up.output.nope"})


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        (InputMissing("x"), "UserError", "MissingInput"),
        (ResultLost("up"), "Storage", "ResultLost"),
        (PodNotPossible("SharedGPUNotConfigured", "x"), "UserError", "SharedGPUNotConfigured"),
    ],
)
def test_what_can_not_start_fails_with_its_own_cause(
    error: InputMissing | ResultLost | PodNotPossible, cause: str, reason: str
) -> None:
    found = failed_result("now", error)["failure"]
    assert (found["cause"], found["reason"]) == (cause, reason)


def test_a_container_gets_no_pickles_but_a_clear_refusal() -> None:
    task = workflow(container_task("t", inputs={"x": {"from": "up.output.pickled"}})).tasks[0]
    with pytest.raises(InputMissing, match="plain JSON"):
        container_inputs(task, {}, UPSTREAM)


def test_inputs_of_a_run_are_checked_all_at_once_after_defaults() -> None:
    schema = {
        "type": "object",
        "required": ["url", "n"],
        "properties": {"url": {"type": "string"}, "n": {"type": "integer"}, "depth": {"default": 3}},
    }
    spec = workflow(python_task("t", inputs={"d": {"from": "input.depth"}}), inputSchema=schema)
    inputs = fill_defaults(spec, {"n": "five"})
    assert inputs == {"n": "five", "depth": 3}
    problems = " ".join(check_inputs(spec, inputs))
    assert "'url' is a required property" in problems
    assert "inputs.n: 'five' is not of type 'integer'" in problems


def test_an_input_that_nobody_gives_is_named() -> None:
    spec = workflow(python_task("t", inputs={"x": {"from": "input.k"}}))
    assert "input.k, which is not given" in check_inputs(spec, {})[0]


def made_pod(task: dict[str, Any], settings: Settings = SETTINGS, scale: float = 1.0) -> dict[str, Any]:
    spec = workflow(task)
    attempt = AttemptId(spec.tasks[0].name, 1)
    return build_pod(run_view(spec), Workflow.of(spec), attempt, scale, [{"name": "E", "value": "1"}], settings)


def test_what_a_task_asks_for_becomes_requests_and_limits() -> None:
    asked = {"cpu": "2", "memory": "100M", "gpu": 1, "gpuMemory": "4096M"}
    found = made_pod(python_task("t", resources=asked), Settings("r", "u", cpu_request_fraction=0.1), scale=2)
    resources = found["spec"]["containers"][0]["resources"]
    assert resources["limits"] == {"cpu": "2000m", "memory": "200000000", "nvidia.com/gpu": "1"}
    assert resources["requests"] == {"cpu": "200m", "memory": "200000000", "nvidia.com/gpu": "1"}
    assert '"Gt"' in json.dumps(found["spec"]["affinity"])
    assert '"3906"' in json.dumps(found["spec"]["affinity"])


def test_a_part_of_a_gpu_needs_a_shared_resource_in_the_settings() -> None:
    wanted = workflow(python_task("t", resources={"gpu": 0.5})).tasks[0].resources
    assert wanted is not None
    with pytest.raises(PodNotPossible, match="MAZE_SHARED_GPU_RESOURCE"):
        build_resources(wanted, 1, SETTINGS)
    shared = Settings("r", "u", shared_gpu_resource="nvidia.com/gpu.shared", shared_gpu_parts=4)
    assert build_resources(wanted, 1, shared)["limits"] == {"nvidia.com/gpu.shared": "2"}
    assert build_affinity(wanted, shared) is None


def test_runner_pods_are_restricted_and_have_no_credentials() -> None:
    spec = made_pod(python_task("t"))["spec"]
    security = spec["containers"][0]["securityContext"]
    assert security["runAsNonRoot"]
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False
    assert "MAZE_S3" not in json.dumps(spec)


def test_the_runner_is_delivered_to_images_that_do_not_bring_it() -> None:
    own = made_pod({"name": "t", "python": {"source": "x", "image": "python:3.12"}})["spec"]
    assert own["volumes"][-1]["configMap"]["name"] == SETTINGS.runner_config_map
    assert own["containers"][0]["command"][-1].startswith("/maze/")
    assert "configMap" not in json.dumps(made_pod(python_task("t")))


def test_a_pod_is_read_back_as_the_attempt_it_was_made_for() -> None:
    made = made_pod(container_task("My_Task"))
    made["metadata"]["uid"] = "u"
    made["status"] = {
        "phase": "Pending",
        "hostIP": "10.0.0.1",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"}],
        "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}],
    }
    view = view_pod(made)
    assert view is not None
    assert view.attempt_id == AttemptId("My_Task", 1)
    assert view.unschedulable == Waiting("Unschedulable", "no GPU")
    assert view.waiting == Waiting("ErrImagePull", "no such image")
    made["status"] = {
        "phase": "Failed",
        "containerStatuses": [{"state": {"terminated": {"exitCode": 2, "reason": "Error"}}}],
    }
    ended = view_pod(made)
    assert ended is not None
    assert ended.ended == Ended(False, "Error", "", 2, "")


def test_a_pod_that_kubernetes_ends_with_its_node_is_no_fault_of_its_program() -> None:
    """The pod collector marks the pods of a node that is gone as Failed before it deletes them."""
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
    made = {
        "metadata": {"name": "p", "uid": "u", "labels": {names.LABEL_TASK: "t", names.LABEL_ATTEMPT: "1"}},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Failed", "conditions": [condition], "containerStatuses": [{"state": {"running": {}}}]},
    }
    view = view_pod(made)
    assert view is not None
    found = diagnose_ended(view, view.ended)
    assert (found["cause"], found["reason"]) == ("Infrastructure", "DeletionByPodGC")
    condition["status"] = "False"
    view = view_pod(made)
    assert view is not None
    assert diagnose_ended(view, view.ended)["cause"] == "UserError"


def test_a_token_is_good_for_its_own_pod_only() -> None:
    key = b"k" * 32
    token = make_token(key, "maze", "p1")
    assert token_fits(key, "maze", "p1", f"Bearer {token}")
    assert not token_fits(key, "maze", "p2", f"Bearer {token}")
    assert not token_fits(key, "maze", "p1", token)
    assert not token_fits(key, "maze", "p1", "Bearer é")


@pytest.mark.parametrize(
    ("spec", "unchanged", "free"),
    [
        ({}, 0, True),
        ({"holderIdentity": "me", "renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 10}, 0, True),
        ({"holderIdentity": "other", "renewTime": "2025-12-31T23:59:40.000000Z", "leaseDurationSeconds": 10}, 9, False),
        ({"holderIdentity": "other", "renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 10}, 11, True),
    ],
)
def test_a_lease_is_taken_only_when_it_is_free_or_expired(spec: dict[str, Any], unchanged: float, free: bool) -> None:
    assert may_take(spec, "me", unchanged) is free


def test_dollars_in_inputs_are_not_expanded_by_kubernetes() -> None:
    assert escape_env('{"cmd": "$(HOME) $5"}') == '{"cmd": "$$(HOME) $$5"}'


def test_pod_names_carry_the_attempt() -> None:
    assert made_pod(python_task("t"))["metadata"]["name"] == names.pod_name("r", "uid-1", "t", 1)
