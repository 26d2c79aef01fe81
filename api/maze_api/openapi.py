"""The OpenAPI document: what FastAPI derives from the routes, and the errors that every call of a kind may answer. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from maze_api.middleware import HEALTH

Json = dict[str, Any]

FASTAPI_ERRORS = ("HTTPValidationError", "ValidationError")
"""Models of answers that this api never gives."""
RETRY = {"Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}}
DESCRIPTIONS = {
    400: "The body is not JSON, or asks for what cannot be",
    404: "There is no such thing",
    409: "It does not fit the state that the thing is in",
    413: "The body is larger than MAZE_MAX_JSON_BYTES, or MAZE_MAX_BODY_BYTES for code and payloads",
    422: "The request does not fit",
    429: "More calls in a minute than MAZE_RATE_LIMIT_PER_MINUTE",
    503: "Something that this needs is out of reach",
}


class Error(BaseModel):
    """Every answer that is no success."""

    detail: str = Field(description="What was wrong, where, and what to do.")
    type: str = Field(description="One word for programs.", examples=["not_found"])
    request_id: str = Field(description="Also in the header X-Request-ID, and in the log.")


def with_errors(document: Json) -> Json:
    """The document with all errors of all operations in it."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in FASTAPI_ERRORS:
        schemas.pop(name, None)
    schemas["Error"] = Error.model_json_schema()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            for status in possible_errors(path, method, operation):
                responses.setdefault(str(status), {"description": DESCRIPTIONS[status]})
            operation["responses"] = {
                status: _complete(int(status), responses[status]) for status in sorted(responses, key=int)
            }
    return document


def possible_errors(path: str, method: str, operation: Json) -> list[int]:
    """Statuses of errors by what a call brings: a body, names in its path, parameters."""
    if path in HEALTH:
        return []
    named, body = "{" in path, "requestBody" in operation
    found = [429, 503]
    if body:
        found += [400, 413, 422]
    if operation.get("parameters"):
        found.append(422)
    if named or body:
        found.append(404)
    if (named or body) and method != "get":
        found.append(409)
    return found


def _complete(status: int, response: Json) -> Json:
    """A response with its model, where it is an error and has none, or FastAPI's own."""
    content = response.get("content", {}).get("application/json", {})
    derived = str(content.get("schema", {}).get("$ref", "")).endswith(FASTAPI_ERRORS)
    if status < 400 or (content and not derived):
        return response
    made = {"description": DESCRIPTIONS[422] if derived else response["description"]}
    if status in (429, 503):
        made["headers"] = RETRY
    return {**made, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
