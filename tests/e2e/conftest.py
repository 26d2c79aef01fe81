"""Real pods on the running system."""

from fixtures import cluster, store
from oprun_http import runs

__all__ = ["cluster", "runs", "store"]
