"""Facts that come in here go to the operator, which answers once they are kept; saying one again is safe."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from maze_api.errors import Unavailable

log = logging.getLogger(__name__)

TOTAL_SECONDS = 12.0
"""How long an operator is looked for, before the caller is told to say it again."""
TRY_SECONDS = 8.0
BACKOFF_SECONDS = (0.05, 1.0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the operator said; status 0: it was not reached."""

    status: int
    detail: str


class OperatorClient:
    """One connection pool to the operator. Make it inside the event loop; end it with `close`."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=TRY_SECONDS, sock_connect=2),
        )

    async def close(self) -> None:
        await self._session.close()

    async def ask(self, path: str, data: bytes, what: str, is_final: Callable[[Answer], bool]) -> Answer:
        """Until there is an answer that counts, or the time is over.

        Args:
            what: our log calls it this.

        Raises:
            Unavailable: this api knows no operator.
        """
        if not self._url:
            raise Unavailable("this api knows no operator that takes reports: MAZE_REPORT_URL is not set")
        deadline = time.monotonic() + TOTAL_SECONDS
        delay = BACKOFF_SECONDS[0]
        while True:
            answer = await self._post(path, data)
            if is_final(answer) or time.monotonic() + delay > deadline:
                return answer
            log.info("%s: %s %s; trying again", what, answer.status, answer.detail)
            await asyncio.sleep(delay)
            delay = min(2 * delay, BACKOFF_SECONDS[1])

    async def _post(self, path: str, data: bytes) -> Answer:
        try:
            async with self._session.post(self._url + path, data=data) as response:
                text = await response.text(errors="replace")
                return Answer(response.status, _detail(text))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Answer(0, str(error) or type(error).__name__)


def unknown_token() -> Unavailable:
    """The operator answered 401."""
    return Unavailable("the operator does not know this api: MAZE_API_TOKEN must be the same for both")


def _detail(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        return text[:500]
    return str(found.get("detail", "")) if isinstance(found, dict) else text[:500]
