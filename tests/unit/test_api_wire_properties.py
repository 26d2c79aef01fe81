"""Whatever a client sends is either refused in words or a task that Kubernetes takes: never a crash, never half of it."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from maze_api.bodies import AddLangGraphBody, EdgeBody, RunLangGraphBody, SaveTaskBody
from maze_api.errors import BadRequest
from maze_api.submit import DraftTask, dump
from maze_api.wire import arguments, check_file_name, translate, translate_langgraph
from maze_crds.names import payload_key
from maze_crds.run import RunSpec

WORKFLOW, TASK = ("a" * 8 + "-0000-4000-8000-" + "0" * 12, "b" * 8 + "-0000-4000-8000-" + "0" * 12)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
pickles = st.binary(max_size=20).map(lambda data: base64.b64encode(b"\x80\x05" + data + b".").decode())
codes = (
    st.none()
    | pickles
    | st.text(max_size=20)
    | st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode())
)
payloads = st.fixed_dictionaries(
    {"key": st.just(payload_key("0" * 64)) | st.text(), "sha256": st.just("0" * 64), "size": st.integers(-1, 9)},
    optional={"encoding": st.sampled_from(["json", "pickle", "file", "tar"]), "file_name": st.text(max_size=5)},
)
parameters = st.fixed_dictionaries(
    {"key": st.text(max_size=3), "value": anything | st.just(f"{WORKFLOW}.output.y")},
    optional={
        "input_schema": st.sampled_from(["from_user", "from_task", "other"]),
        "payload": payloads,
        "data_type": anything,
    },
)
bodies = st.fixed_dictionaries(
    {"workflow_id": st.just(WORKFLOW), "task_id": st.just(TASK) | st.text(max_size=70)},
    optional={
        "code_ser": codes,
        "code_str": st.none() | st.text(max_size=20),
        "task_input": anything
        | st.builds(dict, input_params=st.dictionaries(st.text(max_size=2), parameters, max_size=3)),
        "task_output": anything | st.just({"output_params": {"1": {"key": "y"}}}),
        "resources": anything | st.dictionaries(st.sampled_from(["cpu", "cpu_mem", "gpu", "gpu_mem"]), st.floats()),
        "python_version": st.sampled_from([None, "3.11", "3.9", "2", 3]),
        "image": st.none() | st.text(max_size=5),
        "timeout": st.none() | st.integers() | st.floats(),
        "isolation": st.sampled_from([None, "run", "task", "pod", 1]),
        "retries": st.none() | st.integers(-1, 200),
        "env": anything | st.dictionaries(st.text(max_size=5), st.text(max_size=5)),
    },
)


@given(bodies)
def test_a_saved_task_is_refused_or_fits_into_a_run(sent: dict[str, Any]) -> None:
    try:
        task, uploads = translate(SaveTaskBody.model_validate(sent), "name", "3.11")
    except (ValidationError, BadRequest):
        return
    again = DraftTask.from_json(DraftTask(TASK, "name", 1, task).to_json()).task
    assert again == task
    made = json.dumps(dump(task), allow_nan=False).encode()
    assert RunSpec.model_validate({"workflow": {"tasks": [json.loads(made)]}})
    assert all(upload.key.startswith(("code/", "drafts/")) for upload in uploads)
    assert set(uploads[0].model_dump()) == {"key", "data"} if uploads else task.python is not None


@given(codes, codes, codes, anything)
def test_langgraph_bodies_are_refused_or_fit_into_a_run(code: Any, args: Any, kwargs: Any, resources: Any) -> None:
    try:
        sent = {"workflow_id": WORKFLOW, "code_ser": code, "resources": resources}
        task, _ = translate_langgraph(AddLangGraphBody.model_validate(sent), TASK, "3.11")
        call = {"workflow_id": WORKFLOW, "task_id": TASK, "args": args, "kwargs": kwargs}
        body = RunLangGraphBody.model_validate(call)
        inputs, _ = arguments(body.args, body.keywords)
    except (ValidationError, BadRequest):
        return
    assert RunSpec.model_validate({"workflow": {"tasks": [dump(task.model_copy(update={"inputs": inputs}))]}})


@given(anything)
def test_any_json_in_place_of_a_body_is_refused_in_words(sent: Any) -> None:
    for kind in (SaveTaskBody, EdgeBody, AddLangGraphBody, RunLangGraphBody):
        try:
            kind.model_validate(sent)
        except ValidationError:
            continue
        raise AssertionError(f"{kind.__name__} took {sent!r}")


@given(st.text(st.characters(codec=None), max_size=300))
def test_a_file_name_is_one_of_a_file(name: str) -> None:
    try:
        kept = check_file_name(name)
    except BadRequest:
        return
    assert kept == name
    assert kept not in ("", ".", "..")
    assert not set(kept) & {"/", "\0"}
    assert len(kept.encode()) <= 255
