"""The one error that a user of this package sees."""

from __future__ import annotations


class ClusterError(Exception):
    """Something the user can act on. Its text says what was wrong, where, and what to do."""
