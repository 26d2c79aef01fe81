"""Fixtures for tests on the running system (`make up` first)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster import Cluster, object_store
from maze_io.store import ObjectStore


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """The running cluster; Runs made through it are deleted afterwards."""
    made = Cluster()
    yield made
    made.clean()
    made.close()


@pytest.fixture(scope="session")
def store() -> Iterator[ObjectStore]:
    made = Cluster()
    with object_store(made) as found:
        yield found
    made.close()
