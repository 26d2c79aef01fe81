"""Scenarios: a definition file and a Workflow labelled as a scenario are two notations of one thing. Pure.

    to_workflow(definition)  the Workflow; keeps the definition in an annotation, as it was given
    to_definition(workflow)  that definition, while it still means the same as the spec; else one made from the spec

Steps are tool tasks. A step that says nothing of `depends_on` waits for all steps before it: for those of them that no
other one waits for. An input is a `value`, a `from`, or a `template` where references are inside.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from maze_crds import names, templates
from maze_crds.base import API_VERSION
from maze_crds.graph import check_workflow
from maze_crds.scenario_files import PRIVATE, SCHEMA_VERSION, Definition, Step, unstorable
from maze_crds.workflow import Defaults as TaskDefaults
from maze_crds.workflow import EnvVar, Input, Resources, Retry, Task, ToolExecutor, ToolServer, WorkflowSpec

Json = dict[str, Any]

MAX_BYTES = 200_000
"""Of a definition as compact JSON: Kubernetes takes 256 KiB of annotations."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")


class ScenarioError(Exception):
    """A definition that is none, or a Workflow that no definition can tell. `problems`: all of them, one sentence each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


def workflow_name(scenario_id: str) -> str:
    """Name of the Workflow: the id where that can be a Kubernetes name, else a readable start and a hash."""
    if len(scenario_id) <= 200 and _NAME.fullmatch(scenario_id):
        return scenario_id
    readable = _NOT_IN_NAMES.sub("-", scenario_id[:100].lower()).strip("-") or "scenario"
    return f"{readable}-{hashlib.sha256(scenario_id.encode()).hexdigest()[:10]}"


def to_workflow(definition: Mapping[str, Any]) -> Json:
    """The Workflow object, without a namespace.

    Raises:
        ScenarioError: all that is wrong.
    """
    given = dict(definition)
    if found := unstorable(given):
        raise ScenarioError(found)
    text = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
    if (size := len(text.encode())) > MAX_BYTES:
        raise ScenarioError(
            [f"the definition has {size} bytes, more than {MAX_BYTES}; split it into several scenarios"]
        )
    parsed, spec = _parse(given)
    return {
        "apiVersion": API_VERSION,
        "kind": "Workflow",
        "metadata": {
            "name": workflow_name(parsed.scenario_id),
            "labels": {names.LABEL_SCENARIO: "true"},
            "annotations": {names.ANNOTATION_SCENARIO_ID: parsed.scenario_id, names.ANNOTATION_SCENARIO: text},
        },
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
    }


def is_scenario(workflow: Json) -> bool:
    return (workflow["metadata"].get("labels") or {}).get(names.LABEL_SCENARIO) == "true"


def scenario_id(workflow: Json) -> str:
    """Its id: that of the annotation, else the name of the Workflow."""
    annotations = workflow["metadata"].get("annotations") or {}
    return str(annotations.get(names.ANNOTATION_SCENARIO_ID) or workflow["metadata"]["name"])


def to_definition(workflow: Json) -> Json:
    """The definition of a Workflow object.

    Raises:
        ScenarioError: no definition can say what it says, such as tasks that are no tools.
    """
    try:
        spec = WorkflowSpec.model_validate(workflow["spec"])
    except ValidationError as error:
        raise ScenarioError(_explain(error)) from error
    given = _given(workflow)
    if given is not None:
        try:
            parsed, meant = _parse(given)
        except ScenarioError:
            given = None
        else:
            if parsed.scenario_id == scenario_id(workflow) and same(_full(meant), _full(spec)):
                return given
    return derive(spec, scenario_id(workflow), given or {})


def _given(workflow: Json) -> Json | None:
    text = (workflow["metadata"].get("annotations") or {}).get(names.ANNOTATION_SCENARIO)
    try:
        found = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _full(spec: WorkflowSpec) -> Json:
    """Every field, defaults too. What an input is depends on which field is set, a null value included."""
    full = spec.model_dump(mode="json")
    for task, made in zip(full["tasks"], spec.tasks, strict=True):
        task["inputs"] = {
            key: source.model_dump(mode="json", exclude_unset=True) for key, source in made.inputs.items()
        }
        task["depends_on"] = task["depends_on"] or None
    return full


# From a definition to a spec.


def _parse(given: Json) -> tuple[Definition, WorkflowSpec]:
    try:
        parsed = Definition.model_validate(given)
    except ValidationError as error:
        raise ScenarioError(_explain(error)) from error
    problems: list[str] = []
    tasks: list[Task] = []
    for number, step in enumerate(parsed.steps):
        try:
            tasks.append(_task(step, parsed, leaves(tasks)))
        except ValidationError as error:
            problems += [f"steps.{number}.{text}" for text in _explain(error)]
    if problems:
        raise ScenarioError(problems)
    spec = WorkflowSpec(tasks=tasks, **_top(parsed))
    if problems := check_workflow(spec):
        raise ScenarioError(as_scenario_text(problem) for problem in problems)
    return parsed, spec


def as_scenario_text(problem: str) -> str:
    """What is said of a workflow, in the words of a scenario."""
    words = {
        "inputs of this workflow": "input of this scenario",
        "task of this workflow": "step of this scenario",
        "the workflow's inputSchema": "the input_schema",
        "two tasks": "two steps",
        "the tasks wait": "the steps wait",
        "task '": "step '",
    }
    for before, after in words.items():
        problem = problem.replace(before, after)
    return problem


def leaves(tasks: Sequence[Task]) -> list[str]:
    """Those that no other one depends on."""
    needed = {name for task in tasks for name in task.depends_on or ()}
    return [task.name for task in tasks if task.name not in needed]


def _top(parsed: Definition) -> Json:
    found: Json = {key: getattr(parsed, key) for key in ("description", "input_schema", "parallelism", "problems")}
    if parsed.defaults is not None:
        said = {key: getattr(parsed.defaults, key) for key in TaskDefaults.model_fields}
        made = {**said, "retry": _into(Retry, said["retry"]), "resources": _into(Resources, said["resources"])}
        found["defaults"] = TaskDefaults(**_said(made))
    return _said(found)


def _task(step: Step, parsed: Definition, before: list[str]) -> Task:
    tool = {
        "name": step.tool,
        "server": _into(ToolServer, step.server or parsed.server),
        "required_inputs": step.required_input_fields,
        "image": step.image,
    }
    wants = step.depends_on if step.depends_on is not None else before
    made: Json = {
        "display_name": step.display_name,
        "outputs": step.outputs if step.output is None else [step.output],
        "depends_on": wants or None,
        "env": None if step.env is None else [EnvVar(name=name, value=value) for name, value in step.env.items()],
        "resources": _into(Resources, step.resources),
        "retry": _into(Retry, step.retry),
        "timeout_seconds": step.timeout_seconds,
        "priority": step.priority or None,
        "isolation": step.isolation,
    }
    inputs = {key: _input(value) for key, value in step.input.items()}
    return Task(name=step.name, tool=ToolExecutor(**_said(tool)), inputs=inputs, **_said(made))


def _input(value: Any) -> Input:
    reference = templates.find_reference(value)
    if reference is not None:
        return Input(from_=reference)
    return Input(template=value) if templates.references(value) else Input(value=value)


def _into(model: type[BaseModel], part: BaseModel | None) -> Any:
    """The same fields as another model, those that were said."""
    return None if part is None else model(**part.model_dump(exclude_none=True, exclude_unset=True))


def _said(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if value is not None}


def _explain(error: ValidationError) -> list[str]:
    """One sentence for each problem, with its place."""
    found = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(map(str, item["loc"]))
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            text = f"there is no such field; fields for other programs start with {PRIVATE}"
        found.append(f"{place or 'the definition'}: {text}")
    return found


# From a spec to a definition.


def derive(spec: WorkflowSpec, identity: str, known: Mapping[str, Any]) -> Json:
    """A definition of the spec. `known`: an earlier one, for what a spec does not hold: its name, and private fields.

    Raises:
        ScenarioError: no definition can say it.
    """
    problems = [problem for task in spec.tasks for problem in _untellable(task)]
    if problems:
        raise ScenarioError(problems)
    shared = _shared_server(spec)
    dumped = spec.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    name = known.get("name")
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario_id": identity,
        "name": name if isinstance(name, str) else identity,
        **{key: dumped[key] for key in ("description", "input_schema") if key in dumped},
        **({"server": _plain(shared)} if shared is not None else {}),
        **{key: dumped[key] for key in ("defaults", "parallelism", "problems") if key in dumped},
        **{key: value for key, value in known.items() if key.startswith(PRIVATE)},
        "steps": [_step(task, leaves(spec.tasks[:number]), shared) for number, task in enumerate(spec.tasks)],
    }


def _untellable(task: Task) -> list[str]:
    problems = []
    if task.tool is None:
        problems.append(f"task '{task.name}' is not a tool; steps of scenarios are")
    for key, source in task.inputs.items():
        if source.payload is not None:
            problems.append(f"input '{key}' of task '{task.name}' is a payload, which a scenario can't have")
        if "value" in source.model_fields_set and templates.references(source.value):
            problems.append(f"input '{key}' of task '{task.name}' is literal, but reads like a reference")
    return problems


def _shared_server(spec: WorkflowSpec) -> ToolServer | None:
    """The server of all steps, where it is one."""
    servers = [task.tool.server for task in spec.tasks if task.tool is not None]
    first = servers[0] if servers else None
    return first if first is not None and all(server == first for server in servers) else None


def _step(task: Task, before: list[str], shared: ToolServer | None) -> Json:
    assert task.tool is not None
    said: Json = {"name": task.name, "type": "tool", "tool": task.tool.name}
    said["input"] = {key: _written(source) for key, source in task.inputs.items()}
    said["required_input_fields"] = task.tool.required_inputs
    said["server"] = _plain(task.tool.server) if task.tool.server is not None and shared is None else None
    said["image"] = task.tool.image
    said["env"] = None if task.env is None else {each.name: each.value for each in task.env}
    said["priority"] = task.priority or None
    for key in ("display_name", "outputs", "timeout_seconds", "isolation"):
        said[key] = getattr(task, key)
    for key, part in (("resources", task.resources), ("retry", task.retry)):
        said[key] = None if part is None else _plain(part)
    if list(task.depends_on or ()) != before:
        said["depends_on"] = list(task.depends_on or ())
    return _said(said)


def _written(source: Input) -> Any:
    if source.from_ is not None:
        return {templates.KEY: source.from_}
    return source.template if "template" in source.model_fields_set else source.value


def _plain(part: BaseModel) -> Json:
    return part.model_dump(mode="json", exclude_none=True, exclude_unset=True)
