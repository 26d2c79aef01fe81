"""Scenario runs with live events, the catalogue of scenarios, and the tools of the MCP servers."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/api", tags=["scenarios"])
