"""Results of container tasks, and how outputs of one task become inputs of the next."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from maze_crds.graph import Reference, parse_reference
from maze_crds.plainjson import encode_json, read_json
from maze_crds.protocol import LeasedInput, Output, Result, Stored
from maze_crds.run import Cause
from maze_crds.templates import fill, find_reference
from maze_crds.workflow import Input, InputPayload, Task
from maze_operator.core.diagnosis import failure
from maze_operator.core.podspec import PodNotPossible
from maze_operator.core.values import Ended

Upstream = Mapping[str, Result]
"""Results of the tasks that inputs are taken from, by task name."""


class InputMissing(Exception):
    """An input can't be had; the text says which, and what there is instead."""

    def __init__(self, message: str, reason: str = "MissingInput") -> None:
        super().__init__(message)
        self.reason = reason


class ResultLost(Exception):
    """The result of a task that has succeeded is not in the object store any more."""

    def __init__(self, task: str) -> None:
        super().__init__(f"the result of task '{task}' is not in the object store any more; run the workflow again")


def json_output(value: Any) -> Output:
    """An output that travels inside its Result.

    Raises:
        ValueError: JSON can't hold it.
    """
    data = encode_json(value)
    return Output(encoding="json", size=len(data), sha256=hashlib.sha256(data).hexdigest(), value=value)


def container_result(ended: Ended, declared: list[str], started: str, completed: str) -> Result:
    """What a container that exited with 0 said in its termination message (at most 4096 bytes of JSON)."""
    result: Result = {"startTime": started, "completionTime": completed, "outputs": {}}
    text = ended.termination_message.strip()
    try:
        values = read_json(text) if text else {}
    except ValueError:
        values = None
    if not isinstance(values, dict):
        if declared:
            shown = f"what it wrote begins with {text[:80]!r}"
            message = f"outputs are read as a JSON object from /dev/termination-log, but {shown}"
            result["failure"] = failure(Cause.USER_ERROR, "OutputNotJSON", message, 0)
        return result
    missing = [key for key in declared if key not in values]
    if missing:
        message = f"the container wrote no output {_quoted(missing)}; it wrote {_quoted(values) or 'nothing'}"
        result["failure"] = failure(Cause.USER_ERROR, "MissingOutput", message, 0)
        return result
    for key, value in values.items():
        if not declared or key in declared:
            result["outputs"][key] = json_output(value)
    return result


def failed_result(now: str, error: InputMissing | ResultLost | PodNotPossible) -> Result:
    """A failure that the operator itself finds, before any code could run."""
    if isinstance(error, ResultLost):
        why = failure(Cause.STORAGE, "ResultLost", str(error))
    else:
        why = failure(Cause.USER_ERROR, error.reason, str(error))
    return {
        "startTime": now,
        "completionTime": now,
        "outputs": {},
        "failure": why,
    }


def lease_inputs(
    task: Task,
    run_inputs: Mapping[str, Any],
    upstream: Upstream,
    presign: Callable[[str], str],
    stored_at: Callable[[str, str], str],
) -> dict[str, LeasedInput]:
    """Inputs as a runner takes them. `stored_at(task, output)` is the key of a large output, `presign` makes its URL.

    An input of a tool task that the Run does not give is left out, so that the tool's own default holds.

    Raises:
        InputMissing: the Run or the upstream task did not give it.
    """
    leased: dict[str, LeasedInput] = {}
    for key, source in task.inputs.items():
        reference = reference_of(source)
        if source.payload is not None:
            leased[key] = _from_payload(source.payload, presign)
        elif reference is None:
            leased[key] = {"value": _literal(task, key, source, run_inputs, upstream)}
        elif reference.task is not None:
            output = _output(upstream, reference.task, reference.key, key)
            leased[key] = _from_output(output, partial(_presigned, presign, stored_at, reference.task, reference.key))
        elif reference.key in run_inputs or task.tool is None:
            leased[key] = {"value": _run_input(run_inputs, reference.key, key)}
    return leased


def reference_of(source: Input) -> Reference | None:
    """What the input as a whole refers to, if it does; a template that is nothing but a reference counts."""
    text = source.from_ if source.from_ is not None else find_reference(source.template)
    return parse_reference(text) if text is not None else None


def _literal(task: Task, key: str, source: Input, run_inputs: Mapping[str, Any], upstream: Upstream) -> Any:
    """A value, or a template with its references filled in; null stands for what a tool task is not given."""
    if source.template is None:
        return source.value

    def resolve(text: str) -> Any:
        reference = parse_reference(text)
        if reference.task is None:
            if task.tool is not None:
                return run_inputs.get(reference.key)
            return _run_input(run_inputs, reference.key, key)
        output = _output(upstream, reference.task, reference.key, key)
        if "value" not in output:
            raise InputMissing(
                f"input '{key}' has {text} inside a template, but that is a Python object or file, or larger than 64 KiB;"
                " a template takes plain JSON values, so make it an input of its own"
            )
        return output["value"]

    return fill(source.template, resolve)


def container_inputs(task: Task, run_inputs: Mapping[str, Any], upstream: Upstream) -> dict[str, Any]:
    """Inputs as plain JSON values; a container gets no pickles.

    Raises:
        InputMissing: not given, not JSON, or (for now) too large to travel inside the result.
    """
    values: dict[str, Any] = {}
    for key, leased in lease_inputs(task, run_inputs, upstream, lambda key: key, lambda task, key: key).items():
        if "value" not in leased:
            raise InputMissing(
                f"input '{key}' is a pickled Python object or larger than 64 KiB, which a container can't take;"
                " give it plain JSON values"
            )
        values[key] = leased["value"]
    return values


def _presigned(presign: Callable[[str], str], stored_at: Callable[[str, str], str], task: str, key: str) -> str:
    return presign(stored_at(task, key))


def _from_payload(payload: InputPayload, presign: Callable[[str], str]) -> LeasedInput:
    leased: LeasedInput = {
        "encoding": payload.encoding,
        "stored": {"url": presign(payload.key), "sha256": payload.sha256, "size": payload.size},
    }
    if payload.file_name is not None:
        leased["fileName"] = payload.file_name
    return leased


def _run_input(run_inputs: Mapping[str, Any], name: str, key: str) -> Any:
    if name not in run_inputs:
        raise InputMissing(
            f"input '{key}' comes from input.{name}, which the Run does not give; it gives {_quoted(run_inputs) or 'none'}"
        )
    return run_inputs[name]


def _output(upstream: Upstream, task: str, name: str, key: str) -> Output:
    outputs = upstream[task]["outputs"]
    if name not in outputs:
        raise InputMissing(
            f"input '{key}' needs {task}.output.{name}, which task '{task}' did not return;"
            f" it returned {_quoted(outputs) or 'nothing'}"
        )
    return outputs[name]


def _from_output(output: Output, url: Callable[[], str]) -> LeasedInput:
    if "value" in output:
        return {"value": output["value"]}
    stored: Stored = {"sha256": output["sha256"], "size": output["size"]}
    if "data" in output:
        stored["data"] = output["data"]
    else:
        stored["url"] = url()
    leased: LeasedInput = {"encoding": output["encoding"], "stored": stored}
    if "fileName" in output:
        leased["fileName"] = output["fileName"]
    return leased


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in list(names)[:10])
