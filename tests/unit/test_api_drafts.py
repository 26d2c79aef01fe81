"""Tasks of drafts that an api process knows already."""

from __future__ import annotations

from maze_api.drafts import KNOWN_BYTES, KnownTasks
from maze_api.submit import DraftTask

A, B, C = (DraftTask(name, name, number, None) for number, name in enumerate("abc"))


def test_a_task_is_known_in_the_version_that_was_seen_and_in_no_other() -> None:
    known = KnownTasks()
    known.put("a", "1", A, 10)
    assert known.get("a", "1") is A
    assert known.get("a", "2") is None
    assert known.get("b", "1") is None
    known.put("a", "2", B, 10)
    assert (known.get("a", "1"), known.get("a", "2")) == (None, B)


def test_those_that_were_not_asked_for_for_longest_are_forgotten() -> None:
    known = KnownTasks(2)
    known.put("a", "1", A, 10)
    known.put("b", "1", B, 10)
    assert known.get("a", "1") is A
    known.put("c", "1", C, 10)
    assert [known.get(key, "1") for key in "abc"] == [A, None, C]


def test_large_ones_are_not_kept() -> None:
    known = KnownTasks()
    known.put("a", "1", A, KNOWN_BYTES + 1)
    assert known.get("a", "1") is None
