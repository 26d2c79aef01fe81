"""If these fail, users see old states of their Runs, or Runs that no longer exist."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from maze_io.cache import Cache, Changed, Replaced, key_of


def run(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"namespace": "maze", "name": name, "resourceVersion": str(version)}}


def names(cache: Cache) -> set[str]:
    return {key_of(obj)[1] for obj in cache}


def test_a_list_makes_the_cache_ready_and_removes_what_is_gone() -> None:
    cache = Cache()
    assert not cache.synced
    cache.apply(Replaced([run("a", 1), run("b", 2)], "5"))
    assert cache.synced
    cache.apply(Replaced([run("b", 2)], "6"))
    assert names(cache) == {"b"}


def test_an_older_object_never_replaces_a_newer_one() -> None:
    cache = Cache()
    cache.apply(Replaced([run("a", 7)], "9"))
    cache.put(run("a", 12))
    cache.apply(Changed("MODIFIED", run("a", 10)))
    assert cache.get("maze", "a") == run("a", 12)
    cache.apply(Replaced([run("a", 11)], "11"))
    assert cache.get("maze", "a") == run("a", 12)


def test_versions_are_numbers_not_texts() -> None:
    cache = Cache()
    cache.apply(Replaced([run("a", 99)], "99"))
    cache.apply(Changed("MODIFIED", run("a", 100)))
    assert cache.get("maze", "a") == run("a", 100)


def test_our_own_new_object_survives_a_list_that_is_older() -> None:
    cache = Cache()
    cache.put(run("mine", 12))
    cache.apply(Replaced([], "11"))
    assert names(cache) == {"mine"}
    cache.apply(Replaced([], "12"))
    assert names(cache) == set()


def test_a_late_answer_to_our_write_does_not_bring_back_a_deleted_object() -> None:
    cache = Cache()
    cache.apply(Replaced([run("a", 3)], "4"))
    cache.apply(Changed("DELETED", run("a", 8)))
    cache.put(run("a", 7))
    assert names(cache) == set()


def test_the_deletion_of_a_predecessor_does_not_remove_the_new_object() -> None:
    cache = Cache()
    cache.apply(Replaced([run("a", 3)], "4"))
    cache.put(run("a", 9))
    cache.apply(Changed("DELETED", run("a", 8)))
    assert cache.get("maze", "a") == run("a", 9)


def test_listeners_hear_of_real_changes_only_and_can_leave() -> None:
    heard: list[tuple[str, bool, bool]] = []
    cache = Cache(lambda key, old, new: heard.append((key[1], old is not None, new is not None)))
    cache.apply(Replaced([run("a", 1)], "2"))
    cache.apply(Replaced([run("a", 1)], "3"))
    cache.apply(Changed("MODIFIED", run("a", 4)))
    cache.apply(Changed("DELETED", run("a", 5)))
    assert heard == [("a", False, True), ("a", True, True), ("a", True, False)]
    more: list[str] = []
    leave = cache.subscribe(lambda key, old, new: more.append(key[1]))
    cache.apply(Changed("ADDED", run("b", 6)))
    leave()
    cache.apply(Changed("ADDED", run("c", 7)))
    assert more == ["b"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.data())
def test_own_writes_in_any_order_end_where_the_server_is(history: list[tuple[str, bool]], data: st.DataObject) -> None:
    """The reflector's order is the server's; answers to own writes come at any later or earlier time."""
    cache = Cache()
    cache.apply(Replaced([], "0"))
    written = [(version, name) for version, (name, exists) in enumerate(history, 1) if exists]
    early = data.draw(st.sets(st.sampled_from(written))) if written else set()
    truth: dict[str, dict[str, Any]] = {}
    for version, (name, exists) in enumerate(history, 1):
        obj = run(name, version)
        if (version, name) in early:
            cache.put(obj)
        cache.apply(Changed("MODIFIED" if exists else "DELETED", obj))
        if exists:
            truth[name] = obj
        else:
            truth.pop(name, None)
    for version, name in data.draw(st.permutations(written)):
        cache.put(run(name, version))
    assert {key_of(obj)[1]: obj for obj in cache} == truth
