"""Paths for helper modules that tests of one folder share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for folder in ("unit", "integration", "e2e"):
    sys.path.insert(0, str(Path(__file__).parent / folder))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that stop parts of the cluster run after all that need it."""
    items.sort(key=lambda item: item.get_closest_marker("lifecycle") is not None)
