"""All events of a Run, read from the api when it has ended: each number is there once."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from itertools import pairwise
from typing import Any

from seen import BenchError

SHOWN_SECONDS = 30.0
Json = dict[str, Any]


def replay_events(api: str, run: str, count: int, name: str) -> dict[str, float]:
    """All messages of a Run that has succeeded without a retry, page by page; how long, and how many numbers are wrong.

    Its start is event 1 and no message; the start and end of each task and its own end are the numbers after that.
    """
    numbers: list[int] = []
    began = time.monotonic()
    ended = False
    while not ended:
        page = read_page(api, run, numbers[-1] if numbers else 0)
        ended = page["ended"]
        numbers += [event["id"] for event in page["events"]]
        if not page["events"] and not ended and time.monotonic() > began + SHOWN_SECONDS:
            raise BenchError(f"the api does not show the end of {run}: {len(numbers)} events")
    wrong = wrong_numbers(numbers, 2 * count + 1)
    return {f"{name}.replay": time.monotonic() - began, f"{name}.replay_wrong": float(wrong)}


def read_page(api: str, run: str, after: int) -> Json:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"{api}/api/maze/runs/{run}/events?after={after}"
    try:
        with opener.open(url, timeout=60) as answer:
            found: Json = json.load(answer)
            return found
    except OSError as error:
        raise BenchError(f"{url}: {error}") from error


def wrong_numbers(numbers: list[int], count: int) -> int:
    """How many of the numbers from 2 on are missing, there twice, or not in order; and those that should not be there."""
    wanted = range(2, count + 2)
    found = Counter(numbers)
    wrong = sum(found[number] != 1 for number in wanted) + sum(number not in wanted for number in found)
    return wrong + sum(one > following for one, following in pairwise(numbers))
