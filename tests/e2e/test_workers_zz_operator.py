"""The operator dies between claim and report: the worker's report is heard by the next one."""

from __future__ import annotations

from cluster import kubectl
from own_api import own_api, own_namespace
from worker_http import Client

OPERATOR = ("-n", "maze-system", "-l", "app.kubernetes.io/name=maze-operator")


def test_the_operator_may_die_between_claim_and_report() -> None:
    settings = {"NUM_INTERNAL_WORKERS": "0", "MAZE_WORKER_TIMEOUT_SECONDS": "600"}
    with own_namespace() as namespace, own_api(namespace, **settings) as api, Client(api.url) as client:
        client.register("steady", "steady-*", parallel=2)
        tasks = [client.create(f"steady-{n}") for n in range(2)]
        assert client.claimed("steady")["id"] == tasks[0]
        kubectl("delete", "pod", *OPERATOR, "--grace-period=0", "--force")
        assert client.claimed("steady")["id"] == tasks[1], "a claim needs no operator"
        for task in tasks:
            client.complete("steady", task, {"task": task})
            shown = client.task(task)
            assert (shown["status"], shown["worker_id"], shown["result"]) == ("completed", "steady", {"task": task})
            assert shown["attempt"] == 1
    kubectl("rollout", "status", "-n", "maze-system", "deployment/maze-operator", "--timeout=100s")
