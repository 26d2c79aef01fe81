"""A thin asynchronous Kubernetes client: plain JSON in and out, and a reflector.

`kubernetes.aio` gives configuration, authentication and TLS; its model objects are not used, because they are slow on
large lists and refuse what a newer API server adds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, TypeAlias

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from pydantic_core import PydanticSerializationError, from_json, to_json

from maze_crds.base import GROUP, VERSION
from maze_io.cache import Cache, Changed, Event, Object, Replaced

__all__ = [
    "Cache",
    "Changed",
    "Event",
    "Kube",
    "KubeError",
    "Object",
    "Replaced",
    "pods_path",
    "resource_path",
    "runs_path",
]

log = logging.getLogger(__name__)

Params: TypeAlias = Mapping[str, str | int]

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

REQUEST_SECONDS = 30.0
PAGE = 500
WATCH_SECONDS = 240
SILENCE_SECONDS = 90.0
"""A watch that says nothing for this long (bookmarks come about once a minute) is resumed on a new connection."""
BACKOFF_SECONDS = (0.1, 5.0)
GATHER_SECONDS = 0.02
"""Where more of a watch comes within this time, what comes in the next is taken in together."""


def resource_path(
    api: str, plural: str, namespace: str | None = None, name: str | None = None, subresource: str | None = None
) -> str:
    """`api` is "v1" or "group/version". No namespace: all of them."""
    root = "/api/" if "/" not in api else "/apis/"
    parts = [root + api, *(["namespaces", namespace] if namespace else []), plural, name, subresource]
    return "/".join(part for part in parts if part)


def runs_path(namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    return resource_path(f"{GROUP}/{VERSION}", "runs", namespace, name, subresource)


def task_slices_path(namespace: str | None = None, name: str | None = None) -> str:
    return resource_path(f"{GROUP}/{VERSION}", "taskslices", namespace, name)


def workflows_path(namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    return resource_path(f"{GROUP}/{VERSION}", "workflows", namespace, name, subresource)


def workers_path(namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    return resource_path(f"{GROUP}/{VERSION}", "workers", namespace, name, subresource)


def pods_path(namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    return resource_path("v1", "pods", namespace, name, subresource)


class KubeError(Exception):
    """The API server refused, or could not be reached (status 0).

    Attributes:
        status: HTTP status, or 0.
        reason: Kubernetes' one-word reason ("NotFound", "AlreadyExists"), or "Unreachable".
        message: its sentence for people.
        body: the decoded Status object, or None.
        retry_after: seconds the server asked to wait, or None.
    """

    def __init__(
        self, status: int, reason: str, message: str, body: Object | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(f"Kubernetes answered {status} {reason}: {message}" if status else message)
        self.status = status
        self.reason = reason
        self.message = message
        self.body = body
        self.retry_after = retry_after

    @property
    def not_found(self) -> bool:
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """Someone else wrote first, or the name is taken (reason AlreadyExists)."""
        return self.status == 409

    @property
    def gone(self) -> bool:
        """The resourceVersion or page is too old: list again."""
        return self.status == 410

    @property
    def temporary(self) -> bool:
        """Worth the same call again later: not reachable, overloaded, or broken on the server's side."""
        return self.status in (0, 429) or self.status >= 500


class Kube:
    """One API server, one connection pool. Make it with `connect`, end it with `close`."""

    def __init__(self, configuration: Any, refresher: asyncio.Task[None] | None = None) -> None:
        self._configuration = configuration
        self._rest = RESTClientObject(configuration)
        # That of the REST client looks for a .netrc file at every request.
        self._session = aiohttp.ClientSession(connector=self._rest.pool_manager.connector, connector_owner=False)
        self._refresher = refresher

    @classmethod
    async def connect(cls, kubeconfig: str | None = None, limit: int = 64) -> Kube:
        """Configure from the pod's service account, or from a file; makes no call yet.

        Args:
            kubeconfig: a file; None: in a pod its service account, else $KUBECONFIG, else .cluster/kubeconfig.
            limit: connections at once; each watch holds one.
        """
        configuration = Configuration()
        configuration.connection_pool_maxsize = limit
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            kube_config.load_incluster_config(configuration)
            return cls(configuration)
        file = kubeconfig or os.environ.get("KUBECONFIG") or ".cluster/kubeconfig"
        loader = await kube_config.load_kube_config(file, client_configuration=configuration, persist_config=False)
        refresh = asyncio.create_task(kube_config.refresh_token(loader, configuration), name="kube-token")
        return cls(configuration, refresh)

    async def close(self) -> None:
        if self._refresher:
            self._refresher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refresher
        await self._session.close()
        await self._rest.close()

    async def get(self, path: str, params: Params | None = None) -> Object:
        return await self._request("GET", path, params=params)

    async def post(self, path: str, body: Object) -> Object:
        return await self._request("POST", path, body)

    async def put(self, path: str, body: Object) -> Object:
        return await self._request("PUT", path, body)

    async def patch(
        self, path: str, body: Any, content_type: str = MERGE_PATCH, params: Params | None = None
    ) -> Object:
        """`content_type`: MERGE_PATCH, JSON_PATCH (body is a list) or APPLY_PATCH (params need fieldManager)."""
        return await self._request("PATCH", path, body, params, content_type)

    async def delete(self, path: str, body: Object | None = None) -> Object:
        """`body`: DeleteOptions, such as preconditions, gracePeriodSeconds, propagationPolicy."""
        return await self._request("DELETE", path, body)

    async def _request(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Params | None = None,
        content_type: str = "application/json",
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=5)
        try:
            async with await self._open(method, path, params, timeout, body, content_type) as response:
                return _decode(await response.read())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(error) from error

    async def _open(
        self,
        method: str,
        path: str,
        params: Params | None,
        timeout: aiohttp.ClientTimeout,
        body: Any = None,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json"}
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = _encode(body)
        url = self._configuration.host + path
        extra = {"server_hostname": self._rest.server_hostname} if self._rest.server_hostname else {}
        response = await self._session.request(
            method, url, params=params, data=data, headers=headers, timeout=timeout, proxy=self._rest.proxy, **extra
        )
        if response.status >= 300:
            async with response:
                raise _error(response, await response.read())
        return response

    def _unreachable(self, error: BaseException) -> KubeError:
        what = str(error) or type(error).__name__
        return KubeError(0, "Unreachable", f"the Kubernetes API at {self._configuration.host} can't be reached: {what}")

    async def stream(self, path: str, params: Params | None = None) -> AsyncGenerator[bytes, None]:
        """The body of a GET in pieces as they come, without a limit of time: logs that are followed."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        try:
            async with await self._open("GET", path, params, timeout) as response:
                async for chunk in response.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error

    async def list_all(self, path: str, params: Params | None = None) -> Replaced:
        """A consistent list, read in pages."""
        query: dict[str, str | int] = {**(params or {}), "limit": PAGE}
        items: list[Object] = []
        while True:
            page = await self.get(path, query)
            items.extend(page.get("items") or ())
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return Replaced(items, metadata["resourceVersion"])
            query["continue"] = metadata["continue"]

    async def list_and_watch(self, path: str, params: Params | None = None) -> AsyncIterator[Event]:
        """A reflector: one Replaced, then Changed; Replaced again whenever the history is lost. Ends only by cancel.

        Every error (also 403 and 404: a CRD or a role may come later) is logged and tried again, with backoff.
        """
        version: str | None = None
        delay = BACKOFF_SECONDS[0]
        while True:
            began = time.monotonic()
            try:
                if version is None:
                    listed = await self.list_all(path, params)
                    version = listed.resource_version
                    yield listed
                async for kind, obj in self._watch(path, params, version):
                    version = obj["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        yield Changed(kind, obj)
            except KubeError as error:
                log.warning("watch of %s: %s", path, error)
                version = None if error.gone else version
            if time.monotonic() - began > BACKOFF_SECONDS[1]:  # it did work: resume at once
                delay = BACKOFF_SECONDS[0]
                continue
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))
            delay = min(delay * 2, BACKOFF_SECONDS[1])

    async def _watch(self, path: str, params: Params | None, version: str) -> AsyncIterator[tuple[Any, Object]]:
        """Watch events until the server ends the watch or nothing came for SILENCE_SECONDS."""
        query = {
            **(params or {}),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": WATCH_SECONDS,
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE_SECONDS)
        try:
            async with await self._open("GET", path, query, timeout) as response:
                async for line in _lines(response.content):
                    event = _decode(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise KubeError(
                            status.get("code", 500), status.get("reason", ""), status.get("message", ""), status
                        )
                    yield event["type"], event["object"]
        except aiohttp.SocketTimeoutError:
            return
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length (StreamReader.readline refuses long ones)."""
    parts: list[bytes] = []
    before = 0.0
    async for chunk in stream.iter_any():
        now = time.monotonic()
        first, *rest = chunk.split(b"\n")
        parts.append(first)
        for following in rest:
            yield b"".join(parts)
            parts = [following]
        if now - before < GATHER_SECONDS:
            await asyncio.sleep(GATHER_SECONDS)
        before = now


def _encode(body: Any) -> bytes:
    """In less than half the time of json.dumps, which takes also what is no Unicode: a surrogate that stands alone."""
    try:
        return to_json(body)
    except PydanticSerializationError:
        return json.dumps(body, separators=(",", ":")).encode()


def _decode(data: bytes) -> Object:
    """In two thirds of the time of json.loads, which reads also what is nested deeper than 200 levels."""
    try:
        found: Object = from_json(data, cache_strings="keys")
    except ValueError:
        found = json.loads(data)
    return found


def _error(response: aiohttp.ClientResponse, raw: bytes) -> KubeError:
    body: Object | None = None
    with contextlib.suppress(ValueError):
        decoded = json.loads(raw)
        body = decoded if isinstance(decoded, dict) else None
    retry_after = response.headers.get("Retry-After", "")
    return KubeError(
        response.status,
        str((body or {}).get("reason") or response.reason or ""),
        str((body or {}).get("message") or raw[:500].decode(errors="replace")),
        body,
        float(retry_after) if retry_after.isdigit() else None,
    )
