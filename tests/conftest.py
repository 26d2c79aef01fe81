"""Paths for helper modules that tests of one folder share."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in ("unit", "integration", "e2e"):
    sys.path.insert(0, str(Path(__file__).parent / folder))
