"""The thin client against a real API server: what the operator's promises rest on."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

import pytest

from builders import at
from cluster import Cluster
from maze_crds.base import API_VERSION
from maze_crds.run import (
    Cause,
    Condition,
    Counts,
    FailedAttempt,
    FirstFailure,
    RunPhase,
    RunStatus,
    TaskPhase,
    TaskStatus,
)
from maze_io.cache import Cache
from maze_io.kube import Kube, KubeError, resource_path, runs_path

pytestmark = pytest.mark.anyio


@pytest.fixture
async def maps(kube: Kube) -> AsyncIterator[str]:
    """A namespace of the test's own; the path of its ConfigMaps."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    await kube.post(resource_path("v1", "namespaces"), {"metadata": {"name": name}})
    yield resource_path("v1", "configmaps", name)
    await kube.delete(resource_path("v1", "namespaces", name=name))


async def until(cache: Cache, condition: object) -> None:
    """Wait until a change of the cache makes `condition()` true."""
    changed = asyncio.Event()
    end = cache.subscribe(lambda *_: changed.set())
    async with asyncio.timeout(20):
        while not condition():  # type: ignore[operator]
            await changed.wait()
            changed.clear()
    end()


async def test_a_cache_follows_what_others_do(kube: Kube, maps: str) -> None:
    cache = Cache()
    namespace = maps.split("/")[4]
    await kube.post(maps, {"metadata": {"name": "before"}})
    following = asyncio.create_task(cache.follow(kube.list_and_watch(maps)))
    await cache.wait_synced()
    assert cache.get(namespace, "before") is not None
    await kube.post(maps, {"metadata": {"name": "after"}, "data": {"big": "x" * 500_000}})
    await until(cache, lambda: cache.get(namespace, "after"))
    await kube.delete(f"{maps}/before")
    await until(cache, lambda: cache.get(namespace, "before") is None)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def test_of_two_writers_with_the_same_version_one_is_refused(kube: Kube, maps: str) -> None:
    made = await kube.post(maps, {"metadata": {"name": "m"}, "data": {"n": "0"}})
    path = f"{maps}/m"
    outcomes = await asyncio.gather(
        *(kube.put(path, {**made, "data": {"n": str(n)}}) for n in range(1, 5)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, KubeError)]
    assert len(refused) == 3
    assert all(error.conflict for error in refused)


async def test_errors_carry_the_servers_words(kube: Kube, maps: str) -> None:
    with pytest.raises(KubeError, match="not found") as missing:
        await kube.get(f"{maps}/nobody")
    assert missing.value.not_found
    with pytest.raises(KubeError) as invalid:
        await kube.post(maps, {"metadata": {"name": "Not Valid"}})
    assert invalid.value.status == 422


async def test_every_field_of_a_status_survives_the_api_server(kube: Kube, cluster: Cluster) -> None:
    """A field that the CRD does not know would be pruned, and with it the operator's memory."""
    name = cluster.run({"name": "t", "container": {"image": "x"}}, desiredState="Cancelled")
    await asyncio.to_thread(cluster.ended, name)
    run = await kube.get(runs_path("maze", name))
    failed = FailedAttempt(
        attempt=1,
        cause=Cause.TIMEOUT,
        reason="TimedOut",
        message="m",
        exit_code=3,
        start_time=at(0),
        completion_time=at(1),
        start_event=2,
        end_event=3,
    )
    task = TaskStatus(
        name="t",
        phase=TaskPhase.FAILED,
        attempt=2,
        cause=Cause.OUT_OF_MEMORY,
        reason="OOMKilled",
        message="m",
        exit_code=137,
        node="10.0.0.1",
        start_time=at(2),
        completion_time=at(3),
        start_event=4,
        end_event=5,
        scheduled_time=at(1.5),
        retry_time=at(1.25),
        failed_attempts=[failed],
    )
    condition = Condition(
        type="Failed", status="True", reason="R", message="m", last_transition_time=at(3), observed_generation=1
    )
    status = RunStatus(
        observed_generation=1,
        phase=RunPhase.FAILED,
        reason="R",
        message="m",
        start_time=at(0),
        completion_time=at(3),
        progress="1/1",
        counts=Counts(total=1, failed=1),
        last_event=6,
        end_event=6,
        first_failure=FirstFailure(task="t", reason="R", message="m"),
        conditions=[condition],
        tasks=[task],
    )
    body = {
        "apiVersion": API_VERSION,
        "kind": "Run",
        "metadata": run["metadata"],
        "spec": run["spec"],
        "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    written = await kube.put(runs_path("maze", name, "status") + "?dryRun=All", body)
    assert RunStatus.model_validate(written["status"]) == status
