"""Inputs of a Run against the inputSchema of its workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema

from maze_crds.graph import parse_reference
from maze_crds.workflow import WorkflowSpec


def fill_defaults(spec: WorkflowSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs, with the schema's `default` for properties that are not given."""
    properties = (spec.input_schema or {}).get("properties")
    declared = properties if isinstance(properties, dict) else {}
    defaults = {key: part["default"] for key, part in declared.items() if isinstance(part, dict) and "default" in part}
    return {**defaults, **given}


def check_inputs(spec: WorkflowSpec, inputs: Mapping[str, Any]) -> list[str]:
    """All that is wrong, one sentence each; empty: they fit."""
    problems = []
    if spec.input_schema is not None:
        try:
            jsonschema.Draft202012Validator.check_schema(spec.input_schema)
        except jsonschema.SchemaError as error:
            return [f"the workflow's inputSchema is not a JSON Schema: {error.message}"]
        validator = jsonschema.Draft202012Validator(spec.input_schema)
        for found in sorted(validator.iter_errors(dict(inputs)), key=lambda e: list(map(str, e.path))):
            where = ".".join(map(str, found.path))
            problems.append(f"inputs{'.' + where if where else ''}: {found.message}")
    for task in spec.tasks:
        for key, source in task.inputs.items():
            reference = parse_reference(source.from_) if source.from_ is not None else None
            if reference is not None and reference.task is None and reference.key not in inputs:
                missing = f"task '{task.name}' takes its input '{key}' from input.{reference.key}"
                problems.append(f"{missing}, which is not given; add it to spec.inputs of the Run")
    return problems
