"""`maze scenario`, as a user types it, on a fresh installation."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cluster import ROOT, Cluster
from own_api import OwnApi, own_api, own_namespace
from test_sdk_cli import maze

CHAIN = ROOT / "examples" / "scenarios" / "arithmetic_chain.json"


@pytest.fixture(scope="module")
def api() -> Iterator[OwnApi]:
    cluster = Cluster()
    try:
        with own_namespace(cluster) as namespace, own_api(namespace) as made:
            maze("scenario", "apply", str(CHAIN), "-s", made.url)
            yield made
    finally:
        cluster.close()


def test_a_scenario_is_applied_shown_and_run(api: OwnApi) -> None:
    server = ("-s", api.url)
    assert "scenario arithmetic_chain from" in maze("scenario", "apply", str(CHAIN), *server)
    assert "Arithmetic chain" in maze("scenario", "list", *server)
    assert json.loads(maze("scenario", "show", "arithmetic_chain", *server)) == json.loads(CHAIN.read_text())

    shown = maze("scenario", "run", "arithmetic_chain", "--input", "start=6", *server)
    assert [line.split()[:3] for line in shown.splitlines()[1:]] == [
        ["1.", "add", "…"],
        ["✓", "1.", "add"],
        ["2.", "divide", "…"],
        ["✓", "2.", "divide"],
        ["3.", "statistics", "…"],
        ["✓", "3.", "statistics"],
        ["run", "success"],
    ]
    failed = maze("scenario", "run", "arithmetic_chain", "-i", '{"start": 1, "divisor": 0}', *server, fails=1)
    assert "run failed: step 'divide' failed: tool 'divide' failed" in failed


@pytest.mark.parametrize(
    ("arguments", "fails", "words"),
    [
        (("run", "no-such-scenario"), 1, "Unknown scenario_id: no-such-scenario"),
        (("apply", "no-such-file.json"), 2, "can't be read"),
        (("run", "arithmetic_chain", "-i", "start=x"), 1, "input.start: 'x' is not of type 'number'"),
        (("run", "arithmetic_chain", "-i", "start"), 2, "KEY=VALUE"),
        (("list", "-s", "http://127.0.0.1:9"), 1, "make up"),
    ],
)
def test_mistakes_are_one_line(api: OwnApi, arguments: tuple[str, ...], fails: int, words: str) -> None:
    server = () if "-s" in arguments else ("-s", api.url)
    assert words in maze("scenario", *arguments, *server, fails=fails)
