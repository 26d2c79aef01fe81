"""OpRuns: a page of the list among 10 runs and among 10,000, and how long a cancelled container lives on.

Two api processes of this program's own, each in a namespace of its own, one with 10 OpRuns, the other with 10,000, are
asked in turn, so that what else the machine does falls on both alike. The runs are copies of one that the api made,
cancelled before they begin: no pod is made for them. A gate that is missed makes the exit code 1.

python3 bench/opruns.py        needs a running system (`make up`), and root for the containers; about five minutes
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import os
import platform
import signal
import sys
import time
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

import requests

from cluster import KUBECONFIG, Cluster, kubectl
from maze_crds.base import format_time
from maze_io.kube import Kube, runs_path
from oprun_http import EXAMPLE, FOREVER, OpRuns, await_process, held, marker, must, processes
from own_api import own_api, own_namespace

Json = dict[str, Any]
COUNTS = (10, 10_000)
ASKED = 400
"""Times that each kind of page is asked for."""
AT_ONCE = 32
SETTLE_SECONDS = 600
DELETE_SECONDS = 100
"""Longest wait for 10,000 runs to be gone, so that they disturb nobody after this."""
PAGE_GATE = 2.0
"""The page among many may take this many times what it takes among few, at the median and at p99."""
CANCELS = 7
CONTAINERS: dict[str, tuple[Json, float]] = {
    "ends when it is asked to": ({}, 2.0),
    "ignores SIGTERM": ({"stubborn": True}, 4.0),
}
"""Inputs of the example image, and the gate: seconds from the call to the end of the process, of the slowest. The kubelet
gives every container two seconds (minimumGracePeriodInSeconds), and looks at one that has just begun once a second."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended; what was made is deleted"))
    cluster = Cluster()
    try:
        cancels, pages = measure_cancels(cluster), measure_pages(cluster)
    finally:
        cluster.close()
    found = {"machine": machine(), "pages": pages, "cancels": cancels}
    print(json.dumps(found) if options.json else f"{table(pages)}\n\n{cancel_table(cancels)}\n\n{machine()}")
    missed = [f"page {row['page']}: {row['worst']:.1f} times" for row in pages if row["worst"] > PAGE_GATE]
    missed += [f"cancel, {row['container']}: {row['max_s']:.1f} s" for row in cancels if row["max_s"] > row["gate_s"]]
    if missed:
        sys.exit(f"over the gates: {'; '.join(missed)}")


def measure_pages(cluster: Cluster) -> list[Json]:
    """A row for each kind of page; times in milliseconds."""
    namespaces: list[str] = []
    try:
        return measure_in(cluster, namespaces)
    finally:
        say("deleting them")
        for namespace in namespaces:
            kubectl("wait", "--for=delete", f"namespace/{namespace}", f"--timeout={DELETE_SECONDS}s", check=False)


def measure_in(cluster: Cluster, namespaces: list[str]) -> list[Json]:
    """`namespaces`: those that it makes and begins to delete."""
    with ExitStack() as stack:
        urls: list[str] = []
        for count in COUNTS:
            namespace = stack.enter_context(own_namespace(cluster))
            namespaces.append(namespace)
            api = stack.enter_context(own_api(namespace, LOG_LEVEL="warning"))
            say(f"making {count} OpRuns")
            fill(namespace, api.url, count)
            urls.append(api.url)
        say("asking for pages")
        sessions = [stack.enter_context(requests.Session()) for _ in urls]
        whole = [walk(url) for url in urls]
        return [
            measure_page(sessions, urls, kind, [build_query(runs, kind) for runs in whole])
            for kind in ("newest", "state", "image", "created", "middle")
        ]


def fill(namespace: str, url: str, count: int) -> None:
    """Returns when the api shows `count` cancelled OpRuns, and the operator has seen to all of them."""
    made = must(requests.post(f"{url}/runs", json={"image": EXAMPLE, "inputs": {"n": 0}}, timeout=60), 201)
    must(requests.post(f"{url}/runs/{made['id']}/cancel", timeout=60))
    asyncio.run(copy_run(runs_path(namespace), made["id"], count - 1))
    deadline = time.monotonic() + SETTLE_SECONDS
    while (seen := sum(run["completed_at"] is not None for run in walk(url))) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{seen} of {count} runs are cancelled after {SETTLE_SECONDS} s")
        time.sleep(2)


async def copy_run(path: str, name: str, count: int) -> None:
    kube = await Kube.connect(KUBECONFIG, limit=AT_ONCE)
    try:
        first = await kube.get(f"{path}/{name}")
        begun = datetime.now(UTC)
        numbers = iter(range(1, count + 1))

        async def copy_some() -> None:
            for number in numbers:
                body = copy.deepcopy({key: first[key] for key in ("apiVersion", "kind", "spec")})
                body["metadata"] = {"name": str(uuid.uuid4()), "labels": first["metadata"].get("labels", {})}
                body["spec"]["inputs"] = {"n": number}
                body["spec"]["queuedTime"] = format_time(begun + timedelta(milliseconds=number))
                await kube.post(path, body)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(copy_some())
    finally:
        await kube.close()


def walk(url: str) -> list[Json]:
    """All runs of the list, page by page."""
    found: list[Json] = []
    with requests.Session() as session:
        while True:
            query = {"limit": 100, **({"starting_after": found[-1]["id"]} if found else {})}
            page = must(session.get(f"{url}/runs", params=query, timeout=60))
            found += page["data"]
            if not page["has_more"]:
                return found


def measure_page(sessions: list[requests.Session], urls: list[str], kind: str, queries: list[Json]) -> Json:
    """Each api in turn; one row."""
    times: list[list[float]] = [[] for _ in urls]
    for _ in range(ASKED):
        for session, url, query, taken in zip(sessions, urls, queries, times, strict=True):
            began = time.perf_counter()
            answer = session.get(f"{url}/runs", params=query, timeout=60)
            taken.append((time.perf_counter() - began) * 1000)
            assert answer.status_code == 200, answer.text
    (few_p50, few_p99), (many_p50, many_p99) = [(quantiles(one, n=100)[49], quantiles(one, n=100)[98]) for one in times]
    ratios = {"p50_ratio": many_p50 / few_p50, "p99_ratio": many_p99 / few_p99}
    row = {"page": kind, "few_p50": few_p50, "few_p99": few_p99, "many_p50": many_p50, "many_p99": many_p99}
    return {**row, **ratios, "worst": max(ratios.values())}


def build_query(runs: list[Json], kind: str) -> Json:
    """`runs`: all of them, newest first. Pages of one kind are as long among few runs as among many."""
    queries: dict[str, Json] = {
        "newest": {"limit": 10},
        "state": {"limit": 10, "state": "CANCELLED"},
        "image": {"limit": 10, "image": EXAMPLE},
        "created": {"limit": 10, "created[gte]": int(datetime.fromisoformat(runs[-1]["created_at"]).timestamp())},
        "middle": {"limit": 5, "starting_after": runs[len(runs) // 2 - 1]["id"]},
    }
    return queries[kind]


def measure_cancels(cluster: Cluster) -> list[Json]:
    """Containers of the deployed system that end when they are asked to, and ones that don't; times in seconds."""
    runs = OpRuns(cluster)
    try:
        return [measure_cancel(runs, container, *how) for container, how in CONTAINERS.items()]
    finally:
        runs.close()
        cluster.clean()


def measure_cancel(runs: OpRuns, container: str, inputs: Json, gate: float) -> Json:
    say(f"cancelling {CANCELS} runs whose container {container}")
    times = []
    for _ in range(CANCELS):
        text = marker()
        run_id = held(runs, {**FOREVER, **inputs, "marker": text})
        pids = await_process(text)
        began = time.perf_counter()
        must(runs.cancel(run_id))
        answered = time.perf_counter() - began
        while any(is_alive(pid) for pid in pids):
            time.sleep(0.005)
        times.append((answered, time.perf_counter() - began))
        assert not processes(text)
    ends = [end for _, end in times]
    answers = [answer for answer, _ in times]
    found = {"answer_s": median(answers), "median_s": median(ends), "max_s": max(ends)}
    return {"container": container, **found, "gate_s": gate}


def is_alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"on {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"
    )


def table(rows: list[Json]) -> str:
    few, many = COUNTS
    lines = [
        f"| page of the list | {few} p50 | p99 | {many} p50 | p99 | ratio p50 | p99 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = " | ".join(f"{row[key]:.1f} ms" for key in ("few_p50", "few_p99", "many_p50", "many_p99"))
        lines.append(f"| {row['page']} | {times} | {row['p50_ratio']:.2f} | {row['p99_ratio']:.2f} |")
    return "\n".join(lines)


def cancel_table(rows: list[Json]) -> str:
    lines = ["| cancelled container | answer | process gone, median | max | gate |", "|---|---|---|---|---|"]
    for row in rows:
        times = " | ".join(f"{row[key]:.2f} s" for key in ("answer_s", "median_s", "max_s", "gate_s"))
        lines.append(f"| {row['container']} | {times} |")
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
