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


@pytest.fixture
def store(cluster: Cluster) -> Iterator[ObjectStore]:
    """The cluster's object store, over a connection of the test's own: other tests stop what it goes through."""
    with object_store(cluster) as found:
        yield found
