"""The object store is full, broken or slow for a while: tasks wait or are tried again, and every Run ends well."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stage import Stage

from maze_io.store import ObjectStore, StoreError, StoreSettings
from own_api import cluster_env

DISK = Path(__file__).with_name("disk.py")
BUCKET = "/data/maze"
SCRATCH = "/tmp/test-full"


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    """At the address of the Service, which no fault changes."""
    env = cluster_env()
    keys = env["MAZE_S3_ACCESS_KEY"], env["MAZE_S3_SECRET_KEY"]
    made = ObjectStore(StoreSettings(env["MAZE_S3_ENDPOINT"], "maze", *keys))
    yield made
    made.close()


def refusal(store: ObjectStore) -> str:
    """What the store says to a write; empty: it has been written."""
    key = f"test-{uuid.uuid4().hex}"
    try:
        store.put(key, b"x")
    except StoreError as error:
        return str(error)
    store.delete(key)
    return ""


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """Of the object store."""
    command = [sys.executable, str(DISK)]
    subprocess.run([*command, "fill", str(pid), BUCKET, SCRATCH], check=True, timeout=20)
    try:
        yield
    finally:
        if Path(f"/proc/{pid}").exists():
            subprocess.run([*command, "free", str(pid), BUCKET, SCRATCH], check=True, timeout=20)


@contextmanager
def broken_folder(bucket: Path) -> Iterator[None]:
    """The folder of all that Runs write is a link that goes round in a circle: reads and writes get 500."""
    runs = bucket / "runs"
    aside = runs.with_name("runs.aside")
    runs.rename(aside)
    try:
        runs.symlink_to("runs")
        yield
    finally:
        runs.unlink(missing_ok=True)
        aside.rename(runs)


def test_disk_full(stage: Stage, store: ObjectStore) -> None:
    name = stage.work()
    with full_disk(stage.machine.running("s3")):
        assert "507" in refusal(store) or "space" in refusal(store)
        stage.let_some_end()
    assert refusal(store) == ""
    stage.require_success(name)


def test_answers_500(stage: Stage, store: ObjectStore) -> None:
    name = stage.work()
    with broken_folder(stage.machine.layout.s3 / "maze"):
        stage.let_some_end()
    stage.require_success(name)


def test_silent(stage: Stage) -> None:
    name = stage.work()
    with stage.machine.silent("s3"):
        stage.let_some_end()
    stage.require_success(name)


def test_slow(stage: Stage) -> None:
    name = stage.work()
    with stage.machine.slow("s3"):
        stage.recorder.open()
        stage.require_success(name)
