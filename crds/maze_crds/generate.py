"""Writes the CRD YAML from the models: `python -m maze_crds.generate [--check] DIRECTORY`.

Turns Pydantic's JSON Schema into the structural schema that Kubernetes takes: references written out, `X | None` as an
optional X, no titles and defaults, descriptions kept.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from maze_crds import names
from maze_crds.base import GROUP, VERSION
from maze_crds.run import RunSpec, RunStatus, TaskSlice
from maze_crds.worker import WorkerPoolSpec, WorkerPoolStatus, WorkerSpec, WorkerStatus
from maze_crds.workflow import WorkflowSpec

Schema = dict[str, Any]

HEADER = "# Generated from the models in maze_crds by `make crds`. Do not edit.\n"

RUN_RULES = [
    {
        "rule": "has(self.workflowRef) != has(self.workflow) ||"
        " (has(self.problemId) && !has(self.workflowRef) && !has(self.workflow))",
        "message": "give exactly one of workflowRef and workflow (a Run with a problemId may have neither:"
        " an external worker executes it)",
    },
    {"rule": "!has(self.claim) || has(self.problemId)", "message": "only a Run with a problemId can be claimed"},
    {"rule": "!has(self.opRun) || !has(self.problemId)", "message": "give at most one of opRun and problemId"},
    {
        "rule": "has(self.opRun) || (!has(self.override) && (!has(self.retries) || self.retries == 0))",
        "message": "only a Run with opRun can be retried or overridden",
    },
    {
        "rule": "!has(oldSelf.retries) || (has(self.retries) && self.retries >= oldSelf.retries)",
        "message": "retries only grows",
    },
    {
        "rule": "!has(oldSelf.desiredState) || oldSelf.desiredState != 'Cancelled' ||"
        " (has(self.desiredState) && self.desiredState == 'Cancelled') ||"
        " (has(self.retries) && self.retries > (has(oldSelf.retries) ? oldSelf.retries : 0)) ||"
        " (has(self.override) && has(self.override.state) && (!has(oldSelf.override) ||"
        " !has(oldSelf.override.state) || self.override.state.number > oldSelf.override.state.number))",
        "message": "a cancelled Run stays cancelled (an OpRun until it is retried or overridden); create a new one",
    },
]
IMMUTABLE = (
    "workflowRef",
    "workflow",
    "inputs",
    "parallelism",
    "ttlSecondsAfterFinished",
    "timeoutSeconds",
    "problemId",
    "queuedTime",
    "priorityClassName",
    "opRun",
)
WISHES = "desiredState, priority, claim, retries and override"


def structural(model: type[BaseModel]) -> Schema:
    """The OpenAPI v3 structural schema of a model, by its JSON names."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    definitions = schema.pop("$defs", {})
    result = _convert(schema, definitions)
    assert isinstance(result, dict)
    return result


def _convert(node: Any, definitions: Schema) -> Any:
    if isinstance(node, list):
        return [_convert(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = dict(definitions[node["$ref"].rsplit("/", 1)[1]])
        return _convert({**target, **{k: v for k, v in node.items() if k != "$ref"}}, definitions)
    if "anyOf" in node and not node.get("x-kubernetes-int-or-string"):
        choices = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
        if len(choices) != 1:
            raise TypeError(f"a structural schema has no union: {json.dumps(node)[:200]}")
        rest = {k: v for k, v in node.items() if k not in ("anyOf", "default")}
        return _convert({**choices[0], **rest}, definitions)
    skipped = {"title", "default", "const", "propertyNames"} | (
        {"additionalProperties"} if node.get("additionalProperties") is False else set()
    )
    converted: Schema = {}
    for name, value in node.items():
        if name == "properties":
            converted[name] = {key: _convert(item, definitions) for key, item in value.items()}
        elif name not in skipped:
            converted[name] = _convert(value, definitions) if name in ("items", "additionalProperties") else value
    return converted


def crd(
    kind: str,
    plural: str,
    short: str,
    spec: Schema,
    status: Schema | None,
    columns: list[Schema],
    scalable: bool = False,
) -> Schema:
    """One CustomResourceDefinition with the status subresource where it has a status; scalable: by spec.replicas."""
    properties: Schema = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": spec,
    }
    version: Schema = {"name": VERSION, "served": True, "storage": True}
    if status is not None:
        properties["status"] = status
        version["subresources"] = {"status": {}}
        if scalable:
            version["subresources"]["scale"] = {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
            }
    version["schema"] = {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": properties}}
    version["additionalPrinterColumns"] = columns
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["maze"],
            },
            "versions": [version],
        },
    }


def plain_crd(kind: str, plural: str, short: str, fields: Schema, columns: list[Schema]) -> Schema:
    """One CustomResourceDefinition of a kind that has neither spec nor status, but these fields."""
    made = crd(kind, plural, short, {}, None, columns)
    schema = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    del schema["properties"]["spec"]
    schema["properties"] |= fields["properties"]
    schema["required"] = fields["required"]
    return made


def immutable_policy() -> list[Schema]:
    """Refuses changes to a Run's spec. A policy and not a rule of the CRD: rules see no free-form JSON such as inputs."""
    validations = [
        {
            "expression": f"has(object.spec.{field}) == has(oldObject.spec.{field}) &&"
            f" (!has(object.spec.{field}) || object.spec.{field} == oldObject.spec.{field})",
            "message": f"{field} of a Run can't be changed (only {WISHES} can); create a new Run",
        }
        for field in IMMUTABLE
    ]
    return _policy("immutable", "UPDATE", validations)


def valid_policy(workflow: Schema) -> list[Schema]:
    """The rules for the tasks of a Run's inline workflow, which this removes from its schema.

    The rules of a CRD are checked again, for every task, whenever a status is written; so is a list map merged and its
    fields are tracked one by one. With 1,000 tasks that is five sixths of what a status write costs.
    """
    tasks = workflow["properties"]["tasks"]
    tasks["x-kubernetes-list-type"] = "atomic"
    del tasks["x-kubernetes-list-map-keys"]
    validations = []
    for path, rule in _take_rules(tasks["items"], "t"):
        parts = path.split(".")
        absent = [f"!has({'.'.join(parts[:end])})" for end in range(2, len(parts) + 1)]
        fits = " || ".join([*absent, "(" + re.sub(r"\bself\b", path, rule["rule"]) + ")"])
        wrong = f"object.spec.workflow.tasks.filter(t, !({fits})).map(t, t.name)"
        validations.append(
            {
                "expression": f"!has(object.spec.workflow) || !has(object.spec.workflow.tasks) ||"
                f" object.spec.workflow.tasks.all(t, {fits})",
                "message": rule["message"],
                "messageExpression": f"{json.dumps(rule['message'])} + ' (tasks: ' + {wrong}.join(', ') + ')'",
            }
        )
    return _policy("valid", "CREATE", validations)


def _take_rules(node: Schema, path: str) -> list[tuple[str, Schema]]:
    found = [(path, rule) for rule in node.pop("x-kubernetes-validations", ())]
    for name, child in node.get("properties", {}).items():
        found += _take_rules(child, f"{path}.{name}")
    return found


def _policy(word: str, operation: str, validations: list[Schema]) -> list[Schema]:
    name = f"{word}-runs.{GROUP}"
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    rule = {"apiGroups": [GROUP], "apiVersions": [VERSION], "operations": [operation], "resources": ["runs"]}
    policy = {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]}, "validations": validations}
    return [
        {**api, "kind": "ValidatingAdmissionPolicy", "spec": policy},
        {
            **api,
            "kind": "ValidatingAdmissionPolicyBinding",
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]


def column(name: str, path: str, kind: str = "string", wide: bool = False, description: str = "") -> Schema:
    made: Schema = {"name": name, "type": kind, "jsonPath": path}
    if wide:
        made["priority"] = 1
    if description:
        made["description"] = description
    return made


def all_crds() -> dict[str, Schema]:
    """File name → CustomResourceDefinition."""
    run_spec = structural(RunSpec)
    run_spec["x-kubernetes-validations"] = RUN_RULES
    valid_policy(run_spec["properties"]["workflow"])
    age = column("Age", ".metadata.creationTimestamp", "date")
    run_columns = [
        column("Phase", ".status.phase"),
        column("Progress", ".status.progress", description="ended tasks / all tasks"),
        column("Failed", ".status.counts.failed", "integer"),
        column("Reason", ".status.reason"),
        column("Message", ".status.message", wide=True),
        column("Problem", ".spec.problemId", wide=True),
        column("Worker", ".status.worker", wide=True),
        column("Started", ".status.startTime", "date", wide=True),
        column("Finished", ".status.completionTime", "date"),
        age,
    ]
    workflow_columns = [
        column("Description", ".spec.description"),
        age,
    ]
    pool_columns = [
        column("Replicas", ".spec.replicas", "integer"),
        column("Running", ".spec.running", "boolean"),
        column("Members", ".status.members"),
        age,
    ]
    worker_columns = [
        column("Backend", ".spec.backendType"),
        column("Internal", ".spec.internal", "boolean"),
        column("State", ".status.state"),
        column("Completed", ".status.tasksCompleted", "integer"),
        column("Failed", ".status.tasksFailed", "integer"),
        age,
    ]
    slice_columns = [
        column("Run", f".metadata.labels.{names.LABEL_RUN}".replace("maze.dev/", "maze\\.dev/")),
        column("Number", ".number", "integer"),
        column("Revision", ".revision", "integer"),
        age,
    ]
    return {
        "taskslices.maze.dev.yaml": plain_crd("TaskSlice", "taskslices", "mts", structural(TaskSlice), slice_columns),
        "workflows.maze.dev.yaml": crd("Workflow", "workflows", "wf", structural(WorkflowSpec), None, workflow_columns),
        "runs.maze.dev.yaml": crd("Run", "runs", "mr", run_spec, structural(RunStatus), run_columns),
        "workers.maze.dev.yaml": crd(
            "Worker", "workers", "mw", structural(WorkerSpec), structural(WorkerStatus), worker_columns
        ),
        "workerpools.maze.dev.yaml": crd(
            "WorkerPool",
            "workerpools",
            "mwp",
            structural(WorkerPoolSpec),
            structural(WorkerPoolStatus),
            pool_columns,
            scalable=True,
        ),
    }


def rendered() -> dict[str, str]:
    """File name → text. JSON is YAML, and needs no YAML library to be stable."""
    objects = {name: [crd] for name, crd in all_crds().items()}
    objects["immutable-runs.yaml"] = immutable_policy()
    objects["valid-runs.yaml"] = valid_policy(structural(RunSpec)["properties"]["workflow"])
    files = {
        name: HEADER + "---\n".join(json.dumps(part, indent=1) + "\n" for part in parts)
        for name, parts in objects.items()
    }
    files["kustomization.yaml"] = "resources:\n" + "".join(f"  - {name}\n" for name in sorted(files))
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on a difference")
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    stale = []
    for name, text in rendered().items():
        path = arguments.directory / name
        if not path.exists() or path.read_text() != text:
            stale.append(str(path))
            if not arguments.check:
                path.write_text(text)
    if arguments.check and stale:
        sys.stderr.write(f"not up to date: {', '.join(stale)}; run `make crds`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
