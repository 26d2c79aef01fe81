"""The live events of a scenario run: everybody sees the same ones, whenever they come and whatever dies meanwhile."""

from __future__ import annotations

import json
import random
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from browser import open_page
from cluster import Cluster, kubectl
from own_api import OwnApi, own_api, own_namespace
from scenario_http import SECONDS, Event, Scenarios, parse
from test_parts_die import kill_pods_of

Json = dict[str, Any]
READERS = 10

PAGE = """<!doctype html><title>A run</title><script>
const seen = [];
const source = new EventSource(%s);
for (const name of ["run_started", "step_started", "step_finished", "run_finished"])
  source.addEventListener(name, (event) => seen.push([event.lastEventId, name, event.data]));
source.onerror = () => {
  // After its end the stream closes, the browser comes back, and is told that nothing follows.
  if (source.readyState === EventSource.CLOSED) fetch("/done", {method: "POST", body: JSON.stringify(seen)});
};
</script>"""


@pytest.fixture(scope="module")
def api() -> Iterator[OwnApi]:
    found = Cluster()
    try:
        with own_namespace(found) as namespace, own_api(namespace) as made:
            yield made
    finally:
        found.close()


@pytest.fixture
def scenarios(api: OwnApi) -> Iterator[Scenarios]:
    made = Scenarios(api.url)
    yield made
    made.session.close()


def waiting(scenarios: Scenarios, seconds: list[float]) -> str:
    """A run whose steps take so long, one after the other."""
    made = scenarios.apply(
        {
            "scenario_id": f"waits_{uuid.uuid4().hex[:8]}",
            "steps": [{"name": f"s{n}", "tool": "wait", "input": {"seconds": s}} for n, s in enumerate(seconds)],
        }
    )
    return scenarios.start(made["scenario_id"])


def expected(steps: int) -> list[tuple[str, int | None]]:
    middle = [(name, n) for n in range(steps) for name in ("step_started", "step_finished")]
    return [("run_started", None), *middle, ("run_finished", None)]


def told(events: list[Event]) -> list[tuple[str, int | None]]:
    numbers = [event.number for event in events]
    assert numbers == sorted(set(numbers)), "numbers grow"
    return [(event.name, event.content.get("index")) for event in events]


def test_curl_follows_a_run_to_its_end(scenarios: Scenarios, api: OwnApi) -> None:
    run_id = waiting(scenarios, [0.5])
    done = subprocess.run(
        ["curl", "-sN", "--noproxy", "*", f"{api.url}/api/runs/{run_id}/events"],
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
    events = list(parse(iter(done.stdout.split(b"\n"))))
    assert told(events) == expected(1)
    assert events[-1].content["status"] == "success"


@pytest.mark.timeout(1200)  # the browser may have to be installed
def test_the_event_source_of_a_browser_follows_a_run_to_its_end(scenarios: Scenarios, api: OwnApi) -> None:
    run_id = waiting(scenarios, [0.5])
    seen = json.loads(open_page(PAGE % json.dumps(f"{api.url}/api/runs/{run_id}/events")))
    events = [Event(int(number), name, data) for number, name, data in seen]
    assert told(events) == expected(1)
    assert all(event.content["type"] == event.name for event in events)
    assert events[-1].content["status"] == "success"


def test_a_reader_that_comes_back_gets_what_it_has_not_seen(scenarios: Scenarios) -> None:
    run_id = waiting(scenarios, [1])
    first = []
    for event in scenarios.events(run_id):
        first.append(event)
        if event.name == "step_started":
            break  # closes the connection, as a page that is left
    rest = list(scenarios.events(run_id, after=first[-1].number))
    assert told(first + rest) == expected(1)
    assert list(scenarios.events(run_id, after=999)) == []


def test_all_see_the_same_across_a_restart_of_api_and_operator(
    scenarios: Scenarios, api: OwnApi, cluster: Cluster
) -> None:
    run_id = waiting(scenarios, [0.5] * 4)
    moments = sorted(random.uniform(0, 8) for _ in range(READERS))

    def join_at(moment: float) -> list[Event]:
        time.sleep(moment)  # the reader's own moment, not something that is waited for
        return list(scenarios.follow(run_id))

    with ThreadPoolExecutor(READERS) as pool:
        readers = [pool.submit(join_at, moment) for moment in moments]
        for event in scenarios.follow(run_id):
            if event.name == "step_finished" and event.content["index"] == 0:
                kill_pods_of("maze-operator")
                api.restart()
                break
        seen = [reader.result(SECONDS) for reader in readers]
    kubectl("rollout", "status", "-n", "maze-system", "deployment/maze-operator", "--timeout=90s")
    assert told(seen[0]) == expected(4)
    for events in seen:
        assert events == seen[0]
        assert told(events) == expected(4)
    assert list(scenarios.events(run_id)) == seen[0]
