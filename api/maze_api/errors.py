"""Every error the api answers: `{"detail", "type", "request_id"}`, on every surface."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from maze_io.kube import KubeError
from maze_io.store import StoreError

log = logging.getLogger(__name__)

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="-")
"""Of the request being served; the log format prints it."""

RETRY_AFTER = {"Retry-After": "2"}
TYPES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    422: "invalid",
    429: "too_many_requests",
    503: "unavailable",
}


class ApiError(Exception):
    """An answer other than success. `detail` says what was wrong, where, and what to do."""

    status = 500

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})


class BadRequest(ApiError):
    status = 400


class NotFound(ApiError):
    status = 404


class Conflict(ApiError):
    """The call does not fit the state that the thing is in."""

    status = 409


class TooLarge(ApiError):
    status = 413


class Invalid(ApiError):
    status = 422


class TooMany(ApiError):
    """The client calls too often; it may again after `wait` seconds."""

    status = 429

    def __init__(self, detail: str, wait: int) -> None:
        super().__init__(detail, {"Retry-After": str(wait)})


class Unavailable(ApiError):
    """Kubernetes or the object store is out of reach; the same call may succeed later."""

    status = 503

    def __init__(self, detail: str) -> None:
        super().__init__(detail, RETRY_AFTER)


def body(status: int, detail: str) -> dict[str, str]:
    """What every error answers. Lone surrogates that the caller sent are spelled out."""
    said = detail.encode(errors="backslashreplace").decode()
    return {"detail": said, "type": TYPES.get(status, "error"), "request_id": request_id.get()}


def response(error: ApiError) -> JSONResponse:
    return JSONResponse(body(error.status, error.detail), error.status, error.headers)


def translate(error: Exception) -> ApiError:
    """What Kubernetes or the object store said, as our answer."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, KubeError) and error.status == 422:
        return Invalid(f"Kubernetes refused it: {error.message}")
    if isinstance(error, KubeError) and error.status == 413:
        return TooLarge(f"Kubernetes refused it: {error.message}")
    if isinstance(error, (KubeError, StoreError)):
        return Unavailable(str(error))
    raise error


def validation_text(errors: list[dict[str, Any]]) -> str:
    """Pydantic's list as one line: `task_input.input_params.1.key: Field required; …`."""
    return "; ".join(_one_problem(item) for item in errors[:10])


def _one_problem(item: dict[str, Any]) -> str:
    if item["type"] == "json_invalid":
        return f"the body is not JSON: {item['ctx']['error']}, at character {item['loc'][-1]}"
    place = ".".join(str(part) for part in item["loc"] if part != "body")
    return f"{place or 'the body'}: {item['msg']}"


def install(app: FastAPI) -> None:
    """Register the handlers. What none of them knows is answered as 500 by the middleware."""

    async def known(request: Request, error: Exception) -> JSONResponse:
        answer = translate(error)
        if answer.status >= 500:
            log.warning("%s %s: %s", request.method, request.url.path, answer.detail)
        return response(answer)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        problems = list(error.errors())
        not_json = any(item["type"] == "json_invalid" for item in problems)
        return response((BadRequest if not_json else Invalid)(validation_text(problems)))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return JSONResponse(body(error.status_code, str(error.detail)), error.status_code, error.headers)

    for kind in (ApiError, KubeError, StoreError):
        app.add_exception_handler(kind, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
