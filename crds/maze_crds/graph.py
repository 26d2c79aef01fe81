"""Checks on the graph of a workflow that no schema can tell: unknown names, undeclared outputs, cycles.

The api refuses such a workflow when it is submitted; the operator fails such a Run at once. Both show these texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from maze_crds.templates import references
from maze_crds.workflow import Input, Task, WorkflowSpec


class Reference(NamedTuple):
    """`input.KEY` (task is None) or `TASK.output.KEY`."""

    task: str | None
    key: str


def parse_reference(text: str) -> Reference:
    """Read the seeds' notation.

    Raises:
        ValueError: neither form.
    """
    if text.startswith("input.") and len(text) > len("input."):
        return Reference(None, text[len("input.") :])
    task, separator, key = text.partition(".output.")
    if not separator or not task or not key:
        raise ValueError(f"'{text}' is not a reference: write input.KEY or TASK.output.KEY")
    return Reference(task, key)


def dependencies(task: Task) -> frozenset[str]:
    """Names of the tasks that must have succeeded before this one starts."""
    return sources(task) | set(task.depends_on or ())


def sources(task: Task) -> frozenset[str]:
    """Names of the tasks whose outputs are inputs of this one."""
    names = set()
    for source in task.inputs.values():
        for text in input_references(source):
            try:
                upstream = parse_reference(text).task
            except ValueError:  # in a template; check_workflow names it
                continue
            if upstream is not None:
                names.add(upstream)
    return frozenset(names)


def input_references(source: Input) -> list[str]:
    """The text of each reference in one input: of `from`, or inside a `template`, which may hold what is none."""
    return [source.from_] if source.from_ is not None else references(source.template)


def find_cycle(edges: Mapping[str, Iterable[str]]) -> list[str] | None:
    """A cycle in task → dependencies, in the order the tasks would run (first name repeated at the end), or None.

    Iterative, so that a chain of thousands of tasks is no problem; names without an entry have no dependencies.
    """
    done: set[str] = set()
    for root in edges:
        if root in done:
            continue
        path: list[str] = []
        on_path: set[str] = set()
        stack: list[tuple[str, bool]] = [(root, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                path.pop()
                on_path.discard(name)
                done.add(name)
            elif name in on_path:
                return [*reversed([*path[path.index(name) :], name])]
            elif name not in done:
                path.append(name)
                on_path.add(name)
                stack.append((name, True))
                stack.extend((upstream, False) for upstream in sorted(edges.get(name, ())))
    return None


def check_workflow(spec: WorkflowSpec) -> list[str]:
    """Everything that is wrong with the graph, one sentence each; empty: it can run."""
    tasks = {task.name: task for task in spec.tasks}
    if len(tasks) != len(spec.tasks):
        seen: set[str] = set()
        twice = sorted({task.name for task in spec.tasks if task.name in seen or seen.add(task.name)})  # type: ignore[func-returns-value]
        return [f"two tasks are named '{name}'; give each its own name" for name in twice]
    problems = [problem for task in spec.tasks for problem in _check_task(task, tasks, spec)]
    if (cycle := find_cycle({task.name: dependencies(task) for task in spec.tasks})) is not None:
        problems.append(f"the tasks wait for each other in a cycle: {' → '.join(cycle)}; remove one of these edges")
    return problems


def _check_task(task: Task, tasks: Mapping[str, Task], spec: WorkflowSpec) -> list[str]:
    executors = [task.python, task.container, task.tool]
    if sum(executor is not None for executor in executors) != 1:
        return [f"task '{task.name}' needs exactly one executor: python, container or tool"]
    problems = [
        f"task '{task.name}' depends on '{name}', which is not a task of this workflow ({_names(tasks)})"
        for name in task.depends_on or ()
        if name not in tasks
    ]
    for key, source in task.inputs.items():
        for text in input_references(source):
            problem = _check_reference(text, tasks, spec)
            if problem:
                problems.append(f"input '{key}' of task '{task.name}' refers to {text}, but {problem}")
    return problems


def _check_reference(text: str, tasks: Mapping[str, Task], spec: WorkflowSpec) -> str | None:
    try:
        reference = parse_reference(text)
    except ValueError:
        return "that is not a reference: write input.KEY or TASK.output.KEY"
    if reference.task is None:
        schema = spec.input_schema or {}
        declared = schema.get("properties")
        if isinstance(declared, dict) and declared and reference.key not in declared:
            return f"the workflow's inputSchema has no property '{reference.key}' ({_names(declared)})"
        return None
    upstream = tasks.get(reference.task)
    if upstream is None:
        return f"there is no task '{reference.task}' ({_names(tasks)})"
    if upstream.outputs and reference.key not in upstream.outputs:
        return f"task '{reference.task}' declares no output '{reference.key}' ({_names(upstream.outputs)})"
    return None


def _names(names: Iterable[str], most: int = 10) -> str:
    ordered = list(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return "there are: " + ", ".join(ordered[:most]) + more
