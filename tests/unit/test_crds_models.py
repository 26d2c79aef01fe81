"""Models, quantities, names and the generated CRDs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from builders import python_task, workflow
from maze_crds import names
from maze_crds.generate import all_crds, structural
from maze_crds.quantity import format_bytes, format_cpu, parse_quantity
from maze_crds.run import RunSpec
from maze_crds.workflow import WorkflowSpec


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("500m", Decimal("0.5")),
        ("1.5", Decimal("1.5")),
        ("128M", 128_000_000),
        ("1Gi", 1024**3),
        ("2Ti", 2 * 1024**4),
    ],
)
def test_quantities_are_read_exactly(text: str, value: Decimal) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "m", "1X", "-1", "1e3", "one"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a quantity|conversion|Decimal"):
        parse_quantity(text)


def test_quantities_are_rounded_up_so_that_nobody_gets_less_than_asked() -> None:
    assert format_cpu(Decimal("0.0001")) == "1m"
    assert format_bytes(Decimal("10.1")) == "11"


def test_pod_names_are_valid_and_differ_for_every_attempt() -> None:
    made = {
        names.pod_name("My_Run.x" * 9, uid, task, attempt)
        for uid in "ab"
        for task in ("T_1", "t-1")
        for attempt in (1, 2)
    }
    assert len(made) == 8
    for name in made:
        assert len(name) <= 63
        assert name[0].isalnum()
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize(
    "broken",
    [
        {"tasks": []},
        {"tasks": [{"name": "has.dot", "python": {"source": "x"}}]},
        {"tasks": [python_task("t", inputs={"x": {"from": "nonsense"}})]},
        {"tasks": [python_task("t", unknown=1)]},
        {"tasks": [python_task("t", timeoutSeconds=0)]},
        {"tasks": [python_task("t", resources={"memory": "lots"})]},
    ],
)
def test_what_the_api_server_refuses_the_models_refuse_too(broken: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WorkflowSpec.model_validate(broken)


def test_numbers_are_taken_as_quantities() -> None:
    spec = workflow(python_task("t", resources={"cpu": 2, "gpu": 0.5}))
    assert spec.tasks[0].resources is not None
    assert (spec.tasks[0].resources.cpu, spec.tasks[0].resources.gpu) == ("2", "0.5")


def forbidden(node: Any, path: str = "") -> list[str]:
    """Places with keywords that a structural schema must not have."""
    found = []
    if isinstance(node, dict):
        banned = {"$ref", "$defs", "const", "title", "default", "propertyNames", "exclusiveMinimum"}
        named = path.endswith(".properties")
        found += [f"{path}.{key}" for key in node if key in banned and not named]
        for key, value in node.items():
            found += forbidden(value, f"{path}.{key}")
    elif isinstance(node, list):
        for item in node:
            found += forbidden(item, path + "[]")
    return found


def test_the_generated_schemas_are_structural() -> None:
    assert [place for crd in all_crds().values() for place in forbidden(crd)] == []


def test_a_literal_null_and_a_reference_can_be_told_apart() -> None:
    schema = structural(WorkflowSpec)["properties"]["tasks"]["items"]["properties"]["inputs"]["additionalProperties"]
    assert (schema["minProperties"], schema["maxProperties"]) == (1, 1)
    assert schema["properties"]["value"]["nullable"] is True


def test_a_run_keeps_its_inputs_as_they_are() -> None:
    spec = RunSpec.model_validate(
        {"workflowRef": {"name": "w"}, "inputs": {"a": {"from": "x"}, "b": None, "c": [1, 2.5]}}
    )
    assert spec.inputs == {"a": {"from": "x"}, "b": None, "c": [1, 2.5]}
