"""Workers of the Task Executor: internal ones are controlled, external ones register, claim and report."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/api/v1/workers", tags=["workers"])
