"""Clusters that are shared: what a queue, a quota or a priority class does to the pods of a Run, and how users see it."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes import client

from cluster import Cluster, awaited, python, task_of
from place import Place, own_place

Json = dict[str, Any]
QUEUE = "kueue.x-k8s.io/queue-name"
GATE = "kueue.x-k8s.io/admission"
QUICK = python("t", "def f(p):\n    return {}")
CONTAINER = {"name": "t", "container": {"image": "maze/runner", "command": ["true"]}}
EITHER = pytest.mark.parametrize("task", [QUICK, CONTAINER], ids=["shared pod", "own pod"])


@pytest.fixture
def place() -> Iterator[Place]:
    with own_place() as made:
        yield made


def waits(place: Place, name: str, reason: str) -> Json:
    """The task, once it waits for this reason."""

    def is_seen(run: Json) -> bool:
        return any(task.get("reason") == reason for task in run.get("status", {}).get("tasks", ()))

    return task_of(place.await_run(name, is_seen)["status"], "t")


def certificate(folder: Path) -> tuple[Path, bytes]:
    """File with key and certificate of 127.0.0.1, and the certificate alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    path = folder / "webhook.pem"
    path.write_bytes(pem + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return path, pem


class Gates(BaseHTTPRequestHandler):
    """Does to a pod with a queue's name what Kueue's webhook does: nobody schedules it before it is admitted."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        patch = json.dumps([{"op": "add", "path": "/spec/schedulingGates", "value": [{"name": GATE}]}]).encode()
        response = {"uid": review["request"]["uid"], "allowed": True, "patchType": "JSONPatch"}
        review["response"] = {**response, "patch": base64.b64encode(patch).decode()}
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def gates_in(place: Place, folder: Path) -> Iterator[None]:
    path, authority = certificate(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gates)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    webhooks = client.AdmissionregistrationV1Api(place.custom.api_client)
    name = f"gates-{place.namespace}"
    hook = {
        "name": "gates.maze.dev",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {
            "url": f"https://127.0.0.1:{server.server_port}/",
            "caBundle": base64.b64encode(authority).decode(),
        },
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}},
        "objectSelector": {"matchExpressions": [{"key": QUEUE, "operator": "Exists"}]},
    }
    try:
        webhooks.create_mutating_webhook_configuration({"metadata": {"name": name}, "webhooks": [hook]})
        yield
    finally:
        webhooks.delete_mutating_webhook_configuration(name)
        server.shutdown()
        thread.join()
        server.server_close()


def in_queue(place: Place, task: Json, queue: str) -> str:
    name = "queued"
    spec = {"workflow": {"tasks": [task]}}
    metadata = {"name": name, "labels": {QUEUE: queue}}
    body = {"apiVersion": "maze.dev/v1alpha1", "kind": "Run", "metadata": metadata, "spec": spec}
    place.custom.create_namespaced_custom_object("maze.dev", "v1alpha1", place.namespace, "runs", body)
    return name


@EITHER
def test_pods_of_a_queued_run_wait_until_the_queue_admits_them(place: Place, task: Json, tmp_path: Path) -> None:
    with gates_in(place, tmp_path):

        def gated() -> bool:
            """The webhook takes a moment to be known."""
            pod = {
                "metadata": {"name": "x", "labels": {QUEUE: "q"}},
                "spec": {"containers": [{"name": "c", "image": "x"}]},
            }
            made = place.core.create_namespaced_pod(place.namespace, pod, dry_run="All")
            return bool(made.spec.scheduling_gates)

        awaited(gated, bool)
        name = in_queue(place, task, "team-a")
        waiting = waits(place, name, "SchedulingGated")
        assert GATE in waiting["message"]
        [pod] = place.pods_of(name)
        assert pod.metadata.labels[QUEUE] == "team-a"
    admit = [{"op": "remove", "path": "/spec/schedulingGates"}]
    place.core.patch_namespaced_pod(pod.metadata.name, place.namespace, admit)
    status = place.ended(name)
    assert status["phase"] == "Succeeded", status
    assert task_of(status, "t")["attempt"] == 1


@EITHER
def test_a_quota_is_waited_out_and_shown(place: Place, task: Json) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    place.core.create_namespaced_resource_quota(place.namespace, quota)
    awaited(lambda: place.core.read_namespaced_resource_quota("none", place.namespace).status.hard, bool)
    name = place.create_run({"workflow": {"tasks": [task]}})
    assert "exceeded quota: none" in waits(place, name, "QuotaExceeded")["message"]
    assert not place.pods_of(name)
    place.core.patch_namespaced_resource_quota("none", place.namespace, {"spec": {"hard": {"pods": "5"}}})
    status = place.ended(name)
    assert status["phase"] == "Succeeded", status
    assert task_of(status, "t")["attempt"] == 1


@pytest.fixture
def priority_class(cluster: Cluster) -> Iterator[str]:
    name = "maze-test-urgent"
    scheduling = client.SchedulingV1Api(cluster.custom.api_client)
    scheduling.create_priority_class({"metadata": {"name": name}, "value": 7, "preemptionPolicy": "Never"})
    yield name
    scheduling.delete_priority_class(name)


@EITHER
def test_a_runs_pods_have_the_priority_class_that_it_names(place: Place, priority_class: str, task: Json) -> None:
    name = place.create_run({"workflow": {"tasks": [task]}, "priorityClassName": priority_class})
    status = place.ended(name)
    assert status["phase"] == "Succeeded", status
    assert {(pod.spec.priority_class_name, pod.spec.priority) for pod in place.pods_of(name)} == {(priority_class, 7)}


@EITHER
def test_a_priority_class_that_there_is_not_fails_the_task_with_its_name(place: Place, task: Json) -> None:
    status = place.ended(place.create_run({"workflow": {"tasks": [task]}, "priorityClassName": "none-such"}))
    assert status["phase"] == "Failed"
    assert "none-such" in task_of(status, "t")["message"]


def test_every_waiting_task_says_why(place: Place) -> None:
    """In one Run: it depends on another one, the parallelism is used up, no node has room."""
    huge = python("huge", "def f(p):\n    return {}", resources={"cpu": "100"})
    later = python("later", "def f(p):\n    return {}")
    after = python("after", "def f(p):\n    return {}", dependsOn=["huge"])
    name = place.create_run({"workflow": {"tasks": [huge, later, after]}, "parallelism": 1})
    status = place.await_run(name, lambda run: said(run).get("huge") == "Unschedulable")["status"]
    reasons = {"huge": "Unschedulable", "later": "ParallelismLimit", "after": "WaitingForDependencies"}
    assert {task["name"]: task["reason"] for task in status["tasks"]} == reasons
    assert "Insufficient cpu" in task_of(status, "huge")["message"]


def said(run: Json) -> dict[str, str]:
    return {task["name"]: task.get("reason", "") for task in run.get("status", {}).get("tasks", ())}
