"""HTTP with the standard library: one kept-alive connection per server, bodies streamed from and to files."""

# ruff: noqa: PTH202
# pathlib would take a good part of the start.
from __future__ import annotations

import os
import sys
from functools import lru_cache
from urllib.parse import urlsplit

from maze_runner.limits import CHUNK, CONNECT_TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPConnection, HTTPResponse
    from typing import IO, Any, Dict, Optional, Tuple


class HttpError(Exception):
    """A server could not be reached, broke off, or answered with an error status (0: no answer)."""

    def __init__(self, message: str, status: int = 0, retry_after: Optional[str] = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


@lru_cache(maxsize=None)
def load_client(with_tls: bool) -> Any:
    """http.client; importing it pulls in ssl, which takes longer than all else here, so only where it is needed.

    The one without TLS is never in sys.modules: what else is imported in this process, and in its children, must get the
    whole one.
    """
    if with_tls or "ssl" in sys.modules:
        import http.client

        return http.client
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        import http.client
    finally:
        del sys.modules["ssl"]
    return sys.modules.pop("http.client")


class Connections:
    """Not safe for threads: the runner has only one, so that it can fork."""

    def __init__(self) -> None:
        self._open: Dict[Tuple[str, str], HTTPConnection] = {}

    def close(self) -> None:
        """Close this process's ends. In a forked child the parent's connections stay as they are."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def idle_socket(self, url: str) -> Any:
        """Of the connection to this server, if there is one that is kept alive."""
        parts = urlsplit(url)
        connection = self._open.get((parts.scheme, parts.netloc))
        return None if connection is None else connection.sock

    def call(
        self,
        method: str,
        url: str,
        body: Optional[bytes] = None,
        headers: Optional[Dict[str, str]] = None,
        waiting: Optional[Callable[[Any], None]] = None,
        timeout: float = CONNECT_TIMEOUT,
    ) -> bytes:
        """The body of a 2xx answer. `waiting` gets the socket after the request is out and before the answer is read.

        Raises:
            HttpError: anything else.
        """
        response = self._request(method, url, lambda: body, headers or {}, waiting, timeout)
        return self._whole(url, response)

    def put_file(self, url: str, path: str) -> None:
        """PUT a file with its length, in pieces.

        Raises:
            HttpError: not stored.
        """
        size = os.path.getsize(path)
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        with open(path, "rb") as file:

            def rewound() -> IO[bytes]:
                file.seek(0)
                return file

            self._whole(url, self._request("PUT", url, rewound, headers))

    def get_to(self, url: str, write: Callable[[bytes], Any]) -> None:
        """GET in pieces. `write` may raise to break off.

        Raises:
            HttpError: not all of it came.
        """
        response = self._request("GET", url, lambda: None, {})
        expected = response.length
        got = 0
        done = False
        try:
            while True:
                piece = response.read(CHUNK)
                if not piece:
                    break
                got += len(piece)
                write(piece)
            done = not response.will_close
        except Exception as error:
            if _is_network(error):
                raise HttpError(f"the connection broke off: {error}") from error
            raise
        finally:
            if not done:
                self.drop(url)
        if expected is not None and got != expected:
            self.drop(url)
            raise HttpError(f"the connection broke off after {got} of {expected} bytes")

    def _request(
        self,
        method: str,
        url: str,
        body: Callable[[], Any],
        headers: Dict[str, str],
        waiting: Optional[Callable[[Any], None]] = None,
        timeout: float = CONNECT_TIMEOUT,
    ) -> HTTPResponse:
        """An answer with a 2xx status whose body is still to be read. An idle connection may have been closed by the
        server in the meantime, so a reused one gets a second try at once."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        for again in (True, False):
            reused = (parts.scheme, parts.netloc) in self._open
            try:
                connection = self._connection(parts.scheme, parts.netloc)
                _set_timeout(connection, timeout)
                if connection.sock is None:
                    connection.connect()
                _send(connection.sock, f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n", headers, body())
                if waiting is not None:
                    waiting(connection.sock)
                response: HTTPResponse = connection.response_class(connection.sock, method=method)
                response.begin()
                break
            except Exception as error:
                self.drop(url)
                if not _is_network(error):
                    raise
                if not (reused and again):
                    raise HttpError(f"{type(error).__name__}: {error}") from error
        if not 200 <= response.status < 300:
            text = self._whole(url, response, check=False)[:2000].decode("utf-8", "replace")
            retry_after = response.getheader("Retry-After")
            raise HttpError(f"HTTP {response.status}: {text}", response.status, retry_after)
        return response

    def _whole(self, url: str, response: HTTPResponse, check: bool = True) -> bytes:
        try:
            body = response.read()
            if response.will_close:
                self.drop(url)
            return body
        except Exception as error:
            self.drop(url)
            if not _is_network(error):
                raise
            if check:
                raise HttpError(f"the connection broke off: {error}") from error
            return b""

    def _connection(self, scheme: str, netloc: str) -> HTTPConnection:
        found = self._open.get((scheme, netloc))
        if found is None:
            client = load_client(scheme == "https")
            kind = client.HTTPSConnection if scheme == "https" else client.HTTPConnection
            found = kind(netloc, timeout=CONNECT_TIMEOUT, blocksize=CHUNK)
            self._open[scheme, netloc] = found
        return found

    def drop(self, url: str) -> None:
        parts = urlsplit(url)
        connection = self._open.pop((parts.scheme, parts.netloc), None)
        if connection is not None:
            connection.close()


def _send(sock: Any, start: str, headers: Dict[str, str], body: Any) -> None:
    """A request whose head and small body are one packet: http.client would send two, and wake the server twice.

    `body`: bytes, a file (then `headers` has its length), or None.
    """
    lines = [start, *(f"{name}: {value}\r\n" for name, value in headers.items())]
    if isinstance(body, bytes):
        lines.append(f"Content-Length: {len(body)}\r\n")
    head = "".join([*lines, "\r\n"]).encode("latin-1")
    if body is None or isinstance(body, bytes):
        sock.sendall(head + (body or b""))
        return
    sock.sendall(head)
    while True:
        piece = body.read(CHUNK)
        if not piece:
            return
        sock.sendall(piece)


def _set_timeout(connection: HTTPConnection, seconds: float) -> None:
    """For connecting, and between two reads or writes."""
    connection.timeout = seconds
    if connection.sock is not None:
        connection.sock.settimeout(seconds)


def _is_network(error: Exception) -> bool:
    """Errors of the network or of what came over it, not of our own files or code."""
    if any(
        kind.__module__ == "http.client" for kind in type(error).__mro__
    ):  # by name: there may be two, see load_client
        return True
    return isinstance(error, OSError) and error.filename is None and error.errno not in _OWN_ERRORS


_OWN_ERRORS = (28, 122, 5)
"""ENOSPC, EDQUOT, EIO: of a file on this machine."""
