"""Reports of external workers go to the operator, which answers once they are kept; saying one again is safe."""

from __future__ import annotations

from maze_api.cache import Runs
from maze_api.errors import ApiError, Conflict, Invalid, NotFound, TooLarge, Unavailable
from maze_api.operator_client import Answer, OperatorClient, unknown_token
from maze_api.task_index import TaskIndex
from maze_api.worker_bodies import encode
from maze_crds.protocol import WorkerReport


def is_final(answer: Answer, owned: bool) -> bool:
    """Whether it makes no sense to ask again.

    Args:
        owned: this process sees that the worker has the task. Then an operator that denies it has not seen yet what we see.
    """
    if answer.status in (404, 409):
        return not owned
    return answer.status in (200, 400, 401, 413)


def refusal(answer: Answer, task_id: str) -> ApiError:
    """An answer that is not success, as ours."""
    if answer.status == 404:
        return NotFound(f"there is no task '{task_id}'")
    if answer.status == 409:
        return Conflict(answer.detail)
    if answer.status == 413:
        return TooLarge(f"the report of task {task_id} is too large for the operator")
    if answer.status == 400:
        return Invalid(f"the operator can't read the report: {answer.detail}")
    if answer.status == 401:
        return unknown_token()
    return Unavailable(f"no operator has taken the report ({answer.detail}); nothing is lost: send it again")


class Reports:
    def __init__(self, operator: OperatorClient, runs: Runs, tasks: TaskIndex) -> None:
        self._operator, self._runs, self._tasks = operator, runs, tasks

    async def send(self, report: WorkerReport) -> None:
        """Returns once the report is kept, and this process shows the task as ended.

        Raises:
            NotFound: no such task.
            Conflict: the worker does not have the task (any more), or has said otherwise before.
            Unavailable: no operator takes it now.
            KubeError: it is kept, but Kubernetes is out of reach.
        """
        answer = await self._operator.ask(
            "/v1/worker-reports",
            encode(report),
            f"report of task {report['run']}",
            lambda answer: is_final(answer, self._owned(report)),
        )
        if answer.status != 200:
            raise refusal(answer, report["run"])
        known = self._tasks.get(report["run"])
        if known is not None and not known.ended:
            await self._runs.fetch(report["run"])  # it is in the status before the operator answers 200

    def _owned(self, report: WorkerReport) -> bool:
        return any(task.id == report["run"] for task in self._tasks.of_worker(report["worker"]))
