"""Pickled code that travels inside leases: many tasks have the same, so it is read once."""

from __future__ import annotations

from collections import OrderedDict

from maze_io.store import AsyncStore

LIMIT = 65536
"""Bytes; what is larger goes by URL."""
REMEMBERED = 500


class Codes:
    """Named by content, so what was read stays true."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._read: OrderedDict[str, bytes] = OrderedDict()

    async def get(self, key: str, size: int) -> bytes | None:
        """None: too large, or not there.

        Raises:
            StoreError: out of reach.
        """
        if size > LIMIT:
            return None
        data = self._read.get(key)
        if data is None:
            data = await self._store.get(key)
            if data is None:
                return None
            self._read[key] = data
            if len(self._read) > REMEMBERED:
                self._read.popitem(last=False)
        self._read.move_to_end(key)
        return data
