"""Python environments of programs that are measured, each made once, below the cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from seen import BenchError

CACHE = Path(os.environ.get("MAZE_CACHE") or Path.home() / ".cache/maze") / "clients"
CLIENT_LOCK = Path(__file__).resolve().parents[1] / "tests/clients/requirements.lock"
RAY = "maze-agent==1.0.2"
"""With all that it requires, Ray among it."""
SECONDS = 480


def install_client() -> Path:
    """The interpreter of an environment with the original client alone, as the tests have it."""
    content = CLIENT_LOCK.read_bytes() + sys.version.encode()
    wanted = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(CLIENT_LOCK)]
    return _install(hashlib.sha256(content).hexdigest()[:16], wanted)


def install_ray() -> Path:
    """The interpreter of an environment with Maze on Ray."""
    return _install(f"ray-{RAY.replace('==', '-')}-{sys.version_info.major}.{sys.version_info.minor}", [RAY])


def _install(name: str, wanted: Sequence[str]) -> Path:
    folder = CACHE / name
    python = folder / "bin/python"
    if (folder / ".ready").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--retries", "1", "--timeout", "20"]
    command = [*pip, "install", "--quiet", *wanted]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{wanted[-1]} is not installed after {SECONDS} s") from None
    if done.returncode != 0:
        raise BenchError(f"{wanted[-1]} can't be installed: {(done.stdout + done.stderr).strip()[-1000:]}")
    (folder / ".ready").touch()
    return python
