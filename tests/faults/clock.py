"""A process whose clock is off: what it, and each child that it forks, reads as the time of day is so many seconds later.

Programs ask the vDSO, code that the kernel maps into each process, and every process has its own view of these pages. There
the functions for the time of day get other code, which asks the kernel and adds the seconds. Clocks that only count
(CLOCK_MONOTONIC) stay as they are, and so they do where a machine's clock is put right. A program that is started anew has a
right clock. x86-64 only; a program that asks the kernel without the vDSO is not deceived.
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cluster import awaited
from maze_cluster.process import read_start_time

STOP_SECONDS = 10
MAPPINGS = "[vdso]"
SYMBOLS = 11
"""The type of the section that has the dynamic symbols: SHT_DYNSYM."""


def build_code(seconds: int) -> dict[str, bytes]:
    """Machine code, position-independent, by the name of the function in whose place it comes."""
    more = struct.pack("<i", seconds)
    return {
        "__vdso_clock_gettime": (
            b"\xb8\xe4\x00\x00\x00\x0f\x05"  # clock_gettime(edi, rsi)
            b"\x85\xc0\x75\x10"  # an error is returned as it is
            b"\x85\xff\x74\x05"  # CLOCK_REALTIME
            b"\x83\xff\x05\x75\x07"  # CLOCK_REALTIME_COARSE
            b"\x48\x81\x06" + more + b"\xc3"  # rsi->tv_sec += seconds
        ),
        "__vdso_gettimeofday": (
            b"\xb8\x60\x00\x00\x00\x0f\x05"  # gettimeofday(rdi, rsi)
            b"\x85\xc0\x75\x0c"
            b"\x48\x85\xff\x74\x07"  # rdi may be NULL
            b"\x48\x81\x07" + more + b"\xc3"  # rdi->tv_sec += seconds
        ),
        "__vdso_time": (
            b"\xb8\xc9\x00\x00\x00\x0f\x05"  # time(rdi)
            b"\x48\x05" + more + b"\x48\x85\xff\x74\x03"  # rax += seconds; rdi may be NULL
            b"\x48\x89\x07\xc3"  # *rdi = rax
        ),
    }


@contextmanager
def clock_off(pids: Iterable[int], seconds: int) -> Iterator[None]:
    """These processes' clocks, for as long as the block lasts. One that has ended meanwhile is left out.

    Raises:
        PermissionError: not root, or the kernel forbids it (proc_mem.force_override=never).
    """
    with ExitStack() as undo:
        for pid in pids:
            with suppress(ProcessLookupError, FileNotFoundError):
                undo.enter_context(_one_clock_off(pid, seconds))
        yield


@contextmanager
def _one_clock_off(pid: int, seconds: int) -> Iterator[None]:
    began = read_start_time(pid)
    found = functions(pid)
    code = {found[name][0]: patch for name, patch in build_code(seconds).items()}
    assert all(len(patch) <= found[name][1] for name, patch in build_code(seconds).items()), found
    former = {address: _read(pid, address, len(patch)) for address, patch in code.items()}
    _patch(pid, code)
    try:
        yield
    finally:
        if read_start_time(pid) == began:
            with suppress(ProcessLookupError, FileNotFoundError):
                _patch(pid, former)


def functions(pid: int) -> dict[str, tuple[int, int]]:
    """(address, size) of each function in the vDSO of a process, by name."""
    start, size = _vdso(pid)
    elf = _read(pid, start, size)
    sections, width, count = (struct.unpack_from("<Q", elf, 40)[0], *struct.unpack_from("<HH", elf, 58))
    headers = [struct.unpack_from("<IIQQQQIIQQ", elf, sections + width * number) for number in range(count)]
    table = next(header for header in headers if header[1] == SYMBOLS)
    strings = headers[table[6]][4]
    found = {}
    for at in range(table[4], table[4] + table[5], table[9]):
        name, _, _, _, address, length = struct.unpack_from("<IBBHQQ", elf, at)
        text = elf[strings + name : elf.index(b"\0", strings + name)].decode()
        found[text] = (start + address, length)
    return found


def _vdso(pid: int) -> tuple[int, int]:
    """Address and size."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith(MAPPINGS):
            start, end = (int(number, 16) for number in line.split()[0].split("-"))
            return start, end - start
    raise ProcessLookupError(f"process {pid} has no vDSO (any more)")


def _patch(pid: int, code: dict[int, bytes]) -> None:
    start, size = _vdso(pid)

    def stopped_elsewhere() -> bool:
        """Nobody is in the middle of what is to change."""
        if _stop(pid) and not any(start <= pc < start + size for pc in _program_counters(pid)):
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    try:
        awaited(stopped_elsewhere, bool, STOP_SECONDS)
        memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
        try:
            for address, patch in code.items():
                assert os.pwrite(memory, patch, address) == len(patch)
        finally:
            os.close(memory)
    finally:
        os.kill(pid, signal.SIGCONT)


def _stop(pid: int) -> bool:
    """Returns when all its threads stand still."""
    os.kill(pid, signal.SIGSTOP)
    awaited(lambda: _thread_states(pid), lambda seen: seen <= {"T", "Z", "X"}, STOP_SECONDS)
    return True


def _thread_states(pid: int) -> set[str]:
    found = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            found.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return found


def _program_counters(pid: int) -> list[int]:
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            words = (thread / "syscall").read_text().split()
            # A thread that ends says "running" or nothing.
            if len(words) > 2:
                found.append(int(words[-1], 16))
    return found


def _read(pid: int, address: int, size: int) -> bytes:
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        return os.pread(memory, size, address)
    finally:
        os.close(memory)
