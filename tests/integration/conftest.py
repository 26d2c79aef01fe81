"""The real API server and the real object store of the running cluster (`make up` first)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from cluster import KUBECONFIG, Cluster, object_store
from maze_io.kube import Kube
from maze_io.store import ObjectStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def kube() -> AsyncIterator[Kube]:
    made = await Kube.connect(os.fspath(KUBECONFIG))
    yield made
    await made.close()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.clean()
    made.close()


@pytest.fixture
def store(cluster: Cluster) -> Iterator[ObjectStore]:
    """The cluster's object store, over a connection of the test's own: other tests stop what it goes through."""
    with object_store(cluster) as found:
        yield found
