"""The socket that the api listens on. Connections inherit what is set here."""

from __future__ import annotations

import socket

BACKLOG = 2048
STALLED_SECONDS = 60
"""A client that takes nothing of what it is sent for this long is dropped: it may hold memory, but not for ever."""


def listen(host: str, port: int, stalled_seconds: float = STALLED_SECONDS) -> socket.socket:
    """A listening TCP socket.

    asyncio sets TCP_NODELAY only on sockets that say their protocol; without it each answer on a kept connection may
    wait 40 ms for the acknowledgement of the one before.

    Raises:
        OSError: the address can't be used; the text names it.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, socket.IPPROTO_TCP)
    except OSError as error:
        raise OSError(f"can't listen on {host}:{port}: {error}") from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: also ends connections whose window stays closed
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stalled_seconds * 1000))
        made.bind(address)
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise OSError(f"can't listen on {host}:{port}: {error}") from error
    return made
