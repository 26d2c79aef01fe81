"""What one of several attempts printed, cut out of its pod's log."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_crds.names import log_marker
from maze_crds.podlog import Cutter, cut

LOG = b"""maze: hello
--- maze: task a, attempt 1
of a
--- maze: task b, attempt 1
--- no marker
of b

--- maze: task b, attempt 2
end"""


def pieces_of(log: bytes, task: str, attempt: int, *cuts: int) -> bytes:
    cutter = Cutter(log_marker(task, attempt))
    pieces = [log[start:end] for start, end in pairwise([0, *sorted(cuts), len(log)])]
    return b"".join(map(cutter.take, pieces)) + cutter.end()


@pytest.mark.parametrize(
    ("task", "attempt", "found"),
    [
        ("a", 1, b"of a\n"),
        ("b", 1, b"--- no marker\nof b\n\n"),
        ("b", 2, b"end"),
        ("a", 2, b""),
    ],
)
@given(st.lists(st.integers(0, len(LOG)), max_size=8))
def test_each_attempt_gets_its_lines_however_they_come(task: str, attempt: int, found: bytes, cuts: list[int]) -> None:
    assert pieces_of(LOG, task, attempt, *cuts) == found


def test_what_is_no_marker_comes_at_once_though_its_line_has_not_ended() -> None:
    cutter = Cutter(log_marker("a", 1))
    assert cutter.take(log_marker("a", 1).encode() + b"\nhalf") == b"half"
    assert cutter.take(b"--- maze: task ") == b"--- maze: task ", "within a line"
    assert cutter.take(b"\n--- maze: ta") == b"\n"
    assert cutter.take(b"le") == b"--- maze: tale"
    assert cutter.take(b"\n--- maze: task x" + b"y" * 400) == b"\n--- maze: task x" + b"y" * 400


def test_a_line_that_only_looks_like_a_marker_is_the_tasks() -> None:
    log = b"--- maze: task a, attempt 1\n--- maze: task b\n--- maze: task b, attempt 1 x\n"
    assert pieces_of(log, "a", 1) == log[28:]


def test_what_the_kubelet_has_left_of_a_long_log_is_of_the_attempt_that_was_last() -> None:
    assert cut(b"half a line\nand more\n", log_marker("a", 1)) == b"half a line\nand more\n"
    assert cut(LOG, log_marker("a", 1)) == b"of a\n"
    assert cut(LOG, log_marker("c", 1)) == b""
