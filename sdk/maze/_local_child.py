"""The process of one task on this machine: `python -I _local_child.py FOLDER`, in the task's working directory.

FOLDER/request.json says what to do: code or source, inputs, outputs. FOLDER/outcome.json says what came out. It needs
cloudpickle only, as in a pod, and treats code and values as the runner in a pod does.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
import sys
import traceback
from pathlib import Path
from types import FunctionType, ModuleType, TracebackType
from typing import Any, Callable, Dict, List, Optional

Json = Dict[str, Any]


class Failed(Exception):
    """reason, message, traceback"""


def main(folder: Path) -> None:
    outcome: Json
    try:
        outcome = {"outputs": execute(json.loads((folder / "request.json").read_text()), folder)}
    except Failed as error:
        reason, message, trace = error.args
        print(trace or message, file=sys.stderr)
        outcome = {"failure": {"reason": reason, "message": message, "traceback": trace}}
    sys.stdout.flush()
    part = folder / "outcome.json.part"
    part.write_text(json.dumps(outcome))
    part.replace(folder / "outcome.json")


def execute(request: Json, folder: Path) -> Dict[str, Json]:
    """The outputs, described."""
    sys.modules["__main__"] = ModuleType("__main__")
    sys.path.insert(0, str(Path.cwd()))
    function = attempt("CodeNotLoadable", "the function can't be loaded: ", lambda: load_function(request))
    params = {}
    for number, (key, given) in enumerate(request["inputs"].items()):
        params[key] = attempt("InputNotLoadable", f"input '{key}' can't be loaded: ", load_input, given, number)
    returned = attempt("UserException", "", function, params)
    if not isinstance(returned, dict):
        raise Failed("WrongResultType", f"the function must return a dict of outputs, not {returned!r:.200}", "")
    missing = [key for key in request["outputs"] if key not in returned]
    if missing:
        raise Failed("MissingOutput", f"the function returned no output {', '.join(map(repr, missing))}", "")
    encoding = load_encoding()
    return {
        key: attempt(
            "NotSerializable",
            f"output '{key}' can't be sent to other tasks: ",
            write_output,
            encoding,
            returned[key],
            folder / f"out-{number}",
        )
        for number, key in enumerate(request["outputs"] or list(returned))
    }


def attempt(reason: str, prefix: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """What `call` returns. Raises: Failed, in place of any exception."""
    try:
        return call(*arguments)
    except Exception as error:  # noqa: BLE001 - user code runs here
        name = type(error).__qualname__
        text = "".join(traceback.format_exception(type(error), error, users_part(error.__traceback__)))
        raise Failed(reason, f"{prefix}{name}: {error}", text) from None


def users_part(trace: Optional[TracebackType]) -> Optional[TracebackType]:
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def load_function(request: Json) -> Callable[..., Any]:
    if request.get("code"):
        found = read_pickle(request["code"])
    else:
        name = f"<task {request['task']}>"
        module = ModuleType("maze_task")
        sys.modules["maze_task"] = module
        exec(compile(request["source"], name, "exec", dont_inherit=True), module.__dict__)
        import cloudpickle

        cloudpickle.register_pickle_by_value(module)
        made = [item for item in vars(module).values() if isinstance(item, FunctionType)]
        found = next((item for item in made if item.__module__ == "maze_task"), None)
    if not callable(found):
        raise TypeError("there is no function in it")
    return found  # type: ignore[no-any-return]


def load_input(given: Json, number: int) -> Any:
    if "value" in given:
        return given["value"]
    if given["encoding"] == "pickle":
        return read_pickle(given["path"])
    if given["encoding"] == "json":
        return json.loads(Path(given["path"]).read_text(encoding="utf-8"))
    target = Path.cwd() / "inputs" / str(number) / (given.get("file_name") or "file")
    target.parent.mkdir(parents=True)
    shutil.copyfile(given["path"], target)
    return target


def read_pickle(path: str) -> Any:
    with Path(path).open("rb") as file:
        return pickle.load(file)


def write_output(encoding: Any, value: Any, path: Path) -> Json:
    described: Json = {"path": str(path)}
    if encoding.is_plain(value):
        path.write_bytes(encoding.encode_json(value))
        return {**described, "encoding": "json", "shown": value}
    if encoding.is_file(value):
        shutil.copyfile(value, path)
        shown = f"<file {value.name} of {path.stat().st_size} bytes>"
        return {**described, "encoding": "file", "file_name": value.name, "shown": shown}
    import cloudpickle

    with path.open("wb") as file:
        cloudpickle.dump(value, file)
    return {**described, "encoding": "pickle", "shown": encoding.stand_in(value)}


def load_encoding() -> Any:
    """Maze's own module, without importing the rest of Maze."""
    spec = importlib.util.spec_from_file_location("maze_encoding", Path(__file__).with_name("_encoding.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    arguments: List[str] = sys.argv[1:]
    main(Path(arguments[0]))
