"""What the OpenAPI document adds to the routes, and what may get into a path of Kubernetes."""

from __future__ import annotations

from typing import Any

import pytest

from maze_api.deps import can_be_a_name
from maze_api.openapi import possible_errors, with_errors

ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}


@pytest.mark.parametrize(
    ("path", "method", "operation", "statuses"),
    [
        ("/health", "get", {}, set()),
        ("/api/tools", "get", {}, {429, 503}),
        ("/api/v1/tasks", "get", {"parameters": [{}]}, {422, 429, 503}),
        ("/api/v1/tasks", "post", {"requestBody": {}}, {400, 404, 409, 413, 422, 429, 503}),
        ("/api/v1/tasks/{task_id}", "get", {"parameters": [{}]}, {404, 422, 429, 503}),
        ("/api/v1/workers/{worker_id}", "delete", {"parameters": [{}]}, {404, 409, 422, 429, 503}),
    ],
)
def test_errors_follow_from_what_a_call_brings(
    path: str, method: str, operation: dict[str, Any], statuses: set[int]
) -> None:
    assert set(possible_errors(path, method, operation)) == statuses


def test_all_errors_have_our_model_and_what_a_route_says_stays() -> None:
    derived = {"application/json": {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}}
    own = {"description": "Not yet", "content": {"application/json": {"schema": {"$ref": "#/own"}}}}
    responses = {
        "200": {"description": "Fine"},
        "422": {"description": "Validation Error", "content": derived},
        "409": {"description": "Taken"},
        "503": own,
    }
    document = {
        "paths": {"/a": {"post": {"requestBody": {}, "responses": responses}}},
        "components": {"schemas": {"HTTPValidationError": {}, "ValidationError": {}, "Other": {}}},
    }
    made = with_errors(document)["paths"]["/a"]["post"]["responses"]
    assert list(made) == ["200", "400", "404", "409", "413", "422", "429", "503"]
    assert made["200"] == {"description": "Fine"}
    assert made["409"] == {"description": "Taken", "content": ERROR}
    assert made["422"]["content"] == ERROR
    assert made["429"]["headers"]["Retry-After"]["schema"] == {"type": "integer"}
    assert made["503"] == own
    assert set(document["components"]["schemas"]) == {"Other", "Error"}


@pytest.mark.parametrize("name", ["a", "0", "run-1", "a.b", "550e8400-e29b-41d4-a716-446655440000", "x" * 253])
def test_names_of_kubernetes(name: str) -> None:
    assert can_be_a_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\x00", "a\n", "-a", "a-", "a.", "A", "ü", "a b", "%2e", "x" * 254]
)
def test_what_is_no_name_never_gets_into_a_path(name: str) -> None:
    assert not can_be_a_name(name)
