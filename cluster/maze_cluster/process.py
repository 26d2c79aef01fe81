"""Starts, recognises and stops the cluster's processes.

A pid alone is not an identity: the kernel gives it to the next process. A record therefore holds the start time too
(field 22 of /proc/PID/stat, in clock ticks after boot) and the boot it belongs to, and only a match is ever signalled.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from .components import Component, Probe, ProbeKind
from .errors import ClusterError
from .layout import Layout
from .sh import tail

READY_SECONDS = 90.0
STOP_SECONDS = 8.0
LOG_LIMIT_BYTES = 50 * 1024 * 1024
PROBE_SECONDS = 3.0


@dataclass(frozen=True)
class Record:
    """One started process. `digest`: what it was started with (`components.build_digest`)."""

    pid: int
    started: int
    boot: str
    digest: str


def read_boot() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def read_start_time(pid: int) -> int | None:
    """When process `pid` started, in clock ticks after boot; None if there is none, or only its zombie.

    A process that is ending may be a zombie while some of its threads still end, and its ports are taken until all have.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] == "X" or (fields[0] == "Z" and int(fields[17]) <= 1):
        return None
    return int(fields[19])


def read_record(layout: Layout, name: str) -> Record | None:
    """The record of component `name`, or None if it was never started or its file is half-written."""
    try:
        return Record(**json.loads((layout.pids / f"{name}.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def is_alive(record: Record | None) -> bool:
    """Whether exactly the recorded process still runs."""
    return record is not None and record.boot == read_boot() and read_start_time(record.pid) == record.started


def start(layout: Layout, component: Component, digest: str, cgroup: Path) -> Record:
    """Start `component` in a session of its own and in our control group; its output goes to its log file."""
    _end_unrecorded(component, cgroup)
    for port in component.ports:
        _require_free(component.name, port)
    log = layout.logs / f"{component.name}.log"
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    # The shell moves itself into the group before it becomes the component, so no child can be born outside.
    wrapper = ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(cgroup), *component.argv]
    with log.open("ab") as output:
        process = subprocess.Popen(
            wrapper, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, cwd="/", umask=0o022,
        )  # fmt: skip
    started = read_start_time(process.pid)
    record = Record(process.pid, started if started is not None else -1, read_boot(), digest)
    (layout.pids / f"{component.name}.json").write_text(json.dumps(asdict(record)))
    # The process outlives this one on purpose: tell Popen not to warn about it.
    process.returncode = 0
    return record


def _end_unrecorded(component: Component, cgroup: Path) -> None:
    """End what an `up` started that was itself killed before it could note the pid: same group, same arguments."""
    wanted = [os.fsencode(argument) for argument in component.argv]
    for pid in (int(line) for line in (cgroup / "cgroup.procs").read_text().split()):
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        started = read_start_time(pid)
        if argv == wanted and started is not None:
            stop([Record(pid, started, read_boot(), "")])


def _require_free(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            change = " or set MAZE_KUBE_API_PORT to another port" if name == "kube-apiserver" else ""
            raise ClusterError(
                f"{name} needs TCP port {port}, and another process listens there (`ss -ltnp sport = :{port}` shows which):"
                f" stop it{change}. ({error})"
            ) from error


def wait_ready(layout: Layout, component: Component, record: Record, seconds: float = READY_SECONDS) -> None:
    """Wait until the probe succeeds. Raises ClusterError with the last log lines if the process dies or takes too long."""
    deadline = time.monotonic() + seconds
    while not probe_ready(layout, component.probe):
        log = layout.logs / f"{component.name}.log"
        if not is_alive(record):
            raise ClusterError(f"{component.name} ended while starting; the end of {log}:\n{_log_tail(log)}")
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{component.name} was not ready within {seconds:.0f} s; the end of {log}:\n{_log_tail(log)}"
            )
        time.sleep(0.05)


def _log_tail(log: Path) -> str:
    return tail(log.read_text(errors="replace")[-20_000:])


def probe_ready(layout: Layout, probe: Probe) -> bool:
    """Whether the component answers that it is ready."""
    if probe.kind is ProbeKind.SOCKET:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PROBE_SECONDS)
            return client.connect_ex(probe.target) == 0
    context: ssl.SSLContext | None = None
    if probe.kind is ProbeKind.HTTPS:
        context = ssl.create_default_context(cafile=str(layout.pki / f"{probe.ca}.crt"))
        context.load_cert_chain(layout.pki / f"{probe.certificate}.crt", layout.pki / f"{probe.certificate}.key")
    # No proxy from the environment: these are our own processes on loopback.
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(probe.target, timeout=PROBE_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def stop(records: Iterable[Record], seconds: float = STOP_SECONDS) -> None:
    """End the recorded processes: SIGTERM, then SIGKILL for what still runs after `seconds`."""
    alive = [record for record in records if is_alive(record)]
    for record in alive:
        send(record.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while alive and time.monotonic() < deadline:
        time.sleep(0.05)
        alive = [record for record in alive if is_alive(record)]
    for record in alive:
        send(record.pid, signal.SIGKILL)
    while alive and time.monotonic() < deadline + 5:
        time.sleep(0.05)
        alive = [record for record in alive if is_alive(record)]


def send(pid: int, number: signal.Signals) -> None:
    """Signal `pid` if it still exists."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
