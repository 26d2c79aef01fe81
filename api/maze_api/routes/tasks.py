"""Tasks of the Task Executor: create, look, list, cancel, logs, events."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"])
