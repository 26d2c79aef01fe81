"""How many requests that change something operator and api send to the API server: counted by the API server itself.

A FlowSchema of API Priority and Fairness says which requests are of one kind: by user, verb, resource and namespace. The API
server counts the requests of each (`apiserver_flowcontrol_dispatched_requests_total`). So for as long as a benchmark runs
there are FlowSchemas for the writes of their service accounts in the benchmark's namespace, with the same level of
priority that these requests have without them: what others do at the same time is not counted. Failed writes (conflicts)
are. With several API servers the number is that of the one that is asked.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from seen import BenchError

from maze_io.kube import Kube, KubeError, resource_path

API = "flowcontrol.apiserver.k8s.io/v1"
SUBJECTS = [
    {"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": "maze-system"}}
    for name in ("maze-operator", "maze-api")
]
VERBS = ["create", "update", "patch", "delete", "deletecollection"]
KINDS = {
    "pods": ([""], ["pods", "pods/resize", "pods/status", "pods/eviction", "pods/binding"]),
    "runs": (["maze.dev"], ["runs", "runs/status"]),
    "others": (["*"], ["*"]),
}
"""API groups and resources of each; the first one that matches counts."""
PRECEDENCE = 2000
"""After the API server's own machinery, before all other service accounts (9000)."""
COUNTER = re.compile(
    r'^apiserver_flowcontrol_dispatched_requests_total\{.*?flow_schema="([^"]+)".*?\} ([0-9.e+]+)$', re.MULTILINE
)
PAUSE = 0.5
SETTLE_SECONDS = 20
Json = dict[str, Any]
Counts = dict[str, float]
"""Kind -> writes so far."""


class Writes:
    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._path = resource_path(API, "flowschemas")

    async def now(self) -> Counts:
        text = b"".join([chunk async for chunk in self._kube.stream("/metrics")]).decode()
        return read_counts(text, {self._name(kind): kind for kind in KINDS})

    async def settled(self) -> Counts:
        """When no more come for half a second.

        Raises:
            BenchError: they come all the time.
        """
        before = await self.now()
        for _ in range(int(SETTLE_SECONDS / PAUSE)):
            await asyncio.sleep(PAUSE)
            after = await self.now()
            if after == before:
                return after
            before = after
        raise BenchError(f"there are writes into {self._namespace} all the time: {before}")

    async def start(self) -> None:
        for number, kind in enumerate(KINDS):
            try:
                await self._kube.post(self._path, build_schema(self._name(kind), self._namespace, kind, number))
            except KubeError as error:
                if not error.conflict:  # one that a benchmark left which was killed
                    raise

    async def stop(self) -> None:
        for kind in KINDS:
            with suppress(KubeError):
                await self._kube.delete(f"{self._path}/{self._name(kind)}")

    def _name(self, kind: str) -> str:
        return f"maze-bench-{self._namespace}-{kind}"


def build_schema(name: str, namespace: str, kind: str, number: int) -> Json:
    groups, resources = KINDS[kind]
    rule = {"verbs": VERBS, "apiGroups": groups, "resources": resources, "namespaces": [namespace]}
    return {
        "apiVersion": API,
        "kind": "FlowSchema",
        "metadata": {"name": name},
        "spec": {
            "priorityLevelConfiguration": {"name": "workload-low"},
            "matchingPrecedence": PRECEDENCE + number,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": SUBJECTS, "resourceRules": [rule]}],
        },
    }


def read_counts(metrics: str, kinds: dict[str, str]) -> Counts:
    """`metrics`: text of /metrics; `kinds`: name of a FlowSchema -> kind. One without requests yet is 0."""
    found = dict.fromkeys(kinds.values(), 0.0)
    for name, value in COUNTER.findall(metrics):
        if name in kinds:
            found[kinds[name]] += float(value)
    return found


@asynccontextmanager
async def counted(kube: Kube, namespace: str) -> AsyncIterator[Writes]:
    """Counts for as long as the block lasts; the first seconds may be missed."""
    made = Writes(kube, namespace)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
