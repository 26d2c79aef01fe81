"""How far a run is, as a line that moves; nothing at all where nobody looks at a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Dict, List, Optional, Type

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from maze._backend import Message

SHOWN = 3
"""Names of running tasks that are shown."""


class Bar:
    """A progress bar on stderr. `names`: of all tasks of the run by id."""

    def __init__(self, names: Dict[str, str], console: Optional[Console] = None) -> None:
        self._names = names
        self._running: List[str] = []
        self._failed = 0
        self._progress = Progress(
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console or Console(stderr=True),
            transient=True,
        )
        self._bar = self._progress.add_task("waiting for a place", total=len(names))

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._progress.stop()

    def see(self, message: Message) -> None:
        task_id = str(message["data"].get("task_id", ""))
        kind = message["type"]
        if kind == "start_task":
            self._running.append(task_id)
        elif kind in ("finish_task", "task_exception"):
            self._running = [running for running in self._running if running != task_id]
            self._failed += kind == "task_exception"
            self._progress.advance(self._bar)
        self._progress.update(self._bar, description=self._text())

    def _text(self) -> str:
        names = [self._names.get(task_id, task_id[:8]) for task_id in self._running]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        failed = f"  {self._failed} failed" if self._failed else ""
        return ", ".join(names[:SHOWN]) + more + failed
