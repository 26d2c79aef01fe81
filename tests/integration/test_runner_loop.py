"""One runner serves many attempts, one after the other: the real process against servers that this test plays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maze_crds.names import log_marker
from maze_runner.build_pyz import build_archive
from runner_stage import WAIT, Stage, read_until, source, wait_gone

Json = dict[str, Any]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "runner.pyz").write_bytes(build_archive())
    with Stage(tmp_path) as found:
        yield found


def test_the_next_lease_is_in_the_answer_and_all_goes_over_one_connection(stage: Stage) -> None:
    stage.offer(source('return {"a": 0}'))
    stage.more = [
        stage.make(source('return {"a": params["n"]}'), task=f"t{n}", inputs={"n": {"value": n}}) for n in (1, 2)
    ]
    code, _, err = stage.run()
    assert code == 0, err
    assert [(each["task"], each["result"]["outputs"]["a"]["value"]) for each in stage.completed] == [
        ("count", 0),
        ("t1", 1),
        ("t2", 2),
    ]
    assert stage.count("/v1/lease") == 2, "a lease that was there was asked for"
    assert len(stage.connections) == 1


def values(stage: Stage) -> list[dict[str, Any]]:
    return [{key: each["value"] for key, each in told["result"]["outputs"].items()} for told in stage.completed]


def reasons(stage: Stage) -> list[str | None]:
    return [told["result"].get("failure", {}).get("reason") for told in stage.completed]


def serve(stage: Stage, *leases: Json, **env: str) -> str:
    """Give out these leases, one after the other; what the runner printed. It must have ended well, and left nothing."""
    stage.offer(leases[0].get("source"), **leases[0])
    stage.more = list(leases[1:])
    code, out, err = stage.run(None, **env)
    assert code == 0, err
    assert len(stage.completed) == len(leases), err
    assert list(stage.folder.glob("maze-*")) == []
    return out


def test_without_a_next_lease_it_asks_and_goes_on_asking_over_the_same_connection(stage: Stage) -> None:
    stage.answers["/v1/lease"] = [(204, {}), (204, {})]
    stage.offer(source('return {"a": 1}'))
    stage.add_when_asked = [stage.make(source('return {"a": 2}'))]
    code, _, err = stage.run()
    assert code == 0, err
    assert values(stage) == [{"a": 1}, {"a": 2}]
    assert stage.count("/v1/lease") == 5
    assert len(stage.connections) == 1


MESS = """import json, threading
json.left_behind = 1
sys.modules["left_behind"] = json
os.environ["LEFT"] = "1"
os.environ.pop("PATH")
open("file", "w").write("x")
os.makedirs("a/b/c")
os.symlink("/", "a/root")
os.chmod("a/b", 0)
os.umask(0o777)
os.chdir("/")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print("no newline at the end", end="")
return {"pid": os.getpid()}"""
LOOK = """import json
seen = [hasattr(json, "left_behind"), "left_behind" in sys.modules, os.environ.get("LEFT"), "PATH" in os.environ, os.listdir(".")]
state = [os.getcwd() == os.environ["HOME"], oct(os.umask(0o22)), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL]
fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
return {"seen": seen + state, "fds": fds, "leader": os.getsid(0) == os.getpid()}"""


def test_nothing_of_one_task_is_seen_by_the_next(stage: Stage) -> None:
    look = stage.make(source(LOOK))
    out = serve(stage, look, stage.make(source(MESS)), look, marker_of(stage, "x", "print(2)\nreturn {}"))
    first, _, second, _ = values(stage)
    assert first == second
    assert first["seen"][:5] == [False, False, None, True, []]
    assert first["seen"][5:] == [True, "0o22", True]
    assert first["leader"]
    assert out == "no newline at the end\n--- maze: task x, attempt 1\n2\n"


def marker_of(stage: Stage, task: str, body: str, **fields: Any) -> Json:
    return stage.make(source(body), marker=log_marker(task, 1), logUrl=f"{stage.url}/s3/log-{task}", **fields)


def test_markers_tell_the_pods_log_apart_and_are_in_no_kept_log(stage: Stage) -> None:
    child = 'subprocess.Popen(["sh", "-c", "echo late; sleep 600"])\nos.write(1, b"one")\nreturn {}'
    bodies = {
        "a": 'print("1")\nreturn {}',
        "b": "return {}",
        "c": 'os.write(2, b"e" * 200_000)\nos._exit(3)',
        "d": child,
    }
    out = serve(stage, *(marker_of(stage, task, body) for task, body in bodies.items()))
    parts = out.split("--- maze: task ")
    assert parts[:4] == ["", "a, attempt 1\n1\n", "b, attempt 1\n", "c, attempt 1\n" + "e" * 200_000 + "\n"]
    assert parts[4].startswith("d, attempt 1\n")
    assert "one" in parts[4]
    assert stage.objects["log-a"] == b"1\n"
    assert stage.objects["log-c"] == b"e" * 200_000
    assert "log-b" not in stage.objects


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "Killed"),
        ("os.closerange(0, 4096)\nos._exit(4)", "Exited"),
        ("os.closerange(0, 4096)\nreturn {}", None),
        ("import shutil\nshutil.rmtree('..')\nreturn {}", "Exited"),
        ("os.rmdir(os.getcwd())\nopen('../work', 'w').close()\nreturn {}", None),
        ("os.kill(os.getppid(), signal.SIGALRM)\nos.kill(os.getppid(), signal.SIGCHLD)\nreturn {}", None),
        ("sys.setrecursionlimit(10**9)\nf = lambda: f()\nimport faulthandler\nfaulthandler._sigsegv()", "Killed"),
    ],
)
def test_whatever_a_task_does_costs_the_next_one_nothing(stage: Stage, body: str, reason: str | None) -> None:
    serve(stage, stage.make(source(body)), stage.make(source('open("f", "w").close()\nreturn {"a": os.listdir(".")}')))
    assert reasons(stage) == [reason, None]
    assert values(stage)[1] == {"a": ["f"]}


def test_processes_left_behind_are_gone_before_the_next_task_starts(stage: Stage) -> None:
    daemon = """r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(w, b"%d" % os.getpid())
        time.sleep(600)
    os._exit(0)
return {"pid": int(os.read(r, 100))}"""
    stage.offer(source(daemon))
    stage.more = [stage.make(source("return {'alive': os.path.exists(f'/proc/{params[\"pid\"]}')}"))]
    stage.on_complete = lambda told: [
        lease.update(inputs={"pid": {"value": told["result"]["outputs"]["pid"]["value"]}}) for lease in stage.more
    ]
    code, _, err = stage.run()
    assert code == 0, err
    assert values(stage)[1] == {"alive": False}


def test_a_full_shared_folder_is_emptied(stage: Stage) -> None:
    shared = stage.folder / "shared"
    shared.mkdir()
    fill = stage.make(source(f'os.makedirs("{shared}/a/b")\nopen("{shared}/a/b/c", "w").close()\nreturn {{}}'))
    serve(stage, fill, stage.make(source(f'return {{"a": os.listdir("{shared}")}}')), MAZE_CLEAN=str(shared))
    assert values(stage)[1] == {"a": []}


# --- an operator that goes -------------------------------------------------------------------------------------------


def test_an_operator_that_was_restarted_hears_what_is_worked_on(stage: Stage) -> None:
    stage.answers["/v1/holding"] = [(503, {}), (0, {})]
    stage.offer(
        source('print("begun", flush=True)\nwhile not os.path.exists("../../go"): time.sleep(0.01)\nreturn {"a": 1}')
    )
    process = stage.start()
    read_until(process, b"begun")
    stage.hang_up()
    stage.wait_for(lambda: stage.count("/v1/holding") == 3)
    assert stage.bodies["/v1/holding"] == {**stage.bodies["/v1/lease"], "task": "count", "attempt": 1}
    stage.hang_up()
    stage.wait_for(lambda: stage.count("/v1/holding") == 4)
    (stage.folder / "go").touch()
    process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert values(stage) == [{"a": 1}]


def test_an_attempt_that_is_not_ours_any_more_is_stopped_with_all_that_it_started(stage: Stage) -> None:
    body = 'p = subprocess.Popen(["sleep", "600"], start_new_session=True)\nprint("pids", os.getpid(), p.pid, "end")\np.wait()'
    stage.answers["/v1/holding"] = [(409, {})]
    stage.offer(source(body))
    stage.more = [stage.make(source("return {}"))]
    process = stage.start()
    pids = [int(pid) for pid in read_until(process, b"end").split()[1:3]]
    stage.hang_up()
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert b"nothing to do" in err
    for pid in pids:
        wait_gone(pid)
    assert stage.completed == []
    assert len(stage.more) == 1
    assert list(stage.folder.glob("maze-*")) == []


# --- many -------------------------------------------------------------------------------------------------------------


def test_two_hundred_tasks_leave_the_runner_as_it_was(stage: Stage) -> None:
    """Counted by the tasks themselves, so that there is nothing to time."""
    look = """parent = f"/proc/{os.getppid()}"
rss = int(open(parent + "/statm").read().split()[1])
return {"fds": len(os.listdir(parent + "/fd")), "pages": rss, "modules": len(sys.modules)}"""
    serve(stage, *(stage.make(source(look)) for _ in range(200)))
    seen = values(stage)
    assert {each["fds"] for each in seen[1:]} == {seen[1]["fds"]}
    assert {each["modules"] for each in seen[1:]} == {seen[1]["modules"]}
    assert seen[-1]["pages"] - seen[20]["pages"] < 256, "a megabyte of memory was lost"
