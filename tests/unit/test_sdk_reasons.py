"""If these fail, a user whose server is gone reads Python's inner life in place of why."""

from __future__ import annotations

import socket
import threading

import pytest

from maze import MaClient, ServerUnreachable


def test_a_refused_connection_is_told_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServerUnreachable) as told:
        MaClient(f"http://127.0.0.1:{port}").create_workflow()
    assert f"answers at http://127.0.0.1:{port} (" in str(told.value)
    assert "(Connection refused)" in str(told.value)


def test_a_connection_that_is_cut_is_told_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def cut() -> None:
            connection, _ = server.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=cut)
        thread.start()
        with pytest.raises(ServerUnreachable, match=r"\(Remote end closed connection without response\)"):
            MaClient(f"http://127.0.0.1:{server.getsockname()[1]}").create_workflow()
        thread.join()
