"""`vram_mb` is one GPU with at least so much memory. The node gets a GPU that only the scheduler believes in."""

from __future__ import annotations

from cluster import Cluster, awaited
from oprun_http import OpRuns
from place import GPU, gpus

MEMORY = 8192
"""MiB, on the node's label."""


def test_an_oprun_waits_for_a_gpu_with_enough_memory_and_says_so(runs: OpRuns, cluster: Cluster) -> None:
    with gpus(cluster, 1, MEMORY) as node:
        fits = runs.ended(runs.start(constraints={"vram_mb": MEMORY}))
        assert (fits["state"], fits["constraints"]["vram_mb"]) == ("COMPLETED", MEMORY)
        (pod,) = cluster.pods_of(fits["id"])
        assert pod.spec.containers[0].resources.limits == {GPU: "1"}

        run_id = runs.start(constraints={"vram_mb": MEMORY + 1})
        waiting = awaited(lambda: runs.get(run_id), lambda run: run["reason"] == "Unschedulable")
        assert waiting["state"] == "PENDING"
        assert "nodes are available" in waiting["message"], "the scheduler's own words"
        assert "affinity" in waiting["message"]
        (attempt,) = runs.attempts(run_id)
        assert (attempt["state"], attempt["reason"]) == ("PENDING", "Unschedulable")
        assert attempt["error_message"] == waiting["message"]
        node.label(2 * MEMORY)
        done = runs.ended(run_id)
        assert done["state"] == "COMPLETED"


def test_without_vram_no_gpu_is_asked_for(runs: OpRuns, cluster: Cluster) -> None:
    done = runs.ended(runs.start(constraints={"vram_mb": 0, "ram_mb": 64}))
    assert done["state"] == "COMPLETED"
    (pod,) = cluster.pods_of(done["id"])
    assert GPU not in pod.spec.containers[0].resources.limits
    assert pod.spec.affinity is None
