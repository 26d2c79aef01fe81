"""Inputs of a Run against the inputSchema of its workflow. The api refuses what does not fit; the operator fails such a Run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

from maze_crds.graph import input_references, parse_reference
from maze_crds.workflow import Task, WorkflowSpec

MESSAGE_LIMIT = 300
"""Characters of one problem: jsonschema quotes the value."""
_REGEX = jsonschema.FormatChecker(["regex"])
_META = jsonschema.Draft202012Validator(jsonschema.Draft202012Validator.META_SCHEMA, format_checker=_REGEX)


def fill_defaults(spec: WorkflowSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs, with the schema's `default` for properties that are not given."""
    properties = (spec.input_schema or {}).get("properties")
    declared = properties if isinstance(properties, dict) else {}
    defaults = {key: part["default"] for key, part in declared.items() if isinstance(part, dict) and "default" in part}
    return {**defaults, **given}


def schema_problems(schema: Any) -> list[str]:
    """Why this is no JSON Schema, one sentence each; empty: it is one."""
    return [_with_place(found).removeprefix(": ") for found in _META.iter_errors(schema)]


def check_inputs(spec: WorkflowSpec, inputs: Mapping[str, Any]) -> list[str]:
    """All that is wrong, one sentence each; empty: they fit."""
    problems: list[str] = []
    if spec.input_schema is not None:
        if found := schema_problems(spec.input_schema):
            return [f"the workflow's inputSchema is not a JSON Schema: {'; '.join(found)}"]
        problems += _check_schema(spec.input_schema, dict(inputs))
    for task in spec.tasks:
        problems += _missing(task, inputs)
    return problems


def _check_schema(schema: dict[str, Any], inputs: dict[str, Any]) -> Iterator[str]:
    """References to other documents are not followed: a schema must be complete in itself."""
    validator = jsonschema.Draft202012Validator(schema, registry=EMPTY_REGISTRY)
    try:
        found = sorted(validator.iter_errors(inputs), key=lambda error: list(map(str, error.path)))
    except Unresolvable as error:
        yield f"the workflow's inputSchema refers to {error.ref!r}, which is not in it; put it under $defs"
    except RecursionError:
        yield "the workflow's inputSchema refers to itself without an end"
    except re.error as error:
        yield f"the workflow's inputSchema has a pattern that is no regular expression: {error}"
    else:
        yield from (f"inputs{'.' if error.path else ''}{_with_place(error)}" for error in found)


def _with_place(found: jsonschema.ValidationError) -> str:
    """`a.b: what is wrong`; at the top `: what is wrong`."""
    where = ".".join(map(str, found.path))
    return f"{where}: {found.message[:MESSAGE_LIMIT]}"


def _missing(task: Task, inputs: Mapping[str, Any]) -> Iterator[str]:
    """A tool has defaults of its own: an input that the Run does not give is left out of its call."""
    if task.tool is not None:
        return
    for key, source in task.inputs.items():
        for text in input_references(source):
            try:
                reference = parse_reference(text)
            except ValueError:  # check_workflow names it
                continue
            if reference.task is None and reference.key not in inputs:
                missing = f"task '{task.name}' takes its input '{key}' from {text}"
                yield f"{missing}, which is not given; add it to spec.inputs of the Run"
