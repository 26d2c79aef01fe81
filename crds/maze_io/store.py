"""The object store: S3 through boto3, with one error type and tight timeouts.

Methods of ObjectStore block; AsyncStore runs them in a bounded pool of threads. Presigning makes no call. What is done for
every task (AsyncStore.put and get) goes by presigned URLs through aiohttp: that takes a third of the CPU time.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import aiohttp
import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from yarl import URL

from maze_io.presign import Presigner

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

P = ParamSpec("P")
T = TypeVar("T")

CHUNK = 1 << 20
TRIES = 3
CONNECT_SECONDS, READ_SECONDS = 2, 20
PRESIGNED_SECONDS = 3600
"""Of our own requests, which are sent at once: so far the clocks of this process and the object store may be apart."""
CONNECTIONS = 32
ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
NO_BUCKET = re.compile(rb"<Code>NoSuchBucket</Code>")


class _Absent(Exception):
    """There is no such object."""


class StoreError(Exception):
    """The object store refused or could not be reached.

    Attributes:
        what: the operation and its key ("get runs/…/result.json").
        where: endpoint and bucket.
        why: the store's or the network's word.
    """

    def __init__(self, what: str, where: str, why: str) -> None:
        super().__init__(f"object store {where}: {what} failed: {why}")
        self.what = what
        self.where = where
        self.why = why


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where the bucket is. `repr` hides the secret."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def __repr__(self) -> str:
        return f"StoreSettings(endpoint={self.endpoint!r}, bucket={self.bucket!r}, access_key={self.access_key!r})"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> StoreSettings:
        """From MAZE_S3_ENDPOINT, MAZE_S3_BUCKET, MAZE_S3_ACCESS_KEY, MAZE_S3_SECRET_KEY and MAZE_S3_REGION (optional).

        Raises:
            ValueError: names every variable that is missing.
        """
        names = ("MAZE_S3_ENDPOINT", "MAZE_S3_BUCKET", "MAZE_S3_ACCESS_KEY", "MAZE_S3_SECRET_KEY")
        missing = [name for name in names if not environ.get(name)]
        if missing:
            raise ValueError(f"set {', '.join(missing)}: where the object store is")
        endpoint, bucket, access_key, secret_key = (environ[name] for name in names)
        return cls(endpoint.rstrip("/"), bucket, access_key, secret_key, environ.get("MAZE_S3_REGION") or "us-east-1")


class ObjectStore:
    """One bucket. Thread-safe; every method but the presigning ones raises StoreError."""

    def __init__(self, settings: StoreSettings, connections: int = 32) -> None:
        self.settings = settings
        self.bucket = settings.bucket
        self._presigner = Presigner(
            settings.endpoint, settings.bucket, settings.access_key, settings.secret_key, settings.region
        )
        self._client: S3Client = boto3.client(
            "s3",
            endpoint_url=settings.endpoint,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            region_name=settings.region,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"total_max_attempts": TRIES, "mode": "standard"},
                max_pool_connections=connections,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def close(self) -> None:
        """Close the connections that are kept alive."""
        self._client.close()

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, OSError) as error:
            raise StoreError(what, f"{self.settings.endpoint}/{self.bucket}", str(error)) from error

    def ensure_bucket(self) -> None:
        """Create the bucket unless it is there."""
        with self._errors("create bucket"):
            try:
                self._client.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("404", "NoSuchBucket", "NotFound"):
                    raise
                try:
                    self._client.create_bucket(Bucket=self.bucket)
                except ClientError as lost:
                    if lost.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                        raise

    def check(self) -> None:
        """One cheap call: raises where the bucket can't be used."""
        with self._errors("head bucket"):
            self._client.head_bucket(Bucket=self.bucket)

    def put(self, key: str, data: bytes) -> str:
        """Returns the ETag, which stands for this content."""
        with self._errors(f"put {key}"):
            return self._client.put_object(Bucket=self.bucket, Key=key, Body=data)["ETag"]

    def get(self, key: str) -> bytes | None:
        """All bytes of an object; None: no such object."""
        found = self.get_tagged(key)
        return None if found is None else found[0]

    def get_tagged(self, key: str) -> tuple[bytes, str] | None:
        """The same with its ETag."""
        with self._errors(f"get {key}"):
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=key)
                return answer["Body"].read(), answer["ETag"]
            except ClientError as error:
                if error.response["Error"]["Code"] in ABSENT:
                    return None
                raise

    def get_stream(self, key: str) -> Iterator[bytes] | None:
        """The same in chunks of at most 1 MiB. The chunks may raise StoreError, too."""
        with self._errors(f"get {key}"):
            try:
                body = self._client.get_object(Bucket=self.bucket, Key=key)["Body"]
            except ClientError as error:
                if error.response["Error"]["Code"] in ABSENT:
                    return None
                raise

        def chunks() -> Iterator[bytes]:
            with self._errors(f"read {key}"), body:
                yield from body.iter_chunks(CHUNK)

        return chunks()

    def exists(self, key: str) -> bool:
        with self._errors(f"head {key}"):
            try:
                self._client.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if error.response["Error"]["Code"] in ABSENT:
                    return False
                raise
            return True

    def presign(self, method: str, key: str, seconds: int) -> str:
        return self._presigner.presign(method, key, seconds)

    def presign_get(self, key: str, seconds: int) -> str:
        return self._presigner.presign("GET", key, seconds)

    def presign_put(self, key: str, seconds: int) -> str:
        return self._presigner.presign("PUT", key, seconds)

    def delete(self, key: str) -> None:
        """Deleting what is not there is fine."""
        with self._errors(f"delete {key}"):
            self._client.delete_object(Bucket=self.bucket, Key=key)

    def delete_prefix(self, prefix: str) -> int:
        """Delete every key that starts with `prefix` (not ''); returns how many."""
        if not prefix:
            raise ValueError("an empty prefix would delete the whole bucket")
        keys = self.list_keys(prefix)
        with self._errors(f"delete {prefix}*"):
            for start in range(0, len(keys), 1000):
                batch = [{"Key": key} for key in keys[start : start + 1000]]
                answer = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True})  # type: ignore[typeddict-item]
                if answer.get("Errors"):
                    raise OSError(str(answer["Errors"][0]))
        return len(keys)

    def list_keys(self, prefix: str) -> list[str]:
        """All keys that start with `prefix`, sorted as the store does."""
        return list(self.list_tags(prefix))

    def list_tags(self, prefix: str) -> dict[str, str]:
        """The same with their ETags."""
        with self._errors(f"list {prefix}*"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", ())}


class AsyncStore:
    """The same for asyncio: `await run(store.store.get, key)`, and short forms of the common calls."""

    def __init__(self, store: ObjectStore, threads: int = 16) -> None:
        self.store = store
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._session: aiohttp.ClientSession | None = None

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call in this store's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, functools.partial(call, *args, **kwargs))

    async def put(self, key: str, data: bytes) -> str:
        """Returns the ETag, which stands for this content."""
        if len(data) > CHUNK:  # in a thread, so that nothing else waits for it
            return await self.run(self.store.put, key, data)
        _, tag = await self._call("PUT", key, data)
        return tag

    async def get(self, key: str) -> bytes | None:
        """All bytes of an object; None: no such object."""
        found = await self.get_tagged(key)
        return None if found is None else found[0]

    async def get_tagged(self, key: str) -> tuple[bytes, str] | None:
        """The same with its ETag."""
        try:
            return await self._call("GET", key)
        except _Absent:
            return None

    async def _call(self, method: str, key: str, data: bytes | None = None) -> tuple[bytes, str]:
        """Body and ETag. What may be of passing nature is tried TRIES times."""
        what, where = f"{method.lower()} {key}", f"{self.store.settings.endpoint}/{self.store.bucket}"
        for left in reversed(range(TRIES)):
            try:
                async with self._open(method, key, data) as answer:
                    body = await answer.read()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                why, passing = str(error) or type(error).__name__, True
            else:
                if answer.status < 300:
                    return body, answer.headers.get("ETag", "")
                if answer.status == 404 and not NO_BUCKET.search(body):
                    raise _Absent
                why = f"{answer.status} {answer.reason}: {body[:500].decode(errors='replace')}"
                passing = answer.status >= 500 or answer.status == 429
            if not (passing and left):
                break
            await asyncio.sleep(random.uniform(0, 2.0 / 2**left))
        raise StoreError(what, where, why)

    def _open(self, method: str, key: str, data: bytes | None) -> Any:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
            connector = aiohttp.TCPConnector(limit=CONNECTIONS)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False)
        url = self.store.presign(method, key, PRESIGNED_SECONDS)
        headers = {"Content-Type": "application/octet-stream"} if data is not None else None
        return self._session.request(method, URL(url, encoded=True), data=data, headers=headers, allow_redirects=False)

    async def get_many(self, keys: Sequence[str], at_once: int = 8) -> list[tuple[bytes, str] | None]:
        """Many objects and their ETags, in the order of their keys; few at a time, so that others get their turn in the pool."""
        gate = asyncio.Semaphore(at_once)

        async def one(key: str) -> tuple[bytes, str] | None:
            async with gate:
                return await self.get_tagged(key)

        return await asyncio.gather(*(one(key) for key in keys))

    async def exists(self, key: str) -> bool:
        return await self.run(self.store.exists, key)

    async def delete(self, key: str) -> None:
        await self.run(self.store.delete, key)

    async def delete_prefix(self, prefix: str) -> int:
        return await self.run(self.store.delete_prefix, prefix)

    async def list_keys(self, prefix: str) -> list[str]:
        return await self.run(self.store.list_keys, prefix)

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._session is not None:
            await self._session.close()
