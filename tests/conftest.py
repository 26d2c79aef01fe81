"""Paths for helper modules that tests of one folder share, and what holds for all property tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

for folder in ("unit", "integration", "e2e"):
    sys.path.insert(0, str(Path(__file__).parent / folder))

# A machine that is busy with other things makes no property false. The examples are the same in every run, so that a
# change is judged by what it changes; HYPOTHESIS_PROFILE=explore looks for new ones.
BUSY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("maze", derandomize=True, **BUSY)  # type: ignore[arg-type]
settings.register_profile("explore", **BUSY)  # type: ignore[arg-type]
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "maze"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that stop parts of the cluster run after all that need it."""
    items.sort(key=lambda item: item.get_closest_marker("lifecycle") is not None)
