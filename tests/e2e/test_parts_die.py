"""Any part may die under a Run: the Run goes on when the part is back, and its readers miss nothing."""

from __future__ import annotations

from typing import Any

from cluster import Cluster, kubectl, python
from maze import MaClient, task

SLOW = "import time\ndef f(p):\n    time.sleep(0.5)\n    return {'data': 'x' * 200_000, 'n': p.get('n', 0) + 1}"


def chain(length: int) -> list[dict[str, Any]]:
    tasks = [python("t0", SLOW)]
    for n in range(1, length):
        inputs = {"n": {"from": f"t{n - 1}.output.n"}, "data": {"from": f"t{n - 1}.output.data"}}
        tasks.append(python(f"t{n}", SLOW, inputs=inputs))
    return tasks


def kill_pods_of(deployment: str) -> None:
    """Its processes get SIGKILL, and the Deployment makes new ones."""
    selector = f"app.kubernetes.io/name={deployment}"
    kubectl("delete", "pod", "-n", "maze-system", "-l", selector, "--grace-period=0", "--force")


def test_a_run_survives_the_death_of_the_object_store(cluster: Cluster) -> None:
    name = cluster.run(*chain(5))
    cluster.await_run(name, lambda run: run.get("status", {}).get("counts", {}).get("succeeded", 0) >= 2)
    kill_pods_of("maze-s3")
    status = cluster.ended(name)
    assert status["phase"] == "Succeeded", status
    assert status["counts"]["succeeded"] == 5


def test_a_reader_misses_nothing_when_the_api_dies() -> None:
    @task(inputs=["n"], outputs=["n"])
    def step(params: dict[str, Any]) -> dict[str, Any]:
        import time

        time.sleep(1)
        return {"n": int(params["n"]) + 1}

    workflow = MaClient("http://127.0.0.1:8000").create_workflow()
    last = workflow.add_task(step, inputs={"n": 0})
    for _ in range(3):
        last = workflow.add_task(step, inputs={"n": last.outputs["n"]})
    run_id = workflow.run()
    killed = False
    messages = []
    for message in workflow.events(run_id):
        messages.append(message)
        if message["type"] == "finish_task" and not killed:
            kill_pods_of("maze-api")
            killed = True
    assert [message["type"] for message in messages] == ["start_task", "finish_task"] * 4 + ["finish_workflow"]
    assert messages[-2]["data"]["result"] == {"n": 4}
