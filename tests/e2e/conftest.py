"""Real pods on the running system."""

from fixtures import cluster, store

__all__ = ["cluster", "store"]
