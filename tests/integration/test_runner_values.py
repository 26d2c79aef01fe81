"""What a function gets and gives, with the real runner: the next task must get the very same, and people see what they can."""

from __future__ import annotations

import base64
import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maze_runner.build_pyz import build_archive
from runner_stage import PYTHON, Stage, source


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "runner.pyz").write_bytes(build_archive())
    with Stage(tmp_path) as found:
        yield found


def value(output: dict[str, Any]) -> Any:
    return output["value"] if "value" in output else pickle.loads(base64.b64decode(output["data"]))


def test_pickled_functions_work_whatever_they_are_made_of(stage: Stage) -> None:
    factor = 3

    class Box:
        def __init__(self, content: int) -> None:
            self.content = content

    def closure(params: dict[str, Any]) -> dict[str, Any]:
        return {"n": params["n"] * factor, "box": Box(7), "f": lambda x: x + factor}

    stage.offer(closure, inputs={"n": {"value": 2}}, outputs=["n", "box", "f"], pythonVersion=PYTHON)
    outputs = stage.result()["outputs"]
    assert value(outputs["n"]) == 6
    assert value(outputs["box"]).content == 7
    assert value(outputs["f"])(1) == 4
    assert "Box" in outputs["box"]["display"]
    stage.offer(lambda params: {"y": params["x"]})
    stage.lease["inputs"] = {"x": {"encoding": "pickle", "stored": stage.stored(pickle.dumps({1, 2}), "x.bin")}}
    assert value(stage.result()["outputs"]["y"]) == {1, 2}, "an object from the task before did not arrive"


def test_source_calls_its_first_own_function_even_decorated_by_an_sdk_that_is_not_there(stage: Stage) -> None:
    text = """
    from maze import MaClient, task
    from dataclasses import dataclass
    from json import dumps

    @dataclass
    class Point:
        x: int

    @task(inputs=["a"], outputs=["r", "p"])
    def first(params):
        return {"r": dumps(params["a"]), "p": Point(4), "extra": 1}

    def second(params):
        return {"r": "second", "p": 0}

    if __name__ == "__main__":
        raise SystemExit("a script's own part must not run")
    """
    stage.offer(text, inputs={"a": {"value": [1]}}, outputs=["r", "p"])
    outputs = stage.result()["outputs"]
    assert outputs["r"]["value"] == "[1]"
    assert value(outputs["p"]).x == 4, "a class of the source can't be used by the next task"
    assert "extra" not in outputs
    stage.offer(text, outputs=["r", "p"], function="second")
    assert stage.result()["outputs"]["r"]["value"] == "second"


def test_json_input_from_the_store_and_a_large_output_to_it(stage: Stage) -> None:
    stage.offer(source('return {"big": os.urandom(1) * (64 << 20), "n": params["x"]}'), outputs=["big", "n"])
    stage.lease["inputs"] = {"x": {"encoding": "json", "stored": stage.stored(b'{"a":[1.5]}', "x.json")}}
    outputs = stage.result()["outputs"]
    assert outputs["n"]["value"] == {"a": [1.5]}
    stored = stage.objects["big"]
    assert outputs["big"]["key"] is True
    assert (outputs["big"]["size"], outputs["big"]["sha256"]) == (len(stored), hashlib.sha256(stored).hexdigest())
    assert len(set(pickle.loads(stored))) == 1
    stage.offer(source('return {"n": len(params["x"])}'))
    stage.lease["inputs"] = {"x": {"encoding": "pickle", "stored": stage.stored(stored, "big")}}
    assert stage.result()["outputs"]["n"]["value"] == 64 << 20


def test_a_function_can_be_called_with_arguments(stage: Stage) -> None:
    """LangGraph nodes are called so."""

    def node(*args: Any, **kwargs: Any) -> Any:
        return {"args": args, "kwargs": kwargs}

    stage.offer(node, call="Arguments", outputs=["result"])
    stage.lease["inputs"] = {
        "args": {"encoding": "pickle", "stored": stage.stored(pickle.dumps((1, {2})))},
        "kwargs": {"encoding": "pickle", "stored": stage.stored(pickle.dumps({"x": [3]}), "kwargs")},
    }
    assert value(stage.result()["outputs"]["result"]) == {"args": (1, {2}), "kwargs": {"x": [3]}}
    stage.lease["inputs"] = {"args": {"value": [1, 2]}}
    assert value(stage.result()["outputs"]["result"]) == {"args": (1, 2), "kwargs": {}}
    stage.lease["inputs"] = {"args": {"value": "no list"}}
    assert stage.failure()["reason"] == "WrongArguments"
    stage.offer(lambda: None, call="Arguments", outputs=["result"], inputs={})
    assert stage.result()["outputs"]["result"]["value"] is None


def test_files_come_and_go_by_their_names(stage: Stage) -> None:
    text = """
    from pathlib import Path

    def f(params):
        first, second = params["a/b"], params["c"]
        assert first.name == second.name == "table ä.csv" and first.is_absolute()
        Path("grown.bin").write_bytes(first.read_bytes() + second.read_bytes() * 40_000)
        Path("latest").symlink_to("grown.bin")
        first.write_text("changed")
        return {"big": Path("latest"), "same": second, "changed": first, "gone": Path("no such"), "folder": Path()}
    """
    stage.offer(text)
    stage.lease["inputs"] = {
        key: {"encoding": "file", "fileName": "table ä.csv", "stored": stage.stored(data, name)}
        for key, data, name in (("a/b", b"one", None), ("c", b"two", "two"))
    }
    outputs = stage.result()["outputs"]
    grown = b"one" + b"two" * 40_000
    assert stage.objects["big"] == grown
    big = {"encoding": "file", "size": len(grown), "sha256": hashlib.sha256(grown).hexdigest(), "key": True}
    assert outputs["big"] == {**big, "fileName": "latest"}
    assert {key: base64.b64decode(outputs[key]["data"]) for key in ("same", "changed")} == {
        "same": b"two",
        "changed": b"changed",
    }
    assert outputs["same"]["fileName"] == "table ä.csv"
    assert [outputs[key]["encoding"] for key in ("gone", "folder")] == ["pickle", "pickle"]


@pytest.mark.parametrize("name", ["..", ".", "../escape", "a\0b", "x" * 300])
def test_a_file_is_never_written_outside_its_folder(stage: Stage, name: str) -> None:
    stage.offer(source('return {"x": 1}'))
    stage.lease["inputs"] = {"x": {"encoding": "file", "fileName": name, "stored": stage.stored(b"data")}}
    failure = stage.failure()
    assert failure["reason"] == "InputNotLoadable"
    assert "input 'x'" in failure["message"]


def test_what_json_can_show_of_a_pickle_travels_with_it_but_never_makes_a_result_too_large(stage: Stage) -> None:
    stage.offer(source('return {"few": [("a", 1)], "odd": {1, 2}, **{str(n): ("x" * 60_000,) for n in range(60)}}'))
    outputs = stage.result()["outputs"]
    assert (value(outputs["few"]), outputs["few"]["rendered"]) == ([("a", 1)], [["a", 1]])
    assert "rendered" not in outputs["odd"]
    assert sum("rendered" in output for output in outputs.values()) == 5, "256 KiB of 60 KB each, and the small one"


def test_a_task_sees_a_clean_world_and_no_token(stage: Stage) -> None:
    text = """
    import os, sys
    def f(params):
        import cloudpickle, http.client
        return {"env": sorted(k for k in os.environ if k.startswith("MAZE")), "files": os.listdir("."),
                "home": os.environ["HOME"] == os.environ["TMPDIR"] == os.getcwd(), "oom": open("/proc/self/oom_score_adj").read(),
                "tls": hasattr(http.client, "HTTPSConnection"), "site": "pytest" in sys.modules or __import__("pytest").__name__,
                "open": len(os.listdir("/proc/self/fd")), "tok": "t0ken" in str(os.environ)}
    """
    stage.offer(text)
    outputs = {key: value(each) for key, each in stage.result()["outputs"].items()}
    assert outputs == {
        "env": [],
        "files": [],
        "home": True,
        "oom": "1000\n",
        "tls": True,
        "site": "pytest",
        "open": 4,
        "tok": False,
    }
