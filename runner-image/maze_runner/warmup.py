"""Imports before the fork what children will need, so that none of them has to."""

# ruff: noqa: PTH112
from __future__ import annotations

import gc
import os
import select
import sys
from functools import lru_cache

from maze_runner.limits import WARM_UP_AFTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Set

FOR_PICKLES = ("dataclasses", "typing", "pickle", "platform", "uuid", "string", "traceback", "dis", "ast")
"""What cloudpickle takes long to import, but not what makes each fork slower: it imports threading and logging, and these do
something in every child. Itself is imported for the first task that has pickles."""
TOOLS = "mcp"
"""The package that calls tools need; only images for tools have it."""
FOR_TOOLS = ("anyio._backends._asyncio", "pydantic", "httpx2", "mcp", "mcp.client.streamable_http", "mcp.client.stdio")
"""Its parts, smaller ones first, so that an answer of the operator never waits long."""


@lru_cache(maxsize=None)
def enable_site_packages() -> None:
    """What -S and -I left out, so that this process starts fast; children inherit it."""
    if not sys.flags.no_site:
        return
    import site

    paths = os.environ.get("PYTHONPATH", "") if sys.flags.ignore_environment else ""
    sys.path[1:1] = [path for path in paths.split(os.pathsep) if path and path not in sys.path]
    site.main()
    if sys.flags.isolated and not os.environ.get("PYTHONNOUSERSITE"):
        users = site.getusersitepackages()
        if os.path.isdir(users):
            site.addsitedir(users)


def warm_up(sock: Any) -> None:
    """Use the time until the operator answers, and none after that."""
    if _idle(sock, WARM_UP_AFTER):
        enable_site_packages()
    for name in FOR_PICKLES:
        if not _idle(sock, 0):
            return
        preload([name])
    if _idle(sock, 0) and TOOLS not in sys.modules and _is_installed(TOOLS):
        for name in FOR_TOOLS:
            if not _idle(sock, 0):
                return
            preload([name])


def preload(names: Iterable[str]) -> None:
    """Import modules; one that is not there, or does not work, is left to the task that wants it.

    They are taken out of the collector's sight, so that a child does not copy their memory to look for garbage there.
    """
    wanted = [name for name in names if name not in sys.modules]
    for name in wanted:
        if name not in _failed:
            try:
                __import__(name)
                gc.freeze()
            except (Exception, SystemExit):  # noqa: BLE001 - the module may raise anything
                _failed.add(name)


_failed: Set[str] = set()


def _idle(sock: Any, seconds: float) -> bool:
    return not select.select([sock], [], [], seconds)[0]


def _is_installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None
