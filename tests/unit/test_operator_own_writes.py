"""What an operator has written itself is no news to it, whether the watch tells of it before or after the write is answered."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from builders import SETTINGS
from maze_io.kube import KubeError
from maze_operator.engine import Engine
from maze_operator.worker import RunWorker

WRITTEN = "7"


def is_dirty(first: list[str], then: list[str], answer: KubeError | None = None) -> bool:
    """Whether the Run is planned again at once, when the watch shows these versions before and after a write is answered."""

    async def write() -> bool:
        async def put(path: str, body: Any) -> Any:
            for version in first:
                worker.saw_run(version)
            if answer:
                raise answer
            return {"metadata": {"resourceVersion": WRITTEN}}

        engine = SimpleNamespace(core=SETTINGS, kube=SimpleNamespace(put=put))
        worker = RunWorker(cast(Engine, engine), "a", "r", "uid")
        worker.dirty.clear()
        try:
            await worker._put({})
        except KubeError:
            assert answer
        for version in then:
            worker.saw_run(version)
        return worker.dirty.is_set()

    return asyncio.run(write())


@pytest.mark.parametrize(("first", "then"), [([], [WRITTEN]), ([WRITTEN], []), ([WRITTEN], [WRITTEN])])
def test_our_own_write_is_no_news(first: list[str], then: list[str]) -> None:
    assert not is_dirty(first, then)


@pytest.mark.parametrize(
    ("first", "then"), [(["8"], []), ([WRITTEN, "8"], []), ([WRITTEN], ["8"]), ([], [WRITTEN, "8"])]
)
def test_what_somebody_else_writes_is_news(first: list[str], then: list[str]) -> None:
    assert is_dirty(first, then)


def test_what_was_shown_is_news_where_our_write_was_not_heard_of() -> None:
    assert is_dirty([WRITTEN], [], KubeError(0, "Unreachable", "the answer is lost"))
