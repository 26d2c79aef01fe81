"""Faults of the running, embedded cluster (`make up` first), one a test.

MAZE_SOAK_ROUNDS: how often all of them are gone through (1).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from machine import require_embedded
from news import await_news
from recorder import recording
from stage import Stage

from cluster import Cluster
from fixtures import cluster
from test_zz_standby import two

__all__ = ["cluster", "two"]
ROUNDS = int(os.environ.get("MAZE_SOAK_ROUNDS", "1"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if ROUNDS > 1 and "stage" in metafunc.fixturenames:
        metafunc.fixturenames.append("soak_round")
        metafunc.parametrize("soak_round", range(1, ROUNDS + 1), scope="session")


@pytest.fixture
def stage(cluster: Cluster) -> Iterator[Stage]:
    """Everything runs again afterwards."""
    machine = require_embedded()
    with recording() as recorder:
        try:
            yield Stage(cluster, recorder, machine)
        finally:
            machine.heal()
            if machine.killed:
                await_news(cluster)
