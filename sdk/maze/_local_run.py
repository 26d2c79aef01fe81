"""A run on this machine: its tasks one after the other, each in a process of its own, with the messages of a server."""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from maze._backend import ENDED, Json, Message
from maze._errors import RunNotEnded, refusal

CHILD = Path(__file__).with_name("_local_child.py")
COUNTED = ("pending", "running", "succeeded", "failed", "skipped", "cancelled")


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class LocalRun:
    """One run. `tasks` in an order in which each comes after those it depends on; see `_local.frozen` for their fields.

    A thread executes it; everything else reads what that leaves under `_changed`.
    """

    def __init__(self, run_id: str, workflow_id: str, tasks: List[Json], folder: Path) -> None:
        self.run_id = run_id
        self.workflow_id = workflow_id
        self._folder = folder
        self._tasks = {task["task_id"]: task for task in tasks}
        self._changed = threading.Condition()
        self._messages: List[Message] = []
        self._logs: Dict[str, List[List[str]]] = {task_id: [] for task_id in self._tasks}
        self._outputs: Dict[str, Dict[str, Json]] = {}
        self._cancelled = False
        self._process: Optional[subprocess.Popen[bytes]] = None
        nothing = dict.fromkeys(("reason", "message", "cause", "exit_code", "node", "started_at", "finished_at"))
        self._states: Dict[str, Json] = {
            task["task_id"]: {
                **nothing,
                "task_id": task["task_id"],
                "name": task["name"],
                "status": "Pending",
                "attempt": 0,
                "depends_on": task["depends_on"],
            }
            for task in tasks
        }
        self._run: Json = {
            "status": "Running",
            "reason": None,
            "message": None,
            "created_at": now(),
            "finished_at": None,
        }
        threading.Thread(target=self._execute, name=f"maze-local-{run_id[:8]}", daemon=True).start()

    def view(self) -> Json:
        with self._changed:
            tasks = copy.deepcopy(list(self._states.values()))
        counts = {word: sum(task["status"].lower() == word for task in tasks) for word in COUNTED}
        run = {"run_id": self.run_id, "workflow_id": self.workflow_id, **self._run}
        return {**run, "started_at": run["created_at"], "counts": {"total": len(tasks), **counts}, "tasks": tasks}

    def messages(self, timeout: Optional[float]) -> Iterator[Message]:
        deadline = None if timeout is None else time.monotonic() + timeout
        seen = 0
        while True:
            with self._changed:
                while len(self._messages) == seen:
                    left = None if deadline is None else deadline - time.monotonic()
                    if (left is not None and left <= 0) or not self._changed.wait(left):
                        raise RunNotEnded(f"run '{self.run_id}' has not ended within {timeout:g} s; it goes on")
                message = copy.deepcopy(self._messages[seen])
            seen += 1
            yield message
            if message["type"] == "finish_workflow":
                return

    def cancel(self) -> None:
        with self._changed:
            if self._run["status"] in ENDED:
                raise refusal("cancel", 409, f"run '{self.run_id}' has ended as {self._run['status']}")
            self._cancelled = True
            self._kill()

    def logs(self, task_id: str, follow: bool, attempt: Optional[int]) -> Iterator[str]:
        state = self._known(task_id)
        seen = 0
        while True:
            with self._changed:
                attempts = self._logs[task_id]
                chosen = attempt or len(attempts)
                if attempt is not None and not 1 <= attempt <= len(attempts):
                    raise refusal("logs", 404, f"task '{task_id}' has no attempt {attempt}")
                lines = attempts[chosen - 1][seen:] if attempts else []
                over = not follow or state["status"] not in ("Pending", "Running") or 0 < chosen < len(attempts)
                if not lines and not over:
                    self._changed.wait()
            seen += len(lines)
            yield from lines
            if over and not lines:
                return

    def outputs(self, task_id: str) -> Dict[str, Json]:
        state = self._known(task_id)
        if task_id not in self._outputs:
            raise refusal("outputs", 409, f"task '{task_id}' is {state['status']} and has no outputs")
        return self._outputs[task_id]

    def _known(self, task_id: str) -> Json:
        if task_id not in self._states:
            raise refusal("tasks", 404, f"run '{self.run_id}' has no task '{task_id}'")
        return self._states[task_id]

    def _execute(self) -> None:
        try:
            self._execute_tasks()
        except Exception as error:  # noqa: BLE001 - who waits for this run must not wait for ever
            self._run["message"] = f"the local runner failed: {error!r}"
        statuses = [state["status"] for state in self._states.values()]
        ended_as = (
            "Cancelled"
            if self._cancelled
            else "Failed"
            if "Failed" in statuses or self._run["message"]
            else "Succeeded"
        )
        with self._changed:
            self._run = {**self._run, "status": ended_as, "finished_at": now()}
        self._tell("finish_workflow", status=ended_as)

    def _execute_tasks(self) -> None:
        for task_id, state in self._states.items():
            before = [self._states[other]["status"] for other in state["depends_on"]]
            if self._cancelled:
                self._update(task_id, status="Cancelled")
            elif any(status != "Succeeded" for status in before):
                self._update(task_id, status="Skipped", reason="DependencyFailed")
            else:
                self._execute_task(task_id)

    def _execute_task(self, task_id: str) -> None:
        """All attempts of one task."""
        self._update(task_id, status="Running", node="local", started_at=now())
        self._tell("start_task", task_id=task_id, node_ip="local", node_id="local", gpu_id=None)
        failure: Optional[Json] = None
        for attempt in range(1, 2 + (self._tasks[task_id].get("retries") or 0)):
            with self._changed:
                self._states[task_id]["attempt"] = attempt
                self._logs[task_id].append([])
            failure = self._attempt(task_id, attempt)
            if failure is None or self._cancelled or failure["cause"] != "UserError":
                break
        ended: Json = {"finished_at": now()}
        if self._cancelled:
            self._update(task_id, status="Cancelled", **ended)
        elif failure is None:
            self._update(task_id, status="Succeeded", **ended)
            shown = {key: output["shown"] for key, output in self._outputs[task_id].items()}
            self._tell("finish_task", task_id=task_id, result=shown)
        else:
            text = failure.pop("traceback", "") or f"{failure['reason']}: {failure['message']}"
            self._update(task_id, status="Failed", **failure, **ended)
            self._tell("task_exception", task_id=task_id, result=text)

    def _attempt(self, task_id: str, attempt: int) -> Optional[Json]:
        """One process; why it did not succeed, or None."""
        task = self._tasks[task_id]
        folder = self._folder / task_id / str(attempt)
        work = folder / "work"
        work.mkdir(parents=True)
        (folder / "request.json").write_text(json.dumps(self._request(task, folder)))
        environment = {**os.environ, "HOME": str(work), "TMPDIR": str(work), **(task.get("env") or {})}
        command = [sys.executable, "-I", "-X", "utf8", "-u", str(CHILD), str(folder)]
        with self._changed:
            if self._cancelled:
                return {"cause": "UserError", "reason": "Cancelled", "message": "cancelled"}
            self._process = subprocess.Popen(
                command,
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        too_late: List[bool] = []
        limit = task.get("timeout")
        timer = threading.Timer(limit or 0, lambda: self._kill(too_late))
        if limit:
            timer.start()
        self._read_log(task_id, self._process)
        code = self._process.wait()
        timer.cancel()
        if too_late:
            message = f"took longer than its limit of {limit} s and was stopped"
            return {"cause": "Timeout", "reason": "TimedOut", "message": message}
        return self._outcome(task_id, folder, code)

    def _read_log(self, task_id: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            for line in stream:
                with self._changed:
                    self._logs[task_id][-1].append(line.decode(errors="replace").rstrip("\n"))
                    self._changed.notify_all()

    def _request(self, task: Json, folder: Path) -> Json:
        request: Json = {"task": task["name"] or task["task_id"], "source": task["source"], "outputs": task["outputs"]}
        if task["code"] is not None:
            (folder / "code").write_bytes(base64.b64decode(task["code"]))
            request["code"] = str(folder / "code")
        inputs = {}
        for key, given in task["inputs"].items():
            inputs[key] = self._outputs[given["task"]][given["key"]] if "task" in given else given
        return {**request, "inputs": inputs}

    def _outcome(self, task_id: str, folder: Path, code: int) -> Optional[Json]:
        try:
            outcome = json.loads((folder / "outcome.json").read_text())
        except OSError:
            reason = "Exited" if code >= 0 else "Killed"
            how = f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
            message = f"the process {how} before the function returned"
            return {
                "cause": "UserError",
                "reason": reason,
                "message": message,
                "exit_code": code if code >= 0 else 128 - code,
            }
        if "failure" in outcome:
            return {"cause": "UserError", **outcome["failure"]}
        for output in outcome["outputs"].values():
            data = Path(output["path"]).read_bytes()
            output.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
        self._outputs[task_id] = outcome["outputs"]
        return None

    def _kill(self, why: Optional[List[bool]] = None) -> None:
        if why is not None:
            why.append(True)
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _update(self, task_id: str, **fields: Any) -> None:
        with self._changed:
            self._states[task_id].update(fields)
            self._changed.notify_all()

    def _tell(self, kind: str, **data: Any) -> None:
        with self._changed:
            common = {"workflow_id": self.workflow_id, "run_id": self.run_id}
            self._messages.append({"type": kind, "data": {**common, **data}})
            self._changed.notify_all()
