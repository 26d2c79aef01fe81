"""Bodies that are taken in as a whole, with a bound on what this process holds of them at once."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from maze_api.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Body:
    data: bytes
    sha256: str


class Uploads:
    """Takes in at most `most` bytes of all bodies together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @asynccontextmanager
    async def receive(self, stream: AsyncIterable[bytes]) -> AsyncIterator[Body]:
        """A whole body, which counts until the block ends.

        Raises:
            Unavailable: too much is on its way already.
        """
        digest = hashlib.sha256()
        chunks: list[bytes] = []
        taken = 0
        try:
            async for chunk in stream:
                if self._held + len(chunk) > self._most:
                    raise Unavailable(f"bodies of {self._held} bytes are on their way already; try again")
                self._held += len(chunk)
                taken += len(chunk)
                digest.update(chunk)
                chunks.append(chunk)
            data = b"".join(chunks)
            chunks.clear()
            yield Body(data, digest.hexdigest())
        finally:
            self._held -= taken
