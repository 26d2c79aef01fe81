"""How a task ends, its processes, and the talk with the operator: the real runner against servers that this test plays."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maze_runner.build_pyz import build_archive
from runner_stage import PYTHON, Stage, is_alive, read_until, source, terminate, wait_gone

SITE_PACKAGES = next(path for path in sys.path if path.endswith("site-packages"))
RUNNER_IMAGE = str(Path(__file__).parents[2] / "runner-image")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "runner.pyz").write_bytes(build_archive())
    with Stage(tmp_path) as found:
        yield found


# --- failures by name --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('return {"b": 1}', ("UserError", "MissingOutput", "'a'; it returned 'b'", None)),
        ("return [1]", ("UserError", "WrongResultType", "builtins.list: [1]", None)),
        ("return {1: 2}", ("UserError", "WrongResultType", "builtins.int: 1", None)),
        ('return {"a": sys._getframe()}', ("UserError", "NotSerializable", "output 'a'", None)),
        ("os._exit(3)", ("UserError", "Exited", "code 3", 3)),
        ("sys.exit()", ("UserError", "Exited", "without returning a result", 0)),
        ("os.kill(os.getpid(), signal.SIGSEGV)", ("UserError", "Killed", "SIGSEGV", 139)),
        ("os.kill(os.getpid(), signal.SIGKILL)", ("UserError", "Killed", "SIGKILL", 137)),
    ],
)
def test_every_end_has_its_reason(stage: Stage, body: str, expected: tuple[str, str, str, int | None]) -> None:
    stage.offer(source(body), outputs=["a"])
    failure = stage.failure()
    cause, reason, message, code = expected
    assert (failure["cause"], failure["reason"], failure.get("exitCode")) == (cause, reason, code)
    assert message in failure["message"]


def test_an_exception_that_names_its_reason_is_a_failure_in_its_own_words(stage: Stage) -> None:
    stage.offer(source('error = RuntimeError("not\\ntoday")\nerror.maze_reason = "OutOfLuck"\nraise error'))
    failure = stage.failure()
    assert failure == {"cause": "UserError", "reason": "OutOfLuck", "message": "not today"}
    assert stage.objects["log"].decode() == "not today\n"


def test_an_exception_shows_the_users_lines_and_only_those(stage: Stage) -> None:
    stage.offer(source('print("before")\nreturn {"a": int("x\\ud800")}'))
    failure = stage.failure()
    assert failure["reason"] == "UserException"
    assert failure["message"].startswith("ValueError: invalid literal")
    lines = failure["traceback"].splitlines()
    assert lines[1] == '  File "<task count>", line 4, in f'
    assert 'return {"a": int(' in lines[2]
    assert "maze_runner" not in failure["traceback"]
    log = stage.objects["log"].decode()
    assert log.startswith("before\nTraceback"), "the log has no traceback"


@pytest.mark.parametrize(
    ("lease", "message"),
    [
        ({"source": "def f(:"}, "SyntaxError"),
        ({"source": "import nothing_like_this"}, "No module named 'nothing_like_this' (the image"),
        ({"source": "x = 1"}, "no function"),
        ({"source": "def f(p): pass", "function": "g"}, "no function 'g'; it defines 'f'"),
        ({"code": b"garbage"}, "can't be loaded"),
        ({"code": pickle.dumps(5)}, "not a function but int"),
        (
            {"code": b"never loaded", "pythonVersion": "3.2"},
            f"Python 3.2, but the image of this task has Python {PYTHON}",
        ),
    ],
)
def test_code_that_can_not_be_loaded_says_why(stage: Stage, lease: dict[str, Any], message: str) -> None:
    stage.offer()
    stage.lease.update(lease)
    if "code" in lease:
        stage.lease["code"] = stage.stored(lease["code"])
    failure = stage.failure()
    assert (failure["cause"], failure["reason"]) == ("UserError", "CodeNotLoadable")
    assert message in failure["message"]


def test_changed_and_lost_payloads_are_named(stage: Stage) -> None:
    stage.offer("def f(p): return {}")
    stage.lease["inputs"] = {"x": {"encoding": "json", "stored": stage.stored(b"[1]", "x.json")}}
    stage.objects["x.json"] = b"[2]"
    failure = stage.failure()
    assert (failure["cause"], failure["reason"]) == ("Storage", "ChecksumMismatch")
    assert "input 'x'" in failure["message"]
    stage.answers["/s3/x.json"] = [(500, {}), (0, {})]
    stage.objects["x.json"] = b"[1]"
    assert "failure" not in stage.result(), "an object store that stumbles costs the task"
    stage.answers["/s3/x.json"] = [(503, {"Retry-After": "0"})] * 9
    assert stage.failure()["reason"] == "DownloadFailed"


# --- processes ---------------------------------------------------------------------------------------------------------


def test_a_timeout_ends_a_task_that_ignores_sigterm_and_everything_it_started(stage: Stage) -> None:
    body = """signal.signal(signal.SIGTERM, signal.SIG_IGN)
p = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(p.pid, flush=True)
time.sleep(600)"""
    stage.offer(source(body), timeoutSeconds=1)
    failure = stage.failure()
    assert (failure["cause"], failure["reason"]) == ("Timeout", "TimedOut")
    assert "1 s" in failure["message"]
    assert not is_alive(int(stage.objects["log"].split()[0]))


def test_a_process_left_behind_does_not_hold_the_result_back(stage: Stage) -> None:
    stage.offer(source('return {"pid": subprocess.Popen(["sleep", "600"], start_new_session=True).pid}'))
    assert not is_alive(stage.result()["outputs"]["pid"]["value"])


def test_output_can_be_followed_while_the_task_runs_and_deletion_stops_it(stage: Stage) -> None:
    stage.offer(source('print("pid", os.getpid(), "end")\ntime.sleep(600)'))
    process = stage.start()
    pid = int(read_until(process, b"end").split()[1])
    assert terminate(process) == 143
    wait_gone(pid)
    assert "/v1/complete" not in stage.bodies, "a deleted pod reported"


def test_a_drained_node_does_not_lose_a_result_that_is_there_already(stage: Stage) -> None:
    stage.answers["/s3/result.json"] = [(503, {"Retry-After": "1"})]
    stage.offer(source('return {"a": 1}'))
    process = stage.start()
    stage.wait_for(lambda: stage.count("/s3/result.json") == 1)
    assert terminate(process) == 0
    assert stage.bodies["/v1/complete"]["result"]["outputs"]["a"]["value"] == 1


def test_a_copy_of_the_task_that_returns_reports_nothing(stage: Stage) -> None:
    stage.offer(source('child = os.fork()\nchild and os.waitpid(child, 0)\nreturn {"parent": child > 0}'))
    assert stage.result()["outputs"]["parent"]["value"] is True


# --- the operator ------------------------------------------------------------------------------------------------------


def test_the_result_is_stored_before_it_is_reported_over_few_connections(stage: Stage) -> None:
    stage.offer(source('print("x")\nreturn {"a": 1}'))
    stage.result()
    assert [path for _, path in stage.requests] == [
        "/v1/lease",
        "/s3/log",
        "/s3/result.json",
        "/v1/complete",
        "/v1/lease",
    ]
    assert len(stage.connections) == 1
    asked = stage.bodies["/v1/lease"]
    assert asked == {"namespace": "maze", "pod": "pod-1", "uid": "pod-uid", "python": PYTHON}
    told = stage.bodies["/v1/complete"]
    assert (told["task"], told["attempt"], told["uid"]) == ("count", 1, "pod-uid")
    assert told["result"]["startTime"] < told["result"]["completionTime"]
    assert told["result"]["startTime"].endswith("Z")


def test_an_operator_that_starts_or_vanishes_costs_no_result(stage: Stage) -> None:
    stage.answers["/v1/lease"] = [(503, {"Retry-After": "0"}), (0, {}), (502, {})]
    stage.answers["/v1/complete"] = [(0, {}), (0, {}), (503, {"Retry-After": "0"})]
    stage.answers["/s3/result.json"] = [(403, {}), (500, {})]
    stage.answers["/s3/log"] = [(500, {})] * 3
    stage.offer(source('print("x")\nreturn {"a": 1}'))
    assert stage.result()["outputs"]["a"]["value"] == 1
    assert "log" not in stage.objects


def test_retry_after_is_kept_to(stage: Stage) -> None:
    stage.answers["/v1/lease"] = [(503, {"Retry-After": "1"})]
    stage.offer(source("return {}"))
    process = stage.start()
    stage.wait_for(lambda: stage.count("/v1/lease") == 1)
    with pytest.raises(AssertionError), stage.changed:
        assert stage.changed.wait_for(lambda: stage.count("/v1/lease") == 2, 0.7)
    assert process.wait(10) == 0


@pytest.mark.parametrize("path", ["/v1/lease", "/v1/uploads", "/v1/complete"])
def test_a_pod_whose_attempt_is_taken_away_ends_quietly(stage: Stage, path: str) -> None:
    stage.answers[path] = [(409, {})]
    stage.offer(source('return {"big": "x" * 100_000}'))
    code, _, err = stage.run()
    assert code == 0
    assert ("nothing to do" in err) == (path != "/v1/lease"), err
    assert stage.count("/v1/complete") == (path == "/v1/complete")


def test_a_wrong_token_ends_the_pod_with_the_reason_in_its_log(stage: Stage) -> None:
    code, _, err = stage.run(MAZE_TOKEN="wrong")
    assert code == 1
    assert "HTTP 401" in err


def test_an_expired_upload_url_is_replaced(stage: Stage) -> None:
    stage.answers["/s3/big"] = [(403, {}), (500, {})]
    stage.offer(source('return {"big": "x" * 100_000}'))
    assert stage.result()["outputs"]["big"]["key"] is True
    assert stage.objects["big"] == b'"' + b"x" * 100_000 + b'"'
    assert stage.count("/v1/uploads") == 2


def test_too_many_outputs_are_refused_instead_of_getting_lost(stage: Stage) -> None:
    stage.offer("def f(p): return {'k' * 300 + str(i): 0 for i in range(9000)}")
    assert stage.failure()["reason"] == "TooManyOutputs"


def test_it_starts_as_a_module_as_in_the_runner_image(stage: Stage) -> None:
    stage.offer(lambda params: {"a": Path.cwd().name})
    environ = {"PYTHONPATH": f"{RUNNER_IMAGE}{os.pathsep}{SITE_PACKAGES}"}
    code, _, err = stage.run([sys.executable, "-S", "-m", "maze_runner"], **environ)
    assert code == 0, err
    assert json.loads(stage.objects["result.json"])["outputs"]["a"]["value"] == "work"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
