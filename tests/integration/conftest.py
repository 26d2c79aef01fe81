"""The real API server and the real object store of the running cluster (`make up` first)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from cluster import KUBECONFIG
from fixtures import cluster, store
from maze_io.kube import Kube

__all__ = ["cluster", "store"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def kube() -> AsyncIterator[Kube]:
    made = await Kube.connect(os.fspath(KUBECONFIG))
    yield made
    await made.close()
