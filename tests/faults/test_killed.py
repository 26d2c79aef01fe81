"""SIGKILL to any part of the cluster under a Run: when it is back the Run ends, and nothing ran twice or was lost."""

from __future__ import annotations

import pytest
from stage import Stage


def test_nothing_killed(stage: Stage) -> None:
    """What the others see without their fault."""
    name = stage.work()
    stage.recorder.open()
    stage.require_undisturbed(name)


def test_operator_killed(stage: Stage) -> None:
    name = stage.work()
    stage.machine.kill("operator")
    stage.recorder.open()
    stage.require_undisturbed(name)


def test_operator_killed_while_tasks_end(stage: Stage) -> None:
    name = stage.work()
    stage.recorder.open()
    stage.machine.kill("operator")
    stage.require_undisturbed(name)


def test_api_killed(stage: Stage) -> None:
    name = stage.work()
    stage.recorder.open()
    stage.machine.kill("api")
    stage.require_undisturbed(name)


def test_object_store_killed(stage: Stage) -> None:
    """What a task writes may be refused meanwhile, so it may be tried again."""
    name = stage.work()
    stage.recorder.open()
    stage.machine.kill("s3")
    stage.require_success(name)


@pytest.mark.parametrize("component", ["kube-apiserver", "kubelet", "containerd", "etcd"])
def test_component_killed(stage: Stage, component: str) -> None:
    """Tasks go on to their end meanwhile."""
    name = stage.work()
    stage.machine.kill_component(component)
    try:
        stage.let_some_end()
    finally:
        stage.machine.revive(component)
    stage.require_undisturbed(name)
