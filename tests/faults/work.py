"""The Run that is under way when something is done to the cluster: tasks in shared pods, a chain, and a container.

A part of its tasks ends at once. The others come to the recorder's gate, so that the Run cannot end before the fault.
"""

from __future__ import annotations

from typing import Any

from recorder import Recorder

from cluster import Cluster, awaited, python
from test_runs import runner_image

Json = dict[str, Any]
SHORT = 24
FREE = 5
"""So many of the short tasks do not wait at the gate, and the first of the chain."""
ENDED = FREE + 1
SIZE = 100_000
"""Characters of each output: too many to travel with the result, so it is an object of its own."""
CHAIN = 4
PARALLEL = 8
TASKS = SHORT + CHAIN + 1
TELL = """
import http.client, json, os, time, uuid
def work(p):
    token = uuid.uuid4().hex
    def connected():
        until = time.monotonic() + 120
        while True:
            connection = http.client.HTTPConnection(p["address"], timeout=5)
            try:
                connection.connect()
                return connection
            except TimeoutError:
                if time.monotonic() > until:
                    raise
    def tell(what):
        connection = connected()
        connection.sock.settimeout(150)
        connection.request("POST", f"/{what}/{p['name']}/{token}/{time.time()}")
        connection.getresponse().read()
        connection.close()
    tell("start")
    if p["held"]:
        tell("gate")
    tell("end")
    print(p["name"], "has ended")
    return {"n": p.get("n", 0) + 1, "data": "x" * p["size"]}
"""
IN_CONTAINER = TELL + '\njson.dump(work(json.loads(os.environ["MAZE_INPUTS"])), open("/dev/termination-log", "w"))'


def start(cluster: Cluster, recorder: Recorder, **spec: Any) -> str:
    """Returns when ENDED tasks have ended and others wait at the gate, the container's among them; the Run's name."""
    name = cluster.run(*tasks(cluster, recorder), parallelism=PARALLEL, **spec)

    cluster.await_run(name, lambda run: succeeded(run) == ENDED, 60)
    awaited(recorder.waiting, lambda seen: "box" in seen and len(seen) >= 3, 60)
    return name


def succeeded(run: Json) -> int:
    """How many tasks of a Run are recorded as a success."""
    count: int = run.get("status", {}).get("counts", {}).get("succeeded", 0)
    return count


def tasks(cluster: Cluster, recorder: Recorder) -> list[Json]:
    made = [python(f"t{n}", TELL, inputs=_inputs(recorder, f"t{n}", n >= FREE)) for n in range(SHORT)]
    for n in range(CHAIN):
        inputs = _inputs(recorder, f"c{n}", n > 0)
        upstream = [f"c{n - 1}"] if n else []
        if n:
            inputs["n"] = {"from": f"c{n - 1}.output.n"}
        made.append(python(f"c{n}", TELL, inputs=inputs, dependsOn=upstream, priority=2))
    command = ["python3", "-c", IN_CONTAINER]
    box = {"name": "box", "container": {"image": runner_image(cluster), "command": command}, "priority": 1}
    return [*made, {**box, "inputs": {**_inputs(recorder, "box", True), "size": {"value": 0}}}]


def _inputs(recorder: Recorder, name: str, held: bool) -> Json:
    values = {"address": recorder.address, "name": name, "held": held, "size": SIZE}
    return {key: {"value": value} for key, value in values.items()}
