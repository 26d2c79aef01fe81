"""Events of OpRuns reach the sink of the installation, also when it or the operator has been away. Restarts the operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
import requests
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from kubernetes import client

from cluster import Cluster, awaited, forwarded, kubectl
from maze_cluster.images import EXAMPLE_NAME
from own_api import CONTROL, own_api, own_namespace
from test_runs import runner_image

Json = dict[str, Any]
SECONDS = 180.0
"""How long anything here may take that takes a moment on an idle machine."""
OPERATOR = "maze-operator"
SINK_ENV = "MAZE_EVENT_SINK_URL"
ATTRIBUTES = {"tenant": "a", "Cost-Center": "7"}
TOPIC = 'orders "ü" 100%'

SINK = """
import http.server, json, threading
answer, asked, lock = [202], [], threading.Lock()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with lock:
            if self.path == "/events":
                code = answer[0]
                asked.append({"taken": code < 300, "headers": dict(self.headers), "body": body.decode()})
            else:
                code, answer[0] = 202, int(body)
        self.say(code, b"")
    def do_GET(self):
        with lock:
            body = json.dumps(asked).encode()
        self.say(200, body)
    def say(self, code, body):
        self.send_response(code); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""

CONTAINER = """
import json, os, urllib.request
def say(**event):
    headers = {"Authorization": "Bearer " + os.environ["MAZE_TOKEN"], "Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["MAZE_EVENTS_URL"], json.dumps(event).encode(), headers)
    urllib.request.urlopen(request, timeout=60).close()
say(type="PROGRESS", msg=50)
say(type="Own.Kind", msg="more", payload={"text": "ü" * 3000})
with open("/dev/termination-log", "w") as out:
    json.dump({"answer": 42}, out)
"""


class Sink:
    """A pod of the test's own that keeps what it is sent."""

    def __init__(self, inside: str, outside: str) -> None:
        self.url, self._outside = inside, outside

    def answer(self, status: int) -> None:
        requests.post(f"{self._outside}/answer", data=str(status), timeout=60).raise_for_status()

    def asked(self, run: str) -> list[tuple[Json, Json]]:
        """Attributes and data of what has come of a Run, taken or not."""
        return [(attributes, data) for _, attributes, data in self._all(run)]

    def taken(self, run: str) -> list[tuple[Json, Json]]:
        """In the order in which they came first: a repeat is no news."""
        found: dict[str, tuple[Json, Json]] = {}
        for taken, attributes, data in self._all(run):
            if taken:
                found.setdefault(attributes["id"], (attributes, data))
        return list(found.values())

    def ids(self, run: str) -> list[int]:
        return [data["event"]["id"] for _, data in self.taken(run)]

    def _all(self, run: str) -> list[tuple[bool, Json, Json]]:
        answer = requests.get(f"{self._outside}/", timeout=60)
        answer.raise_for_status()
        found = []
        for one in answer.json():
            event = from_http_event(HTTPMessage(one["headers"], one["body"].encode()))
            data = event.get_data()
            assert isinstance(data, dict)
            if event.get_subject() == run:
                found.append((one["taken"], dict(event.get_attributes()), data))
        return found


@pytest.fixture(scope="module")
def place() -> Iterator[Cluster]:
    """A namespace of this module's own."""
    with own_namespace() as namespace:
        made = Cluster(namespace)
        yield made
        made.close()


@pytest.fixture(scope="module")
def sink(place: Cluster) -> Iterator[Sink]:
    """One that the operator delivers to."""
    labels = {"app": "test-sink"}
    container = {"name": "c", "image": runner_image(place), "command": ["python3", "-c", SINK]}
    container["readinessProbe"] = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
    pod = {"metadata": {"name": "test-sink", "labels": labels}, "spec": {"containers": [container]}}
    ports = [{"port": 80, "targetPort": 8000}]
    service = {"metadata": {"name": "test-sink"}, "spec": {"selector": labels, "ports": ports}}
    place.core.create_namespaced_pod(place.namespace, pod)
    place.core.create_namespaced_service(place.namespace, service)
    kubectl("wait", "-n", place.namespace, "--for=condition=Ready", "pod/test-sink", "--timeout=100s")
    url = f"http://test-sink.{place.namespace}.svc.cluster.local/events"
    with forwarded("svc/test-sink", 80, place.namespace) as address, delivering_to(place, url):
        yield Sink(url, address)


@contextmanager
def delivering_to(cluster: Cluster, url: str) -> Iterator[None]:
    """The operator, started again with this sink; afterwards with the one that it had."""
    deployment = cluster.apps.read_namespaced_deployment(OPERATOR, CONTROL)
    env = deployment.spec.template.spec.containers[0].env
    before = next((entry.value or "" for entry in env if entry.name == SINK_ENV), "")
    try:
        set_sink(cluster, url)
        yield
    finally:
        set_sink(cluster, before)


def set_sink(cluster: Cluster, url: str) -> None:
    container = {"name": "operator", "env": [{"name": SINK_ENV, "value": url}]}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    cluster.apps.patch_namespaced_deployment(OPERATOR, CONTROL, patch)
    kubectl("rollout", "status", "-n", CONTROL, f"deployment/{OPERATOR}", "--timeout=100s")


def create(cluster: Cluster, script: str, **more: Any) -> str:
    """An OpRun whose events are delivered, as a user of kubectl makes one."""
    container = {"image": runner_image(cluster), "command": ["python3", "-c", script]}
    delivery = {"topic": TOPIC, "attributes": ATTRIBUTES}
    task = {"name": "op", "container": container}
    return cluster.create_run({"workflow": {"tasks": [task]}, "opRun": {"eventDelivery": delivery}, **more})


def await_delivered(cluster: Cluster, run: str) -> Json:
    """Until the Run has ended and all of its events are delivered; status.op."""

    def holds(found: Json) -> bool:
        op = found.get("status", {}).get("op", {})
        ended = op.get("state") in ("COMPLETED", "FAILED", "CANCELLED")
        return ended and op.get("delivered") == op["nextEvent"]

    found: Json = cluster.await_run(run, holds, SECONDS)["status"]["op"]
    return found


def await_problem(cluster: Cluster, run: str, part: str) -> Json:
    def holds(found: Json) -> bool:
        return part in found.get("status", {}).get("op", {}).get("deliveryProblem", "")

    return cluster.await_run(run, holds, SECONDS)


def test_without_a_sink_the_run_says_what_to_set_and_goes_on(place: Cluster) -> None:
    run = create(place, "pass")
    await_problem(place, run, f"set {SINK_ENV} on the operator")
    assert place.ended(run, SECONDS)["phase"] == "Succeeded"


def test_every_event_arrives_in_order_as_a_cloudevent(place: Cluster, sink: Sink) -> None:
    run = create(place, CONTAINER)
    op = await_delivered(place, run)
    assert op.get("deliveryProblem") is None
    uid = place.get_run(run)["metadata"]["uid"]
    taken = sink.taken(run)
    assert [data["event"]["type"] for _, data in taken] == ["STARTED", "PROGRESS", "Own.Kind", "COMPLETED"]
    assert sink.ids(run) == [0, 1, 2, 3]
    for number, (attributes, data) in enumerate(taken):
        event = data["event"]
        assert attributes == {
            "specversion": "1.0",
            "id": f"{uid}/{number}",
            "source": f"/runs/{run}",
            "type": f"dev.maze.oprun.{event['type'].lower()}",
            "subject": run,
            "time": datetime.fromisoformat(event["t"]),
            "datacontenttype": "application/json",
            "topic": TOPIC,
            "tenant": "a",
        }
        assert (data["run_id"], data["topic"], data["attributes"], data["attempt"]) == (run, TOPIC, ATTRIBUTES, 1)
    started, progress, own, completed = (data["event"] for _, data in taken)
    assert started["payload"]["worker_id"]
    assert (progress["msg"], progress["payload"]) == (50, {})
    assert (own["msg"], own["payload"]) == ("more", {"text": "ü" * 3000})
    assert (completed["state"], completed["payload"]) == ("COMPLETED", {"outputs": {"answer": 42}})


def test_what_a_sink_does_not_take_comes_when_it_does_also_from_the_next_operator(place: Cluster, sink: Sink) -> None:
    sink.answer(503)
    try:
        run = create(place, "raise SystemExit(3)")
        await_problem(place, run, "the sink answered 503")
        assert place.ended(run, SECONDS)["phase"] == "Failed", "a sink that refuses holds up no Run"
        kubectl(
            "delete", "pod", "-n", CONTROL, "-l", f"app.kubernetes.io/name={OPERATOR}", "--grace-period=0", "--force"
        )
        kubectl("rollout", "status", "-n", CONTROL, f"deployment/{OPERATOR}", "--timeout=100s")
        tries = len(sink.asked(run))
        awaited(lambda: len(sink.asked(run)), lambda seen: seen > tries, SECONDS)
        assert sink.taken(run) == []
    finally:
        sink.answer(202)
    op = await_delivered(place, run)
    assert op.get("deliveryProblem") is None
    assert [data["event"]["type"] for _, data in sink.taken(run)] == ["STARTED", "FAILED"]
    assert sink.ids(run) == [0, 1]


def test_an_ended_run_outlives_its_time_to_live_until_its_events_are_delivered(place: Cluster, sink: Sink) -> None:
    sink.answer(500)
    try:
        run = create(place, "pass", ttlSecondsAfterFinished=0)
        found = await_problem(place, run, "the sink answered 500")
        assert place.ended(run, SECONDS)["phase"] == "Succeeded"
        tries = len(sink.asked(run))
        awaited(lambda: len(sink.asked(run)), lambda seen: seen > tries, SECONDS)
        assert place.get_run(run)["metadata"]["uid"] == found["metadata"]["uid"]
    finally:
        sink.answer(202)
    awaited(lambda: exists(place, run), lambda there: not there, SECONDS)
    assert sink.ids(run) == [0, 1]


def test_the_sink_gets_the_timeline_that_the_api_shows(place: Cluster, sink: Sink) -> None:
    with own_api(place.namespace) as api:
        asked = {"image": EXAMPLE_NAME, "inputs": {"steps": 1, "seconds": 3600}}
        made = requests.post(f"{api.url}/runs", json={**asked, "event_delivery": {"topic": "t"}}, timeout=60)
        assert made.status_code == 201, made.text
        run = made.json()["id"]
        url = f"{api.url}/runs/{run}"
        posted = {"type": "Note", "msg": 7, "payload": {"by": ["us"]}}
        assert requests.post(f"{url}/events", json=posted, timeout=60).status_code == 200
        assert requests.post(f"{url}/cancel", timeout=60).status_code == 200
        await_delivered(place, run)
        shown = requests.get(f"{url}/events", timeout=60).json()["events"]
    assert [event["type"] for event in shown if event["type"] in ("Note", "CANCELLED")] == ["Note", "CANCELLED"]
    parts = ("id", "type", "msg", "payload")
    taken = [data["event"] for _, data in sink.taken(run)]
    assert [[event[part] for part in parts] for event in taken] == [[event[part] for part in parts] for event in shown]
    times = [[datetime.fromisoformat(event["t"]) for event in events] for events in (taken, shown)]
    assert times[0] == times[1]


def exists(cluster: Cluster, run: str) -> bool:
    try:
        cluster.get_run(run)
    except client.ApiException as error:
        if error.status != 404:
            raise
        return False
    return True
