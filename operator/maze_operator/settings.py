"""Everything the environment sets, read once at start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import ConfigDict, TypeAdapter, ValidationError

from maze_crds.quantity import parse_quantity
from maze_operator.core.values import Settings, SpareKind

LEASE_NAME = "maze-operator"


class SettingsError(Exception):
    """A variable is missing or not what it must be; the text names it."""


@dataclass(frozen=True)
class ShellSettings:
    """What the shell needs beside the core's policy."""

    hmac_key: bytes
    identity: str
    namespace: str
    port: int
    bind: str
    log_level: str
    api_token: str = ""
    """What the api proves itself with when it forwards reports of external workers; empty: none are taken."""
    relist_seconds: float = 60.0
    election_seconds: float = 10.0
    url_seconds: int = 7 * 24 * 3600 - 60
    """How long presigned URLs hold: SigV4 allows at most a week."""


def read_settings(environ: Mapping[str, str] = os.environ) -> tuple[Settings, ShellSettings]:
    """Core policy and shell settings.

    Raises:
        SettingsError: a variable is missing or malformed.
    """
    core = Settings(
        default_image=_required(environ, "MAZE_RUNNER_IMAGE"),
        report_url=_required(environ, "MAZE_REPORT_URL").rstrip("/"),
        image_pull_policy=environ.get("MAZE_IMAGE_PULL_POLICY", "IfNotPresent"),
        cpu_request_fraction=_number(environ, "MAZE_CPU_REQUEST_FRACTION", 1.0),
        gpu_resource=environ.get("MAZE_GPU_RESOURCE", "nvidia.com/gpu"),
        gpu_memory_label=environ.get("MAZE_GPU_MEMORY_LABEL", "nvidia.com/gpu.memory"),
        shared_gpu_resource=environ.get("MAZE_SHARED_GPU_RESOURCE") or None,
        shared_gpu_parts=int(_number(environ, "MAZE_SHARED_GPU_PARTS", 1)),
        image_pull_timeout=_number(environ, "MAZE_IMAGE_PULL_TIMEOUT_SECONDS", 300),
        unschedulable_timeout=_number(environ, "MAZE_UNSCHEDULABLE_TIMEOUT_SECONDS", 3600),
        container_start_timeout=_number(environ, "MAZE_CONTAINER_START_TIMEOUT_SECONDS", 60),
        pod_retention=_number(environ, "MAZE_POD_RETENTION_SECONDS", 3600),
        workflow_missing_timeout=_number(environ, "MAZE_WORKFLOW_MISSING_TIMEOUT_SECONDS", 60),
        max_assignments=int(_number(environ, "MAZE_MAX_ASSIGNMENTS", 5)),
        tools_image=environ.get("MAZE_TOOLS_IMAGE") or None,
        mcp_server_url=environ.get("MCP_SERVER_URL") or None,
        share_process_namespace=_flag(environ, "MAZE_SHARE_PROCESS_NAMESPACE", True),
        priority_classes=_priority_classes(environ.get("MAZE_PRIORITY_CLASSES", "")),
        event_sink=_event_sink(environ.get("MAZE_EVENT_SINK_URL", "")),
        idle_seconds=_number(environ, "MAZE_POD_IDLE_SECONDS", 5),
        pods_starting=int(_number(environ, "MAZE_PODS_STARTING", 8)),
        pods_starting_total=int(_number(environ, "MAZE_PODS_STARTING_TOTAL", 64)),
        pods_per_run=int(_number(environ, "MAZE_PODS_PER_RUN", 100)),
        pods_waiting=int(_number(environ, "MAZE_PODS_WAITING", 100)),
        spares=_spares(environ.get("MAZE_SPARE_PODS", "")),
    )
    key = _required(environ, "MAZE_RUNNER_HMAC_KEY").encode()
    if len(key) < 32:
        raise SettingsError("MAZE_RUNNER_HMAC_KEY is shorter than 32 characters; make one with `openssl rand -hex 32`")
    shell = ShellSettings(
        hmac_key=key,
        identity=environ.get("POD_NAME") or f"local-{os.getpid()}",
        namespace=environ.get("POD_NAMESPACE", "maze-system"),
        port=int(_number(environ, "MAZE_REPORT_PORT", 8081)),
        bind=environ.get("MAZE_REPORT_BIND", "0.0.0.0"),
        log_level=environ.get("LOG_LEVEL", "info").upper(),
        api_token=environ.get("MAZE_API_TOKEN", ""),
    )
    return core, shell


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name)
    if not value:
        raise SettingsError(f"the environment variable {name} is not set; the manifests in manifests/base set it")
    return value


def _flag(environ: Mapping[str, str], name: str, default: bool) -> bool:
    text = environ.get(name, "").lower()
    if text not in ("", "true", "false"):
        raise SettingsError(f"the environment variable {name} must be true or false, not '{text}'")
    return text == "true" if text else default


def _priority_classes(text: str) -> tuple[tuple[int, str], ...]:
    """ "NAME=LEAST,…" with the least priority of each class."""
    found = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _, least = part.partition("=")
        try:
            found.append((int(least), name.strip()))
        except ValueError:
            raise SettingsError(
                f"the environment variable MAZE_PRIORITY_CLASSES must be like 'normal=0,high=5', not '{part}'"
            ) from None
    return tuple(sorted(found))


def _spares(text: str) -> tuple[SpareKind, ...]:
    """A JSON list of objects with the fields of SpareKind."""
    if not text.strip():
        return ()
    try:
        found = TypeAdapter(list[SpareKind], config=ConfigDict(extra="forbid")).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _no_spares(".".join(map(str, first["loc"])), first["msg"]) from None
    for number, kind in enumerate(found):
        problem = _problem_of(kind)
        if problem:
            raise _no_spares(str(number), problem)
        if any(kind == replace(other, count=kind.count) for other in found[:number]):
            raise _no_spares(str(number), "there is one like it already")
    return tuple(found)


def _problem_of(kind: SpareKind) -> str | None:
    if not kind.namespace:
        return "namespace is empty"
    if kind.count < 0:
        return "count is negative"
    for field in ("cpu", "memory"):
        text = getattr(kind, field)
        try:
            if text is not None and parse_quantity(text) <= 0:
                return f"{field} must be more than 0; leave it out for no limit"
        except ValueError as error:
            return f"{field}: {error}"
    return None


def _no_spares(where: str, problem: str) -> SettingsError:
    return SettingsError(
        "the environment variable MAZE_SPARE_PODS must be a JSON list like"
        f' [{{"namespace": "maze", "count": 2, "cpu": "1"}}]: {where + ": " if where else ""}{problem}'
    )


def _event_sink(text: str) -> str | None:
    if text and not text.startswith(("http://", "https://")):
        raise SettingsError(f"the environment variable MAZE_EVENT_SINK_URL must be an http(s) URL, not '{text}'")
    return text or None


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name)
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        raise SettingsError(f"the environment variable {name} must be a number, not '{text}'") from None
