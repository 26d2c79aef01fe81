"""What all Maze models share: frozen values, camelCase on the wire, unknown fields refused.

Limits are here because three places need the same numbers: the models, the CRD schema and the error texts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

GROUP = "maze.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

MAX_TASKS = 1000
"""Tasks that are written into a Workflow or Run itself. The API server stores objects of at most about 1.5 MiB."""
MAX_STORED_TASKS = 10000
"""Tasks of a workflow that has its list of tasks in the object store."""

NAME_PATTERN = r"^[A-Za-z0-9]([-A-Za-z0-9_]{0,61}[A-Za-z0-9])?$"
"""Task names: what a Kubernetes label value allows, without the dot that separates `<task>.output.<key>`."""

REFERENCE_PATTERN = r"^(input\..+|[A-Za-z0-9]([-A-Za-z0-9_]{0,61}[A-Za-z0-9])?\.output\..+)$"
QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
"""Non-negative Kubernetes quantities in decimal notation."""


class Model(BaseModel):
    """A frozen value; Python names are snake_case, JSON names are camelCase."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with microseconds, as Kubernetes' MicroTime prints it."""
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Time = Annotated[
    datetime,
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A point in time, always aware and in UTC."""

TaskName = Annotated[str, Field(pattern=NAME_PATTERN, max_length=63)]
Key = Annotated[str, Field(min_length=1, max_length=253)]
