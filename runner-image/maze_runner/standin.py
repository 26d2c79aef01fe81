"""A minimal `maze` for source that imports the SDK in an image without it.

Users submit the file in which they decorate their functions. There `@task` has done its work already, so here it returns
the function unchanged.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, Optional

_MODULES = (
    "maze",
    "maze.client",
    "maze.client.maze",
    "maze.client.maze.decorator",
    "maze.client.front",
    "maze.client.front.decorator",
)
"""Ours, and where the original client has its decorator."""


def task(*args: Any, **options: Any) -> Any:
    """The decorator, with or without arguments."""
    if len(args) == 1 and callable(args[0]) and not options:
        return args[0]
    return lambda function: function


def _absent(name: str) -> Any:
    """Other names of the SDK can be imported, and say what is missing when they are used."""
    if name.startswith("__"):
        raise AttributeError(name)

    def use(*args: Any, **options: Any) -> Any:
        raise RuntimeError(f"maze.{name} was used inside a task, but the image of this task has no Maze SDK")

    return use


class StandIn:
    """A finder and loader. It is asked last, so a real SDK always wins."""

    def find_spec(
        self, name: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        known = name in _MODULES and (name == "maze" or getattr(sys.modules.get("maze"), "__maze_stand_in__", False))
        if not known:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(task=task, __getattr__=_absent, __maze_stand_in__=True)


def install() -> None:
    sys.meta_path.append(StandIn())
