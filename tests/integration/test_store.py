"""The object store as deployed: what every payload goes through."""

from __future__ import annotations

import dataclasses
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator

import pytest

from maze_io.store import CHUNK, AsyncStore, ObjectStore, StoreError, StoreSettings


def test_bytes_come_back_as_they_went(store: ObjectStore) -> None:
    key = f"test/{uuid.uuid4()}"
    data = bytes(range(256)) * 4096
    store.put(key, data)
    assert store.get(key) == data
    assert store.exists(key)
    store.delete(key)
    assert store.get(key) is None


def test_a_presigned_url_is_good_for_its_key_and_method_only(store: ObjectStore) -> None:
    key = f"test/{uuid.uuid4()}"
    put = urllib.request.Request(store.presign_put(key, 60), data=b"signed", method="PUT")
    with urllib.request.urlopen(put, timeout=20):
        pass
    with urllib.request.urlopen(store.presign_get(key, 60), timeout=20) as answer:
        assert answer.read() == b"signed"
    other = store.presign_get(key, 60).replace(key, "test/other")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(other, timeout=20)
    assert refused.value.code == 403
    refused.value.close()
    store.delete(key)


def test_a_prefix_is_deleted_whole_and_nothing_beside_it(store: ObjectStore) -> None:
    root = f"test/{uuid.uuid4()}"
    for name in ("a/1", "a/2", "ab"):
        store.put(f"{root}/{name}", b"x")
    assert store.delete_prefix(f"{root}/a/") == 2
    assert store.list_keys(root) == [f"{root}/ab"]
    store.delete_prefix(root)


def test_an_etag_stands_for_one_content(store: ObjectStore) -> None:
    root = f"test/{uuid.uuid4()}"
    first, same, other = (store.put(f"{root}/{name}", data) for name, data in (("a", b"1"), ("b", b"1"), ("a", b"2")))
    assert first == same != other
    assert store.list_tags(root) == {f"{root}/a": other, f"{root}/b": same}
    assert store.get_tagged(f"{root}/a") == (b"2", other)
    assert store.get_tagged(f"{root}/c") is None
    store.delete_prefix(root)


def test_an_unreachable_store_is_named_with_what_was_tried() -> None:
    nowhere = ObjectStore(StoreSettings("http://127.0.0.1:9", "maze", "a", "b"))
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:9/maze: get some/key failed"):
        nowhere.get("some/key")


@pytest.fixture
async def quick(store: ObjectStore) -> AsyncIterator[AsyncStore]:
    made = AsyncStore(store)
    yield made
    await made.close()


@pytest.mark.anyio
@pytest.mark.parametrize("size", [0, 1000, CHUNK + 1])
async def test_what_is_done_for_every_task_does_the_same(quick: AsyncStore, store: ObjectStore, size: int) -> None:
    key, data = f"test/{uuid.uuid4()}/t ä+1/result.json", b"x" * size
    tag = await quick.put(key, data)
    assert store.get_tagged(key) == (data, tag)
    assert await quick.get_tagged(key) == (data, tag)
    assert await quick.get_many([key, f"{key}-not"]) == [(data, tag), None]
    await quick.delete(key)
    assert await quick.get(key) is None


@pytest.mark.anyio
async def test_a_bucket_that_there_is_not_is_an_error_and_no_absent_object(store: ObjectStore) -> None:
    elsewhere = AsyncStore(ObjectStore(dataclasses.replace(store.settings, bucket="no-such-bucket")))
    with pytest.raises(StoreError, match="NoSuchBucket"):
        await elsewhere.get("some/key")
    await elsewhere.close()


@pytest.mark.anyio
async def test_wrong_credentials_are_told_at_once(store: ObjectStore) -> None:
    stranger = AsyncStore(ObjectStore(dataclasses.replace(store.settings, secret_key="wrong")))
    with pytest.raises(StoreError, match="put some/key failed: 403"):
        await stranger.put("some/key", b"")
    await stranger.close()


@pytest.mark.anyio
async def test_an_unreachable_store_is_named_there_too() -> None:
    nowhere = AsyncStore(ObjectStore(StoreSettings("http://127.0.0.1:9", "maze", "a", "b")))
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:9/maze: get some/key failed"):
        await nowhere.get("some/key")
    await nowhere.close()
