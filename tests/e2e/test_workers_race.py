"""Fifty workers race for two hundred tasks: none is lost, none is given out twice, and every worker gets what it may."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import pytest

from own_api import own_api, own_namespace
from worker_http import Client, until

WORKERS, TASKS, LIMIT = 50, 200, 4
GLOBS = ["race-[a]-*", "race-b-*"]
"""Half of the workers each; together their limits are just enough for all tasks."""
Json = dict[str, Any]


@dataclass
class Racer:
    """A worker that claims until it gets no more."""

    name: str
    glob: str
    clients: Sequence[Client]
    got: list[Json] = field(default_factory=list)

    def run(self, ready: threading.Barrier) -> None:
        ready.wait()
        for turn in range(10000):
            task = self.clients[turn % len(self.clients)].claim(self.name)
            if task is not None:
                self.got.append(task)
            elif len(self.got) >= LIMIT:
                return
            else:  # what is left is being claimed by others, or is not theirs after all
                time.sleep(0.02)


@pytest.fixture(scope="module")
def urls() -> Iterator[list[str]]:
    """Two api processes that serve one namespace."""
    with (
        own_namespace() as namespace,
        own_api(namespace, NUM_INTERNAL_WORKERS="0") as first,
        own_api(namespace, NUM_INTERNAL_WORKERS="0") as second,
    ):
        yield [first.url, second.url]


def create(client: Client, prefix: str) -> dict[str, int]:
    """All tasks, half of them for each glob, of three priorities; with the place of each in the queue."""
    with ThreadPoolExecutor(8) as pool:
        kinds = [(f"race-{'ab'[n % 2]}-{prefix}", n % 3) for n in range(TASKS)]
        made = list(pool.map(lambda kind: (client.create(kind[0], priority=kind[1]), kind), kinds))
    priorities = {task: kind[1] for task, kind in made}
    tasks = [task for task in client.get("/tasks", limit=1000, status="pending") if task["id"] in priorities]
    assert len(tasks) == TASKS
    tasks.sort(key=lambda task: (-priorities[task["id"]], task["created_at"]))
    assert len({task["created_at"] for task in tasks}) == TASKS
    return {task["id"]: place for place, task in enumerate(tasks)}


def race(racers: Sequence[Racer]) -> None:
    ready = threading.Barrier(len(racers))
    with ThreadPoolExecutor(len(racers)) as pool:
        for done in [pool.submit(racer.run, ready) for racer in racers]:
            done.result(240)


@pytest.mark.parametrize("apis", [1, 2])
def test_every_task_is_claimed_once(urls: list[str], apis: int) -> None:
    clients = [Client(url) for url in urls]
    try:
        names = [f"racer-{n:02}" for n in range(WORKERS)]
        for n, name in enumerate(names):
            clients[0].register(name, GLOBS[n % 2], parallel=LIMIT)
        places = create(clients[0], f"through-{apis}")
        for client in clients:  # what came through one process is seen by the other one a moment later
            until(lambda shown=client: len(shown.get("/tasks", limit=1000, status="pending")) == TASKS, "all are seen")  # type: ignore[misc]
        for client in clients:
            until(lambda shown=client: len(shown.get("/workers")) == WORKERS, "all workers are seen")  # type: ignore[misc]
        own = [[Client(url) for url in urls[:apis]] for _ in names]
        racers = [Racer(name, GLOBS[n % 2], own[n]) for n, name in enumerate(names)]
        try:
            race(racers)
        finally:
            for client in (client for several in own for client in several):
                client.session.close()
        check(racers, places)
        if apis == 1:
            check_order(racers, places)
        assert all(clients[0].claim(name) is None for name in names), "more than max_parallel_tasks"
        finish(clients[0], racers)
    finally:
        for client in clients:
            client.session.close()


def check(racers: Sequence[Racer], places: dict[str, int]) -> None:
    claims = Counter(task["id"] for racer in racers for task in racer.got)
    assert claims == Counter(dict.fromkeys(places, 1))
    for racer in racers:
        assert len(racer.got) == LIMIT
        assert all(fnmatchcase(task["problem_id"], racer.glob) for task in racer.got)
        assert all(task["worker_id"] == racer.name for task in racer.got)


def check_order(racers: Sequence[Racer], places: dict[str, int]) -> None:
    """Within one process nobody gets an older or more urgent task after another one."""
    for racer in racers:
        order = [places[task["id"]] for task in racer.got]
        assert order == sorted(order), racer.name


def finish(client: Client, racers: Sequence[Racer]) -> None:
    """Every worker reports one of its tasks, all at once, and gives back the rest by leaving."""

    def report(racer: Racer) -> None:
        with Client(client.url) as own:
            own.complete(racer.name, racer.got[0]["id"], {"by": racer.name})
            shown = own.task(racer.got[0]["id"])
            assert (shown["status"], shown["worker_id"], shown["result"]) == (
                "completed",
                racer.name,
                {"by": racer.name},
            )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(report, racers))
        rest = [task["id"] for racer in racers for task in racer.got[1:]]
        answers = pool.map(lambda task: client.call("POST", f"/tasks/{task}/cancel").status_code, rest)
        assert set(answers) == {200}
    until(lambda: not client.get("/tasks", status="running", limit=1), "all have ended")
