"""A copy of one kind of Kubernetes objects, kept by one reflector and by our own writes. Pure: no I/O.

The rules:
- an object never replaces one with a newer resourceVersion;
- a list removes what it does not have, except what is newer than the list (our own write came first);
- an object we wrote that is older than what the reflector has already seen, and is not here, was deleted meanwhile:
  it does not come back.

resourceVersions are compared as integers, which is right within one resource type of one API server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Object: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str]
"""(namespace, name); the namespace of a cluster-wide object is ''."""
OnChange: TypeAlias = Callable[[Key, Object | None, Object | None], None]
"""Called with (key, old, new): old is None for a new object, new is None for one that is gone."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """A complete list: what is not in it does not exist (any more)."""

    items: list[Object]
    resource_version: str


@dataclass(frozen=True, slots=True)
class Changed:
    """One watch event."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object


Event: TypeAlias = Replaced | Changed


def key_of(obj: Object) -> Key:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def version_of(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


class Cache:
    """Objects of one type by (namespace, name), fed by exactly one reflector.

    Objects are shared, not copied: treat them as frozen.
    """

    def __init__(self, on_change: OnChange | None = None) -> None:
        self._objects: dict[Key, Object] = {}
        self._seen = 0
        self._synced = asyncio.Event()
        self._listeners: list[OnChange] = [on_change] if on_change else []

    @property
    def synced(self) -> bool:
        """True once a complete list has been applied."""
        return self._synced.is_set()

    @property
    def seen(self) -> int:
        """The newest resourceVersion that the reflector has told of: every change up to it is in here."""
        return self._seen

    async def wait_synced(self) -> None:
        await self._synced.wait()

    def subscribe(self, on_change: OnChange) -> Callable[[], None]:
        """Be told of every change; returns what ends that."""
        self._listeners.append(on_change)
        return lambda: self._listeners.remove(on_change)

    def get(self, namespace: str, name: str) -> Object | None:
        return self._objects.get((namespace, name))

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self._objects.values()))

    async def follow(self, events: AsyncIterable[Event]) -> None:
        """Apply a reflector's events until it ends or this task is cancelled."""
        async for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Take in what the reflector saw."""
        if isinstance(event, Replaced):
            self._replace(event)
            return
        version = version_of(event.object)
        self._seen = max(self._seen, version)
        if event.type != "DELETED":
            self._store(event.object)
            return
        key = key_of(event.object)
        old = self._objects.get(key)
        if old is not None and version_of(old) <= version:
            self._change(key, old, None)

    def put(self, obj: Object) -> None:
        """Take in what the API server answered to our own write, before the watch tells of it."""
        if key_of(obj) in self._objects or version_of(obj) > self._seen:
            self._store(obj)

    def _replace(self, event: Replaced) -> None:
        listed = int(event.resource_version)
        self._seen = max(self._seen, listed)
        present = {key_of(item) for item in event.items}
        for key, old in list(self._objects.items()):
            if key not in present and version_of(old) <= listed:
                self._change(key, old, None)
        for item in event.items:
            self._store(item)
        self._synced.set()

    def _store(self, obj: Object) -> None:
        key = key_of(obj)
        old = self._objects.get(key)
        if old is None or version_of(obj) > version_of(old):
            self._change(key, old, obj)

    def _change(self, key: Key, old: Object | None, new: Object | None) -> None:
        if new is None:
            del self._objects[key]
        else:
            self._objects[key] = new
        for listener in tuple(self._listeners):
            listener(key, old, new)
