"""Fifty workers race for two hundred tasks: none is lost, none is given out twice, and every worker gets what it may."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import pytest

from own_api import own_api, own_namespace
from worker_http import Client, until

WORKERS, TASKS, LIMIT = 50, 200, 4
"""Half of the workers take half of the tasks each; their limits together are just enough for all of them."""
BOUND = 240
Json = dict[str, Any]


@dataclass
class Racer:
    """A worker that claims until it gets no more, through each of its connections in turn."""

    name: str
    glob: str
    clients: Sequence[Client]
    got: list[Json] = field(default_factory=list)

    def run(self, start: threading.Barrier) -> None:
        start.wait(BOUND)
        deadline = time.monotonic() + BOUND
        turn = 0
        while time.monotonic() < deadline:
            task = self.clients[turn % len(self.clients)].claim(self.name)
            turn += 1
            if task is not None:
                self.got.append(task)
            elif len(self.got) >= LIMIT:
                return
            else:  # the last ones are being claimed: by whom is open until they are
                time.sleep(0.02)

    def report(self) -> None:
        """The first of its tasks is done."""
        task, result = self.got[0]["id"], {"by": self.name}
        self.clients[-1].complete(self.name, task, result)
        shown = self.clients[-1].task(task)
        assert (shown["status"], shown["worker_id"], shown["result"]) == ("completed", self.name, result)


@pytest.fixture(scope="module")
def urls() -> Iterator[list[str]]:
    """Two api processes that serve one namespace."""
    with (
        own_namespace() as namespace,
        own_api(namespace, NUM_INTERNAL_WORKERS="0", MAZE_WORKER_TIMEOUT_SECONDS="600") as first,
        own_api(namespace, NUM_INTERNAL_WORKERS="0", MAZE_WORKER_TIMEOUT_SECONDS="600") as second,
    ):
        yield [first.url, second.url]


def create(client: Client, problems: Sequence[str]) -> list[str]:
    """Tasks of three priorities, of each problem in turn; their ids in the order of the queue."""

    def one(n: int) -> tuple[int, str, str]:
        made = client.call("POST", "/tasks", json={"problem_id": problems[n % len(problems)], "priority": n % 3}).json()
        return -made["priority"], made["created_at"], made["id"]

    with ThreadPoolExecutor(4) as pool:
        made = sorted(pool.map(one, range(TASKS)))
    assert len({task[1] for task in made}) == TASKS, "two tasks of the same time"
    return [task[2] for task in made]


@pytest.mark.parametrize("apis", [1, 2])
def test_every_task_is_claimed_once(urls: list[str], apis: int) -> None:
    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(Client(url)) for url in urls]
        racers = []
        for n in range(WORKERS):
            own = [open_clients.enter_context(Client(url)) for url in urls[:apis]]
            racers.append(Racer(f"racer-{apis}-{n:02}", f"race-{apis}-{'ab'[n % 2]}-[0-9]", own))
            clients[0].register(racers[n].name, racers[n].glob, parallel=LIMIT)
        queue = create(clients[0], [f"race-{apis}-a-0", f"race-{apis}-b-0"])
        await_seen(clients, racers, queue)
        start = threading.Barrier(WORKERS)
        with ThreadPoolExecutor(WORKERS) as pool:
            for done in [pool.submit(racer.run, start) for racer in racers]:
                done.result(2 * BOUND)
        check(racers, queue)
        if apis == 1:
            check_order(racers, queue)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(Racer.report, racers))


def await_seen(clients: Sequence[Client], racers: Sequence[Racer], queue: Sequence[str]) -> None:
    """What came in through one process is known to the other one a moment later."""

    def seen(client: Client) -> bool:
        tasks = {task["id"] for task in client.get("/tasks", limit=1000, status="pending")}
        workers = {worker["id"] for worker in client.get("/workers")}
        return set(queue) <= tasks and {racer.name for racer in racers} <= workers

    for client in clients:
        until(lambda shown=client: seen(shown), "tasks and workers are known")  # type: ignore[misc]


def check(racers: Sequence[Racer], queue: Sequence[str]) -> None:
    claims = Counter(task["id"] for racer in racers for task in racer.got)
    assert claims == Counter(queue)
    for racer in racers:
        assert len(racer.got) == LIMIT, racer.name
        assert all(fnmatchcase(task["problem_id"], racer.glob) for task in racer.got)
        assert all(task["worker_id"] == racer.name for task in racer.got)


def check_order(racers: Sequence[Racer], queue: Sequence[str]) -> None:
    """Nobody gets an older or more urgent task after another one (through one process: two differ for moments)."""
    place = {task: n for n, task in enumerate(queue)}
    for racer in racers:
        got = [place[task["id"]] for task in racer.got]
        assert got == sorted(got), racer.name
