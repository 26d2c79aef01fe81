"""Templates: nested JSON in which every object `{"from": REFERENCE}` stands for what it refers to.

Only an object with exactly the key "from" and a text in it is a reference. An object with other keys beside it is
literal, and so is everything else. The models take JSON of at most about 250 levels, so recursion is no danger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

KEY = "from"


def references(template: Any) -> list[str]:
    """The text of every reference in it, in the order they are written, each once."""
    return list(dict.fromkeys(_walk(template)))


def fill(template: Any, resolve: Callable[[str], Any]) -> Any:
    """A copy in which every reference is replaced by `resolve(its text)`. What `resolve` gives is not looked into."""
    found = find_reference(template)
    if found is not None:
        return resolve(found)
    if isinstance(template, dict):
        return {key: fill(child, resolve) for key, child in template.items()}
    if isinstance(template, list):
        return [fill(child, resolve) for child in template]
    return template


def find_reference(node: Any) -> str | None:
    """The text where `node` itself is a reference, else None."""
    if isinstance(node, dict) and len(node) == 1 and isinstance(node.get(KEY), str):
        text: str = node[KEY]
        return text
    return None


def _walk(node: Any) -> Iterator[str]:
    found = find_reference(node)
    if found is not None:
        yield found
    elif isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _walk(child)
