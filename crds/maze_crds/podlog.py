"""What a pod that serves several attempts printed for one of them.

Its runner prints a line of its own before each attempt (names.log_marker). A task that prints such a line itself cuts its own
log short here; the one that its runner stores is whole.
"""

from __future__ import annotations

import re

from maze_crds.names import LOG_MARKER_START

_MARKER = re.compile(rb"%s\S+, attempt \d+" % re.escape(LOG_MARKER_START.encode()))
_LONGEST = 400
"""Bytes of a marker, at most."""


def cut(log: bytes, marker: str) -> bytes:
    """The end of a pod's log, which has ended, as far as it is of the attempt. The kubelet begins a new file after 10 MiB: where
    there is no marker at all, all of it is of the attempt that the pod had last."""
    cutter = Cutter(marker)
    found = cutter.take(log) + cutter.end()
    return found if cutter.seen else log


class Cutter:
    """Takes the bytes of a pod's log in pieces, as they come, and gives those of one attempt."""

    def __init__(self, marker: str) -> None:
        """marker: see names.log_marker."""
        self._wanted = marker.encode()
        self.seen = False
        """Whether there was a marker of any attempt."""
        self._inside = False
        self._line_begins = True
        self._held = b""
        """The beginning of a line that may become a marker."""

    def take(self, data: bytes) -> bytes:
        """What of this, and of what was held back, is the attempt's."""
        pieces = (self._held + data).split(b"\n")
        self._held = b""
        whole = [piece + b"\n" for piece in pieces[:-1]]
        return b"".join([*map(self._take_piece, whole), self._take_piece(pieces[-1])])

    def end(self) -> bytes:
        """What was held back, as nothing more comes."""
        held, self._held = self._held, b""
        return held if self._inside else b""

    def _take_piece(self, piece: bytes) -> bytes:
        """A line, or the part of one that has come."""
        if self._line_begins and _may_be_marker(piece):
            if not piece.endswith(b"\n"):
                self._held = piece
                return b""
            if _MARKER.fullmatch(piece[:-1]):
                self.seen = True
                self._inside = piece[:-1] == self._wanted
                return b""
        if piece:
            self._line_begins = piece.endswith(b"\n")
        return piece if self._inside else b""


def _may_be_marker(piece: bytes) -> bool:
    start = LOG_MARKER_START.encode()
    return len(piece) <= _LONGEST and bool(piece) and (piece.startswith(start) or start.startswith(piece))
