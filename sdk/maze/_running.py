"""Runs of a workflow: start, watch, wait, cancel, results and logs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Union

from rich.console import Console

from maze import _fetch, _results
from maze._backend import Json, Message
from maze._building import Building
from maze._errors import RequestFailed, RunCancelled, RunFailed, UnknownRun
from maze._progress import Bar
from maze._task import MaTask


class Running(Building):
    """What MaWorkflow does with its runs."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cache: Dict[str, List[Message]] = {}
        self._folders: Dict[str, Dict[str, str]] = {}

    def run(self) -> str:
        """Start the workflow as it is now, and return the id of this run; it does not wait."""
        return self._backend.run(self.workflow_id)

    def events(self, run_id: str, timeout: Optional[float] = None) -> Iterator[Message]:
        """The messages of a run, from the first, each as soon as it comes; ends after `finish_workflow`.

        Raises:
            UnknownRun: no such run (it is a ValueError, too).
            RunNotEnded: `timeout` seconds have passed; the run goes on.
            StreamBroken, ServerUnreachable: reading failed for good; the run goes on without readers.
        """
        if not isinstance(run_id, str) or not run_id:
            raise UnknownRun(f"run_id is {run_id!r}; take what run() returned")
        if run_id in self._cache:
            yield from list(self._cache[run_id])
            return
        seen: List[Message] = []
        for message in self._backend.messages(self.workflow_id, run_id, timeout):
            seen.append(message)
            if message.get("type") == "finish_workflow":
                self._cache[run_id] = seen
            yield message

    def wait(
        self, run_id: str, timeout: Optional[float] = None, progress: bool = True, check: bool = True
    ) -> Dict[str, Any]:
        """Wait for the end of a run, and return what `show_results` returns.

        Args:
            timeout: seconds.
            progress: draw a progress bar on stderr, where that is a terminal.
            check: raise where the run did not succeed.

        Raises:
            RunFailed, RunCancelled: with the reasons; `check=False` returns the summary instead.
            RunNotEnded: the time is over; the run goes on (it is a TimeoutError, too).
        """
        console = Console(stderr=True)
        events = self.events(run_id, timeout)
        if progress and console.is_terminal:
            tasks = self.status(run_id)["tasks"]
            found: List[Message] = []
            with Bar({task["task_id"]: task["name"] or "" for task in tasks}, console) as bar:
                for message in events:
                    bar.see(message)
                    found.append(message)
        else:
            found = list(events)
        summary = _results.summary(found)
        ended_as = found[-1]["data"].get("status", "Succeeded")
        if check and (ended_as != "Succeeded" or summary["has_exception"]):
            raise self._failure(run_id, ended_as, summary)
        return summary

    def get_results(self, run_id: str, verbose: bool = True) -> List[Message]:
        """All messages of a run; waits for its end. Kept, so that asking again costs nothing.

        Args:
            verbose: print each message as it comes.
        """
        found: List[Message] = []
        for message in self.events(run_id):
            if verbose:
                print(message, flush=True)
            found.append(message)
        return found

    def show_results(self, run_id: str, output_dir: str = "workflow_results") -> Dict[str, Any]:
        """Print the progress of a run for people as it comes, and return what came out.

        Outputs that are files are saved as output_dir/RUN/TASK/FILE, and the lines printed say so.

        Returns:
            `{"task_results": {id: outputs}, "workflow_completed": bool, "has_exception": bool, "exception_tasks": [id]}`
        """
        print(_results.CONNECTED, flush=True)
        found: List[Message] = []
        failed = 0
        for message in self.events(run_id):
            found.append(message)
            failed += message.get("type") == "task_exception"
            for line in _results.lines(message, failed):
                print(line, flush=True)
            if _results.may_have_files(message):
                for path in self._save_files(run_id, message["data"]["task_id"], Path(output_dir)):
                    print(f"  📁 saved: {path}", flush=True)
        return _results.summary(found)

    def result(self, run_id: str, task: Union[MaTask, str], output_dir: Optional[str] = None) -> Dict[str, Any]:
        """The outputs of a task as Python objects, whatever they are: JSON, what was pickled, files as pathlib.Path.

        Args:
            task: the task, or its id.
            output_dir: files are saved as output_dir/RUN/TASK/FILE; default: a new folder for temporary files.

        Unpickling runs code that the task put there: read results only of runs you trust.

        Raises:
            Conflict: the task has not ended; see `wait`.
            RunFailed: the task failed, was skipped or cancelled, so it has no outputs.
            ResultNotLoadable: an object needs a module that is not installed here, or bytes were damaged.
        """
        task_id = _id(task)
        told = self._outputs(run_id, task_id)
        if any(item["encoding"] == "file" for item in told.values()):
            folder = self._folder(run_id, task_id, Path(output_dir or tempfile.mkdtemp(prefix="maze-")))
        else:
            folder = Path()
        return _fetch.values(self._backend, run_id, task_id, told, folder)

    def status(self, run_id: str) -> Dict[str, Any]:
        """A run as it is now: `{"run_id", "workflow_id", "status", "reason", "message", "created_at", "started_at",
        "finished_at", "counts", "tasks": [{"task_id", "name", "status", "attempt", "reason", "message", "cause",
        "exit_code", "node", "started_at", "finished_at", "depends_on"}]}`.

        Raises:
            UnknownRun: no such run.
        """
        return self._backend.get_run(run_id)

    def cancel(self, run_id: str) -> None:
        """Stop a run: its pods end, what has not started never will. It does not wait for that.

        Raises:
            UnknownRun: no such run.
            Conflict: it has ended already.
        """
        self._backend.cancel(run_id)

    def logs(
        self, run_id: str, task: Union[MaTask, str], follow: bool = False, attempt: Optional[int] = None
    ) -> Iterator[str]:
        """The lines that a task printed.

        Args:
            follow: go on until the task ends.
            attempt: which one, from 1; default: the last.
        """
        return self._backend.logs(run_id, _id(task), follow, attempt)

    def get_task_result(self, run_id: str, task_id: str) -> Optional[Dict[str, Any]]:
        """The outputs of a task in a run whose results are cached; None where it has none.

        Raises:
            UnknownRun: call get_results or show_results first (it is a ValueError, too).
        """
        if run_id not in self._cache:
            raise UnknownRun(f"no results of run '{run_id}' are cached; call get_results or show_results first")
        result: Optional[Dict[str, Any]] = _results.summary(self._cache[run_id])["task_results"].get(task_id)
        return result

    def list_cached_runs(self) -> List[str]:
        """Ids of the runs whose results are kept, the oldest first."""
        return list(self._cache)

    def clear_cache(self, run_id: Optional[str] = None) -> None:
        """Forget the results of one run, or of all."""
        if run_id is None:
            self._cache.clear()
        else:
            self._cache.pop(run_id, None)

    def _outputs(self, run_id: str, task_id: str) -> Dict[str, Json]:
        """What there is of a task; a task that did not succeed has nothing, and is told by its reason."""
        refused: Optional[RequestFailed] = None
        told: Dict[str, Json] = {}
        try:
            told = self._backend.outputs(run_id, task_id)
        except RequestFailed as error:
            refused = error
        if told:
            return told
        found = next((task for task in self._backend.get_run(run_id)["tasks"] if task["task_id"] == task_id), None)
        if found is not None and found["status"] in ("Failed", "Cancelled", "Skipped"):
            kind = RunCancelled if found["status"] == "Cancelled" else RunFailed
            raise kind(f"no outputs: {_results.task_failure(found)}", run_id, [found]) from None
        if refused is not None:
            raise refused
        return told

    def _failure(self, run_id: str, ended_as: str, summary: Dict[str, Any]) -> RunFailed:
        run = self._backend.get_run(run_id)
        failed = [task for task in run["tasks"] if task["status"] == "Failed"]
        kind = RunCancelled if ended_as == "Cancelled" else RunFailed
        return kind(_results.run_failure(run, failed, ended_as), run_id, failed, summary)

    def _save_files(self, run_id: str, task_id: str, output_dir: Path) -> List[Path]:
        told = self._backend.outputs(run_id, task_id)
        names = _fetch.file_names(told)
        if not names:
            return []
        folder = self._folder(run_id, task_id, output_dir)
        return [
            _fetch.save_file(self._backend, run_id, task_id, key, told[key], folder / name)
            for key, name in names.items()
        ]

    def _folder(self, run_id: str, task_id: str, output_dir: Path) -> Path:
        if run_id not in self._folders:
            tasks = self._backend.get_run(run_id)["tasks"]
            self._folders[run_id] = _fetch.folder_names((task["task_id"], task["name"]) for task in tasks)
        return output_dir / _fetch.safe(run_id) / self._folders[run_id].get(task_id, _fetch.safe(task_id))


def _id(task: Union[MaTask, str]) -> str:
    return task.task_id if isinstance(task, MaTask) else task
