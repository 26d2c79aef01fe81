"""When a process of the cluster counts as ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cluster import awaited
from maze_cluster.process import read_start_time

LEADER_ENDS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).syscall(60, 0)  # exit, of this thread alone
"""


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_process_lives_until_its_last_thread_has_ended() -> None:
    """One that is killed shows as a zombie while threads of it still end, and its ports are taken until all have."""
    with subprocess.Popen([sys.executable, "-c", LEADER_ENDS]) as process:
        try:
            started = read_start_time(process.pid)
            awaited(lambda: state(process.pid), lambda seen: seen == "Z", 20)
            assert started is not None
            assert read_start_time(process.pid) == started
        finally:
            process.kill()
        awaited(lambda: read_start_time(process.pid), lambda found: found is None, 20)
