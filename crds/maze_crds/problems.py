"""Problem ids and the globs that match them: `*` any characters, `?` one, `[abc]` one of these; upper case counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field

ProblemId = Annotated[str, Field(min_length=1, max_length=253)]
Glob = Annotated[str, Field(min_length=1, max_length=253)]
Globs = Annotated[list[Glob], Field(max_length=1000, json_schema_extra={"x-kubernetes-list-type": "atomic"})]


def matches(globs: Iterable[str], problem_id: str) -> bool:
    """Whether any of the globs matches."""
    return any(fnmatchcase(problem_id, glob) for glob in globs)


def supports(supported: Sequence[str], problem_id: str) -> bool:
    """Whether a worker with these supported problems takes the problem: none listed means all."""
    return not supported or matches(supported, problem_id)


def choose_workflow(served: Mapping[str, Sequence[str]], problem_id: str) -> str | None:
    """Of the Workflows (name → globs) the one that serves the problem: the most specific glob, then the first name.

    A glob is the more specific the more of its characters are not wildcards; one without wildcards is the most specific.
    """
    found = [
        (not _is_literal(glob), -_literal_length(glob), name)
        for name, globs in served.items()
        for glob in globs
        if fnmatchcase(problem_id, glob)
    ]
    return min(found)[2] if found else None


def _is_literal(glob: str) -> bool:
    return not any(char in glob for char in "*?[")


def _literal_length(glob: str) -> int:
    return sum(char not in "*?[]" for char in glob)
