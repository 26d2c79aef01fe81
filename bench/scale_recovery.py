"""The operator dies, hangs, and grows, each time in the middle of a large Run.

Every task of it tells a pod of ours its name when it begins: who began when, and how often. The longest time in which none
begins, from when the operator is gone, is what a user has to wait.
"""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from floor import Place, Round
from scale_operator import is_ready, leader, memory, renew, sampled, settled, standby, until
from scale_runs import INLINE, LEAST_SECONDS, create_run, delete_runs, new_name, part_done, succeeded
from seen import ENDED, BenchError
from tasks import fan_out, task
from tasks import measure_run as measure_tasks

from cluster import stopped
from maze_crds.run import DesiredState
from maze_io.kube import KubeError, pods_path, resource_path, runs_path

LISTENER = """
import http.server, json, time
seen = []
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_POST(self):
        seen.append((self.path[1:], time.time()))
        self.send_response(204); self.end_headers()
    def do_GET(self):
        body = json.dumps(seen).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""
TOLD = """
import http.client, time
def f(p):
    c = http.client.HTTPConnection(p["host"], 8000, timeout=30)
    c.request("POST", "/" + p["name"])
    c.getresponse().read()
    time.sleep(p["seconds"])
    return {"n": 0}
"""
TASK_SECONDS = 0.02
SHARE = 0.2
"""Of the tasks that have succeeded when the operator is gone."""
HANG_SECONDS = 60.0
Json = dict[str, Any]
Began = Sequence[tuple[str, float]]
"""Name of the task and time, in the order in which they came."""


@asynccontextmanager
async def listener(place: Place) -> AsyncIterator[str]:
    """Name of a pod that notes what it is told."""
    name = f"scale-listener-{uuid.uuid4().hex[:6]}"
    container: Json = {"name": "c", "image": place.image, "command": ["python3", "-S", "-c", LISTENER]}
    container["readinessProbe"] = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}}
    await place.kube.post(pods_path(place.namespace), body)
    try:
        await until(lambda: _listens(place, name), "the listener is ready")
        yield name
    finally:
        await place.kube.delete(pods_path(place.namespace, name), {"gracePeriodSeconds": 0})


async def _listens(place: Place, name: str) -> bool:
    return is_ready(await place.kube.get(pods_path(place.namespace, name)))


async def heard(place: Place, name: str) -> Began:
    path = f"{resource_path('v1', 'pods', place.namespace, f'{name}:8000')}/proxy/"
    told: Began = json.loads(b"".join([chunk async for chunk in place.kube.stream(path)]))
    return told


async def measure_kill(place: Place, count: int, name: str) -> Round:
    """SIGKILL to the operator's process; the kubelet starts it again."""
    async with listener(place) as pod:
        run = await start(place, pod, count)
        try:
            at = time.time()
            os.kill(await leader(place.kube), signal.SIGKILL)
            found = await finish(place, run, pod, count, at, name)
        finally:
            await delete_runs(place, [run])
    await settled(place.kube)
    return found


async def measure_standby(place: Place, count: int, name: str) -> Round:
    """The operator hangs, so that its Lease is not renewed, and another one stands by. Later it goes on, and must see that."""
    async with listener(place) as pod, standby(place.kube):
        run = await start(place, pod, count)
        try:
            pid, at = await leader(place.kube), time.time()
            with stopped(pid):
                await until(lambda: _another(place, pid), "another operator leads", HANG_SECONDS)
                taken = time.time() - at
                await until(lambda: _begun(place, pod, at + taken), "a task begins", HANG_SECONDS)
            found = await finish(place, run, pod, count, at, name)
        finally:
            await delete_runs(place, [run])
    return found | {f"{name}.leads": taken}


async def _another(place: Place, pid: int) -> bool:
    try:
        return await leader(place.kube) != pid
    except (BenchError, KubeError):
        return False


async def _begun(place: Place, pod: str, at: float) -> bool:
    return any(moment > at for _, moment in await heard(place, pod))


async def start(place: Place, pod: str, count: int) -> str:
    """A Run of which a part has succeeded; its name."""
    await place.at_rest()
    address = (await place.kube.get(pods_path(place.namespace, pod)))["status"]["podIP"]
    run = new_name("recovery")
    made = []
    for number in range(count):
        one = task(f"t{number}", TOLD, ["n"], seconds=TASK_SECONDS)
        one["inputs"] |= {"host": {"value": address}, "name": {"value": f"t{number}"}}
        made.append(one)
    await create_run(place, run, made)
    await part_done(place, run, SHARE)
    return run


async def finish(place: Place, run: str, pod: str, count: int, at: float, name: str) -> Round:
    """When it has succeeded: what the tasks told."""
    await succeeded(place, run, count)
    told = await heard(place, pod)
    names = {one for one, _ in told}
    return {
        f"{name}.silence": longest_silence([moment for _, moment in told], at),
        f"{name}.repeated": float(len(told) - len(names)),
        f"{name}.missing": float(count - len(names)),
        f"{name}.live": float(count - sum(moment < at for _, moment in told)),
    }


def longest_silence(moments: Sequence[float], at: float) -> float:
    """The longest time between two of them, one after the other, of those that lasts beyond `at`.

    Raises:
        BenchError: none is after that.
    """
    later = [at, *sorted(moment for moment in moments if moment > at)]
    if len(later) == 1:
        raise BenchError("all tasks had begun when the operator was gone: take more")
    return max(following - one for one, following in pairwise(later))


def _total(place: Place, run: str) -> int:
    seen = place.seen.runs.get(run)
    total: int = seen.status.get("counts", {}).get("total", 0) if seen else 0
    return total


async def measure_memory(place: Place, count: int, name: str) -> Round:
    """Of an operator that has just had a small Run: bytes before, with so many live tasks that wait, and the most until they
    have ended; of the latter two, what comes to it for a thousand tasks.
    """
    await renew(place.kube)
    await measure_tasks(place, fan_out(INLINE), "warm")
    await place.at_rest()
    pid, run = await leader(place.kube), new_name("memory")
    before = memory(pid)
    try:
        await create_run(place, run, fan_out(count), desiredState=DesiredState.SUSPENDED)
        await place.seen.until(lambda: _total(place, run) == count, f"{run} is seen", LEAST_SECONDS)
        await place.writes.settled()
        waiting = memory(pid)
        await place.kube.patch(runs_path(place.namespace, run), {"spec": {"desiredState": DesiredState.RUNNING}})
        most = await sampled(pid, place, run, ENDED)
        await succeeded(place, run, count)
    finally:
        await delete_runs(place, [run])
    return {
        f"{name}.before": before,
        f"{name}.waiting": (waiting - before) / count * 1000,
        f"{name}.working": (most - before) / count * 1000,
        f"{name}.most": most,
    }
