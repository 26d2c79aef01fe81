"""The object store is full, broken or slow for a while: tasks wait or are tried again, and every Run ends well."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import work
from stage import Stage

from cluster import awaited, kubectl
from maze_crds import names
from maze_io.store import ObjectStore, StoreError, StoreSettings
from own_api import cluster_env

DISK = Path(__file__).with_name("disk.py")
BUCKET = "/data/maze"
SCRATCH = "/tmp/test-full"
SILENT_SECONDS = 5
AT_FDCWD = -100
RENAME_EXCHANGE = 2


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
    key = f"runs/test-{uuid.uuid4().hex}"
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
    try:
        subprocess.run([*command, "fill", str(pid), BUCKET, SCRATCH], check=True, timeout=20)
        yield
    finally:
        if Path(f"/proc/{pid}").exists():
            subprocess.run([*command, "free", str(pid), BUCKET, SCRATCH], check=True, timeout=20)


@contextmanager
def broken_folder(bucket: Path) -> Iterator[None]:
    """The folder of all that Runs write is a link that goes round in a circle: reads and writes get 500."""
    runs, circle = bucket / "runs", bucket / "test-circle"
    circle.symlink_to(runs.name)
    exchange(runs, circle)
    try:
        yield
    finally:
        exchange(runs, circle)
        circle.unlink()


def exchange(one: Path, other: Path) -> None:
    """At once: there is no moment without either."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), f"{one} and {other} can't be exchanged")


def require_waiting(stage: Stage, name: str) -> None:
    """Runners try again to store what tasks gave, and nothing that is not stored is a success."""
    logs = ("logs", "-n", "maze", "-l", f"{names.LABEL_RUN}={name}", "--tail=-1", "--max-log-requests=20")
    awaited(lambda: kubectl(*logs, check=False), lambda said: "trying again" in said, 20)
    assert work.succeeded(stage.cluster.get_run(name)) == work.ENDED


def test_disk_full(stage: Stage, store: ObjectStore) -> None:
    name = stage.work()
    with full_disk(stage.machine.running("s3")):
        assert "No space left" in refusal(store)
        stage.let_some_end()
        require_waiting(stage, name)
    assert refusal(store) == ""
    stage.require_success(name)


def test_answers_500(stage: Stage, store: ObjectStore) -> None:
    name = stage.work()
    with broken_folder(stage.machine.layout.s3 / "maze"):
        assert "internal error" in refusal(store)
        stage.let_some_end()
        require_waiting(stage, name)
    stage.require_success(name)


def test_silent(stage: Stage, store: ObjectStore) -> None:
    name = stage.work()
    with stage.machine.silent("s3"):
        stage.let_some_end()
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{store.settings.endpoint}/health", timeout=SILENT_SECONDS)
    stage.require_success(name)


def test_slow(stage: Stage) -> None:
    name = stage.work()
    with stage.machine.slow("s3"):
        stage.recorder.open()
        stage.require_success(name)
