"""A real browser, without a window: Debian's Chromium, installed where it is missing and we may."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECONDS = 120
"""A browser's first start on a busy machine takes a while."""
INSTALL_SECONDS = 600
INSTALL_TRIES = 3
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-web-security",  # the page and the api have different origins
    "--proxy-server=direct://",
)


def chromium() -> str:
    """Its program; installed with apt where that is possible.

    Raises:
        AssertionError: there is none, and it can't be installed; says what to do.
    """
    if (found := _find()) is None and shutil.which("apt-get") and os.geteuid() == 0:
        said = _install()
        found = _find()
        assert found is not None, f"Chromium can't be installed: {said}"
    assert found is not None, "this test needs Chromium: install the package chromium, or run it as root on Debian"
    return found


def _find() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _install() -> str:
    """What apt said last. A mirror may fail for a moment, so it is tried again."""
    said = ""
    for _ in range(INSTALL_TRIES):
        for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", "chromium"]):
            done = subprocess.run(
                ["apt-get", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3", *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
                check=False,
            )
            said = done.stdout[-2000:] + done.stderr[-2000:]
        if done.returncode == 0:
            break
    return said


def open_page(page: str) -> str:
    """Show a page in the browser until its script POSTs something to /done; what that is."""
    answers: list[str] = []
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page.encode() if self.path == "/" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            answers.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()
            done.set()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with _serving(Handler) as port, _running(f"http://127.0.0.1:{port}/") as said:
        assert done.wait(SECONDS), f"the page did not finish within {SECONDS} s; Chromium says: {said()}"
    return answers[0]


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _running(address: str) -> Iterator[object]:
    """The browser in a process group of its own, so that none of its many processes stays."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [chromium(), *FLAGS, f"--user-data-dir={profile}", address],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HOME": profile},
            start_new_session=True,
        )
        try:
            yield lambda: os.pread(log.fileno(), 4000, 0).decode(errors="replace")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
