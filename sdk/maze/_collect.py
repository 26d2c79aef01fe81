"""Tasks that Maze adds itself: they make one list of the outputs of several tasks."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

WIDTH = 200
"""Inputs of one such task; more outputs are collected by several, and their lists joined by another."""
OUTPUT = "items"

COLLECT = '''\
def collect(params):
    """The inputs as a list, in the order of their names."""
    import pathlib

    found = [params[key] for key in sorted(params)]
    if any(isinstance(item, pathlib.PurePath) for item in found):
        raise TypeError("files can't be collected in a list; take each as an input of its own")
    return {"items": found}
'''
JOIN = '''\
def join(params):
    """The lists that are the inputs as one, in the order of their names."""
    return {"items": [item for key in sorted(params) for item in params[key]]}
'''


def chunks(items: Sequence[Any]) -> List[Sequence[Any]]:
    """Pieces that one task can take."""
    return [items[start : start + WIDTH] for start in range(0, len(items), WIDTH)]


def parameters(described: Sequence[Dict[str, Any]]) -> Dict[str, Any]:
    """`input_params` of inputs that are named so that their order is that of the list."""
    return {
        str(number): {"key": f"item{number:04}", "data_type": "str", **sent} for number, sent in enumerate(described, 1)
    }
