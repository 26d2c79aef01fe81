"""What the runner decides: reasons of failures, waiting times, what travels inside a result, whom to kill."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import maze_runner
from maze_crds import names, protocol
from maze_crds.run import Cause
from maze_runner import failures, limits
from maze_runner.backoff import is_transient, plan_delay
from maze_runner.build_pyz import build_archive
from maze_runner.cgroup import Cgroup, candidates, parse_oom_kill
from maze_runner.classify import classify_end, refuse_version
from maze_runner.code import defined_functions
from maze_runner.folders import Folders
from maze_runner.live import Live
from maze_runner.operator import VARIABLES
from maze_runner.outputs import plan_inline
from maze_runner.spool import Spool
from maze_runner.strays import find_strays, parse_stat
from maze_runner.trace import named_reason

FOLDER = Path(maze_runner.__file__).parent


def test_the_runner_and_the_operator_mean_the_same_numbers_and_names() -> None:
    for name in ("INLINE_LIMIT", "INLINE_TOTAL", "RENDERED_LIMIT", "DISPLAY_LIMIT"):
        assert getattr(limits, name) == getattr(protocol, name)
    assert {
        failures.USER_ERROR,
        failures.OUT_OF_MEMORY,
        failures.TIMEOUT,
        failures.INFRASTRUCTURE,
        failures.STORAGE,
    } == {cause.value for cause in Cause}
    assert set(VARIABLES) == {
        names.ENV_REPORT_URL,
        names.ENV_TOKEN,
        names.ENV_NAMESPACE,
        names.ENV_POD_NAME,
        names.ENV_POD_UID,
    }


def test_python_3_9_can_read_every_file() -> None:
    for path in FOLDER.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 9))


def test_the_archive_is_the_same_every_time() -> None:
    assert build_archive() == build_archive()


OUTCOME: dict[str, Any] = {"outputs": []}


@pytest.mark.parametrize(
    ("status", "outcome", "limit", "oom", "expected"),
    [
        (0, OUTCOME, None, False, None),
        (0, OUTCOME, None, True, None),
        (0, OUTCOME, 5, False, ("Timeout", "TimedOut", None)),
        (0, None, None, False, ("UserError", "Exited", 0)),
        (3 << 8, None, None, False, ("UserError", "Exited", 3)),
        (signal.SIGSEGV, None, None, False, ("UserError", "Killed", 139)),
        (signal.SIGKILL, None, None, False, ("UserError", "Killed", 137)),
        (signal.SIGKILL, None, None, True, ("OutOfMemory", "OOMKilled", 137)),
        (signal.SIGSEGV, None, None, True, ("UserError", "Killed", 139)),
        (signal.SIGKILL, None, 5, True, ("Timeout", "TimedOut", None)),
        (64, None, None, False, ("UserError", "Killed", 192)),
    ],
)
def test_every_end_of_a_child_has_one_meaning(
    status: int, outcome: Any, limit: float | None, oom: bool, expected: tuple[str, str, int | None] | None
) -> None:
    failure = classify_end(status, outcome, limit, oom)
    found = failure and (failure["cause"], failure["reason"], failure.get("exitCode"))
    assert found == expected


def test_a_pool_worker_killed_for_memory_is_mentioned() -> None:
    failure = failures.build_failure("UserError", "UserException", "BrokenProcessPool")
    found = classify_end(0, {"failure": failure}, None, True)
    assert found is not None
    assert found["reason"] == "UserException"
    assert "lack of memory" in found["message"]


def test_another_python_is_refused_by_both_names() -> None:
    assert refuse_version(None, "3.9") is None
    assert refuse_version("3.9", "3.9") is None
    failure = refuse_version("3.12", "3.9")
    assert failure is not None
    assert "3.12" in failure["message"]
    assert "3.9" in failure["message"]


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_waiting_grows_to_five_seconds_and_stays_there(tries: int, chance: float) -> None:
    assert 0.05 <= plan_delay(tries, chance) <= 5
    assert plan_delay(1, 0) == 0.1
    assert plan_delay(9, 0) == 5


def test_a_server_can_say_when_to_come_back() -> None:
    assert plan_delay(9, 0.5, "0") == 0
    assert plan_delay(1, 0.5, "7") == 7
    assert plan_delay(1, 0, "Wed, 21 Oct 2015 07:28:00 GMT") == 0.1
    assert [status for status in (400, 401, 404, 408, 409, 413, 429, 500, 503) if is_transient(status)] == [
        408,
        429,
        500,
        503,
    ]


@given(st.dictionaries(st.text(), st.integers(0, 2 * limits.INLINE_LIMIT)))
def test_what_travels_inside_a_result_keeps_to_the_limits(sizes: dict[str, int]) -> None:
    inline = plan_inline(sizes)
    assert sum(sizes[key] for key in inline) <= limits.INLINE_TOTAL
    assert all(sizes[key] <= limits.INLINE_LIMIT for key in inline)
    if sum(sizes.values()) <= limits.INLINE_TOTAL and max(sizes.values(), default=0) <= limits.INLINE_LIMIT:
        assert inline == set(sizes)


def test_only_the_tasks_processes_are_killed() -> None:
    table = {
        1: ("S", 0, 1, 1),  # the runner
        20: ("R", 1, 20, 20),  # fell to the runner, in a session of its own
        21: ("S", 20, 20, 20),
        22: ("Z", 1, 10, 10),  # dead already
        30: ("S", 0, 30, 30),  # kubectl exec
        40: ("S", 9, 10, 10),  # still in the task's session
    }
    assert sorted(find_strays(table, 10, 1)) == [20, 21, 40]
    assert parse_stat("7 (a ) b) S 1 10 10 0 -1") == ("S", 1, 10, 10)
    assert parse_stat("") is None


def test_out_of_memory_is_seen_with_both_versions_of_cgroups(tmp_path: Path) -> None:
    assert parse_oom_kill("low 0\noom 3\noom_kill 2\noom_group_kill 0\n") == 2
    assert parse_oom_kill("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n") == 4
    assert parse_oom_kill("") == 0
    new, old = candidates(["4:cpu,memory:/pods/a", "0::/"], "/c")
    assert new[0] == "/c/memory.events"
    assert old == ["/c/memory/pods/a/memory.oom_control", "/c/memory/memory.oom_control"]
    (tmp_path / "member").write_text("0::/not/mounted/here\n")
    (tmp_path / "memory.events").write_text("oom_kill 5\n")
    cgroup = Cgroup(str(tmp_path), str(tmp_path / "member"))
    assert cgroup.oom_kills() == 5
    (tmp_path / "memory.events").write_text("oom_kill 60\n")
    assert cgroup.oom_kills() == 60
    assert Cgroup(str(tmp_path / "none"), str(tmp_path / "none")).oom_kills() == 0


def cgroup_of(root: Path, version: int, cpu: str, memory: str) -> None:
    """The files of a group as a container sees them: at the root of the mount."""
    quota, period = cpu.split()
    files = {"cpu.max": cpu, "memory.max": memory}
    if version == 1:
        files = {
            "cpu/cpu.cfs_quota_us": "-1" if quota == "max" else quota,
            "cpu/cpu.cfs_period_us": period,
            "memory/memory.limit_in_bytes": "9223372036854771712" if memory == "max" else memory,
        }
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text + "\n")


@pytest.mark.parametrize("version", [1, 2])
def test_a_resized_pod_is_waited_for(tmp_path: Path, version: int) -> None:
    member = tmp_path / "member"
    member.write_text("7:cpu,cpuacct:/host/a\n6:memory:/host/a\n0::/host/a\n")
    limits = {"cpuMillis": 500, "memory": 100_000_001}

    def wait(patience: float) -> None:
        Cgroup(str(tmp_path), str(member)).wait_for_limits(limits, patience)

    wait(0)  # nothing can be read
    for cpu, memory, missing in (
        ("max 100000", "99999744", "its CPU limit is inf instead of 0.5"),
        ("51000 100000", "99999744", "its CPU limit is 0.51 instead of 0.5"),
        ("50000 100000", "max", "its memory limit is "),
        ("50000 100000", "99991552", "its memory limit is 99991552 bytes instead of 100000001"),
        ("50000 100000", "100003840", "its memory limit is 100003840 bytes instead of 100000001"),
    ):
        cgroup_of(tmp_path, version, cpu, memory)
        with pytest.raises(failures.Failed, match=missing) as caught:
            wait(0)
        assert (caught.value.failure["cause"], caught.value.failure["reason"]) == ("Infrastructure", "LimitsNotInForce")
    later = threading.Thread(target=cgroup_of, args=(tmp_path, version, "50000 100000", "99999744"))
    later.start()
    wait(60)
    later.join()
    wait(0)
    limits = {"cpuMillis": 1}
    cgroup_of(tmp_path, version, "1000 100000", "max")
    wait(0)


def test_folders_are_used_again_only_while_they_are_as_they_were(tmp_path: Path) -> None:
    def fill() -> None:
        Path(folders.work, "a").mkdir()
        Path(folders.work, "a", "b").write_text("x")
        Path(folders.work, "link").symlink_to(tmp_path)

    def replace() -> None:
        Path(folders.work).rmdir()
        Path(folders.work).symlink_to(tmp_path)

    def many() -> None:
        for number in range(2000):
            Path(folders.work, f"{number:0200}").touch()

    folders = Folders(str(tmp_path))
    keep = tmp_path / "keep"
    keep.touch()
    for mess, same in ((fill, True), (replace, False), (lambda: Path(folders.work).chmod(0), False), (many, False)):
        folders.prepare()
        before = Path(folders.work).stat().st_ino
        mess()
        folders.clear()
        assert Path(folders.work).exists() == same
        folders.prepare()
        assert list(Path(folders.work).iterdir()) == []
        assert Path(folders.work).stat().st_mode & 0o777 == 0o700
        assert not same or Path(folders.work).stat().st_ino == before
    folders.remove()
    assert list(tmp_path.iterdir()) == [keep]


def test_a_marker_is_a_line_of_its_own(tmp_path: Path) -> None:
    with (tmp_path / "live").open("wb") as file:
        live = Live(file.fileno())
        live.mark("a")
        live.write(b"x")
        live.write(b"")
        live.mark("b")
        live.mark("c")
    assert (tmp_path / "live").read_text() == "a\nx\nb\nc\n"


def test_the_runner_starts_with_few_modules() -> None:
    """Each costs time in every cold pod: none that is not needed to ask for work."""
    script = "import sys, maze_runner.main; print(*sys.modules)"
    paths = [str(FOLDER.parent)]
    run = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        check=True,
    )
    loaded = set(run.stdout.decode().split())
    foreign = {"pathlib", "shutil", "subprocess", "tempfile", "threading", "ssl", "http.client", "email.parser", "ast"}
    foreign |= {
        "cloudpickle",
        "pickle",
        "traceback",
        "inspect",
        "dataclasses",
        "typing",
        "logging",
        "ctypes",
        "site",
        "random",
    }
    assert loaded & foreign == set()
    assert len(loaded) < 110, sorted(loaded)


def test_the_first_own_function_is_found_wherever_it_stands() -> None:
    text = "from os import path\nclass A:\n def no(self): 0\ntry:\n def a(p): 0\nexcept E:\n def b(p): 0\nasync def c(p): 0"
    assert defined_functions(ast.parse(text)) == ["a", "b", "c"]


def test_a_talkative_task_keeps_the_start_of_its_log_and_loses_nothing_live(tmp_path: Path) -> None:
    with (tmp_path / "live").open("wb") as live:
        spool = Spool(str(tmp_path / "log"), Live(live.fileno()), limit=10)
        for _ in range(3):
            spool.write(b"123456")
        spool.close()
    kept = (tmp_path / "log").read_bytes()
    assert kept.startswith(b"1234561234\nmaze: the log is cut here")
    assert kept.count(b"maze:") == 1
    assert spool.size == len(kept)
    assert (tmp_path / "live").read_bytes() == b"123456" * 3


def test_messages_fit_into_one_line_and_into_utf8() -> None:
    failure = failures.build_failure("UserError", "X", "a\n b\ud800" + "c" * 5000, "t" * 100_000)
    assert failure["message"].startswith("a b\\ud800c")
    assert len(failure["message"]) <= limits.MESSAGE_LIMIT + 10
    assert len(failure["traceback"]) <= limits.TRACEBACK_LIMIT


class Named(Exception):
    def __init__(self, reason: object, text: str = "") -> None:
        super().__init__(text)
        self.maze_reason = reason


class Shy(Exception):
    @property
    def maze_reason(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Named("ToolError"), "ToolError"),
        (Named("HTTP404"), "HTTP404"),
        (Named("lower"), None),
        (Named("Two words"), None),
        (Named("Öl"), None),
        (Named("X" * 65), None),
        (Named(""), None),
        (Named(None), None),
        (Named(404), None),
        (Shy(), None),
        (ValueError("x"), None),
    ],
)
def test_an_exception_may_give_its_reason_as_one_camel_case_word(error: Exception, reason: str | None) -> None:
    assert named_reason(error) == reason
