"""Reports of external workers go to the operator, which answers once they are kept; saying one again is safe."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass

import aiohttp

from maze_api.cache import Runs
from maze_api.errors import ApiError, Conflict, Invalid, NotFound, TooLarge, Unavailable
from maze_api.task_index import TaskIndex
from maze_api.worker_bodies import encode
from maze_crds.protocol import WorkerReport

log = logging.getLogger(__name__)

TOTAL_SECONDS = 12.0
"""How long an operator is looked for, before the worker is told to say it again."""
TRY_SECONDS = 8.0
BACKOFF_SECONDS = (0.05, 1.0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the operator said; status 0: it was not reached."""

    status: int
    detail: str


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
        return Unavailable("the operator does not know this api: MAZE_API_TOKEN must be the same for both")
    return Unavailable(f"no operator has taken the report ({answer.detail}); nothing is lost: send it again")


class Reports:
    """One connection pool to the operator. Make it inside the event loop; end it with `close`."""

    def __init__(self, url: str, token: str, runs: Runs, tasks: TaskIndex) -> None:
        self._url = f"{url}/v1/worker-reports" if url else ""
        self._runs = runs
        self._tasks = tasks
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=TRY_SECONDS, sock_connect=2),
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(self, report: WorkerReport) -> None:
        """Returns once the report is kept, and this process shows the task as ended.

        Raises:
            NotFound: no such task.
            Conflict: the worker does not have the task (any more), or has said otherwise before.
            Unavailable: no operator takes it now.
            KubeError: it is kept, but Kubernetes is out of reach.
        """
        if not self._url:
            raise Unavailable("this api knows no operator that takes reports: MAZE_REPORT_URL is not set")
        answer = await self._ask(report)
        if answer.status != 200:
            raise refusal(answer, report["run"])
        known = self._tasks.get(report["run"])
        if known is not None and not known.ended:
            await self._runs.fetch(report["run"])  # it is in the status before the operator answers 200

    async def _ask(self, report: WorkerReport) -> Answer:
        """Until there is an answer that counts, or the time is over."""
        data = encode(report)
        deadline = time.monotonic() + TOTAL_SECONDS
        delay = BACKOFF_SECONDS[0]
        while True:
            answer = await self._post(data)
            if is_final(answer, self._owned(report)) or time.monotonic() + delay > deadline:
                return answer
            log.info("report of task %s: %s %s; trying again", report["run"], answer.status, answer.detail)
            await asyncio.sleep(delay)
            delay = min(2 * delay, BACKOFF_SECONDS[1])

    def _owned(self, report: WorkerReport) -> bool:
        return any(task.id == report["run"] for task in self._tasks.of_worker(report["worker"]))

    async def _post(self, data: bytes) -> Answer:
        try:
            async with self._session.post(self._url, data=data) as response:
                text = await response.text(errors="replace")
                return Answer(response.status, _detail(text))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Answer(0, str(error) or type(error).__name__)


def _detail(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        return text[:500]
    return str(found.get("detail", "")) if isinstance(found, dict) else text[:500]
