"""Under a Run, the API server forgets what a watch wants to go on from, and takes a right away from the operator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from invariants import end_of, tasks_of
from kubernetes import client
from stage import Stage

from cluster import GROUP, Cluster, awaited, kubectl
from maze_cluster.layout import ETCD_PORT

Json = dict[str, Any]
OPERATOR = "system:serviceaccount:maze-system:maze-operator"
ROLE = "maze-operator"


def test_watch_expired(stage: Stage) -> None:
    """The operator stands still, Runs change, the API server starts anew, and etcd drops what was before."""
    name = stage.work()
    with stage.machine.silent("operator"):
        old = stage.cluster.get_run(name)["metadata"]["resourceVersion"]
        note = {"metadata": {"annotations": {"test/changed": "meanwhile"}}}
        stage.cluster.custom.patch_namespaced_custom_object(*GROUP, "maze", "runs", name, note)
        stage.machine.kill_component("kube-apiserver")
        compact(stage)
        stage.machine.revive("kube-apiserver")
        assert watched_since(old) == 410
    stage.recorder.open()
    stage.require_undisturbed(name)


def compact(stage: Stage) -> None:
    """To the newest revision, at once on disk, too."""
    pki = stage.machine.layout.pki
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(pki / "etcd-ca.crt")
        session.cert = (str(pki / "apiserver-etcd.crt"), str(pki / "apiserver-etcd.key"))

        def call(path: str, body: Json) -> Json:
            answer = session.post(f"https://127.0.0.1:{ETCD_PORT}/v3/{path}", json=body, timeout=20)
            assert answer.status_code == 200, answer.text
            found: Json = answer.json()
            return found

        revision = call("maintenance/status", {})["header"]["revision"]
        call("kv/compaction", {"revision": revision, "physical": True})


def watched_since(version: str) -> int:
    """The status code that a watch of Runs from this resourceVersion gets."""
    path = f"/apis/{'/'.join(GROUP)}/runs?watch=true&resourceVersion={version}&timeoutSeconds=2"
    said = kubectl("get", "--raw", path, check=False)
    first = json.loads(said.splitlines()[0]) if said.startswith("{") else {}
    code: int = first.get("object", {}).get("code", 200)
    return 410 if "Expired" in said or "too old" in said else code


def test_right_taken_away(stage: Stage) -> None:
    """No pod can be made meanwhile. Tasks that have one go on; those that need one wait, and say what the matter is."""
    name = stage.work()
    with without_create_pods(stage.cluster):
        late = stage.cluster.run({"name": "t", "container": {"image": "maze/runner", "command": ["true"]}})
        awaited(lambda: told(stage.cluster, late), lambda said: said["reason"] == "OperatorNotAllowed", 30)
        stage.let_some_end()
    run = end_of(stage.cluster, late)
    task = tasks_of(run)[0]
    assert (run["status"]["phase"], task["attempt"]) == ("Succeeded", 1), task
    stage.require(name)


def told(cluster: Cluster, name: str) -> Json:
    """What the only task of a Run says of itself."""
    task = next(iter(tasks_of(cluster.get_run(name))), {})
    return {"phase": task.get("phase"), "reason": task.get("reason"), "message": task.get("message")}


@contextmanager
def without_create_pods(cluster: Cluster) -> Iterator[None]:
    """The operator may not create pods for as long as the block lasts."""
    roles = client.RbacAuthorizationV1Api(cluster.core.api_client)
    rules = cluster.core.api_client.sanitize_for_serialization(roles.read_cluster_role(ROLE).rules)
    less = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb != "create"]} if "pods" in rule["resources"] else rule
        for rule in rules
    ]
    assert less != rules
    try:
        roles.patch_cluster_role(ROLE, {"rules": less})
        awaited(may_create, lambda may: not may, 20)
        yield
    finally:
        roles.patch_cluster_role(ROLE, {"rules": rules})
        awaited(may_create, lambda may: may, 20)


def may_create() -> bool:
    said = kubectl("auth", "can-i", "create", "pods", "-n", "maze", f"--as={OPERATOR}", check=False)
    return said.strip().splitlines()[-1] == "yes"
