"""The Workflows that a fresh installation serves: the example problems as they are, and the example scenarios."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from maze_crds.scenario import ScenarioError, to_workflow

from .errors import ClusterError
from .kubectl import Kubectl
from .say import detail

NAMESPACE = "maze"
CRD = "crd/workflows.maze.dev"


def find_problems(examples: Path) -> list[Path]:
    """Manifests of Workflows with `problems`."""
    return sorted((examples / "problems").glob("*.yaml"))


def build_scenarios(examples: Path) -> list[dict[str, Any]]:
    """A Workflow for each scenario definition, JSON or YAML.

    Raises:
        ClusterError: one is not a definition; names the file and says what is wrong.
    """
    files = sorted(path for path in (examples / "scenarios").glob("*") if path.suffix in (".json", ".yaml", ".yml"))
    return [_build_scenario(path) for path in files]


def _build_scenario(path: Path) -> dict[str, Any]:
    try:
        definition = yaml.safe_load(path.read_text())
        return to_workflow(definition)
    except (yaml.YAMLError, TypeError, ValueError, ScenarioError) as error:
        raise ClusterError(f"{path} is not a scenario definition: {error}") from error


def apply_examples(kubectl: Kubectl, examples: Path) -> None:
    """Put them into the cluster, again and again to the same effect."""
    problems = find_problems(examples)
    scenarios = build_scenarios(examples)
    if not problems and not scenarios:
        return
    kubectl.run("wait", "--for=condition=Established", CRD, "--timeout=60s")
    listed = {"apiVersion": "v1", "kind": "List", "items": scenarios}
    files = [argument for path in problems for argument in ("-f", path)]
    kubectl.run(
        "apply", "--server-side", "--force-conflicts", "--field-manager=maze-cluster", "-n", NAMESPACE, *files, "-f", "-",
        stdin=json.dumps(listed), hint="The message above names the object and the field; the files are in examples/.",
    )  # fmt: skip
    detail(f"example problems and scenarios are in namespace {NAMESPACE}")
