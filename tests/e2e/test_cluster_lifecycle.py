"""The embedded cluster is stopped in parts and as a whole, and `up` brings it back.

Without these, a crash or a reboot would cost the user the cluster and what ran on it. They disturb everything that runs
beside them, so they run on their own: `pytest -m lifecycle`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster import Cluster, object_store
from maze_cluster import cgroups, process
from maze_cluster.components import Component, build_components
from maze_cluster.errors import ClusterError
from maze_cluster.flavour import Flavour, choose_flavour, probe_machine
from maze_cluster.layout import MAZE_API_PORT, NODE_IP, Layout, build_layout, find_checkout
from maze_cluster.tools import find_bin_dir

pytestmark = [pytest.mark.lifecycle, pytest.mark.timeout(600)]

NO_OP_SECONDS = 15
LISTENING = "0A"


def _is_embedded() -> bool:
    try:
        return choose_flavour(os.environ, probe_machine()) is Flavour.EMBEDDED
    except ClusterError:
        return False


@dataclass(frozen=True)
class Embedded:
    """The embedded cluster of this checkout, seen from outside."""

    layout: Layout
    components: tuple[Component, ...]

    def up(self) -> str:
        """`make up`; its output."""
        done = subprocess.run([sys.executable, "-m", "maze_cluster", "up"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kubectl_json(self, *arguments: str) -> Any:
        program = str(find_bin_dir(self.layout) / "kubectl")
        command = [program, f"--kubeconfig={self.layout.kubeconfig}", *arguments, "-o", "json"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def records(self) -> dict[str, process.Record]:
        found = {component.name: process.read_record(self.layout, component.name) for component in self.components}
        return {name: record for name, record in found.items() if record is not None}

    def containers(self) -> set[str]:
        """The ids of the system pods' running containers."""
        pods = self.kubectl_json("get", "pods", "-A", "-l", "app.kubernetes.io/part-of=maze")["items"]
        statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", ())]
        return {status["containerID"] for status in statuses if "running" in status["state"]}


@pytest.fixture(scope="module")
def embedded() -> Embedded:
    if not _is_embedded():
        pytest.skip("only for the embedded cluster (Linux, root, no Docker)")
    layout = build_layout(find_checkout(), os.environ)
    found = Embedded(layout, build_components(layout, find_bin_dir(layout), "containerd"))
    found.up()
    return found


@pytest.fixture
def note(embedded: Embedded) -> Iterator[str]:
    """A ConfigMap that must survive whatever happens; its name."""
    name = f"lifecycle-{time.time_ns()}"
    with _cluster() as cluster:
        cluster.core.create_namespaced_config_map("maze", {"metadata": {"name": name}, "data": {"kept": "yes"}})
    yield name
    with _cluster() as cluster:
        cluster.core.delete_namespaced_config_map(name, "maze")


class _cluster:  # noqa: N801 - a context manager used like a function
    """A client with connections of its own: those of an API server that was killed are no use."""

    def __enter__(self) -> Cluster:
        self._made = Cluster()
        return self._made

    def __exit__(self, *_: object) -> None:
        self._made.close()


def test_a_second_up_changes_nothing(embedded: Embedded) -> None:
    before = (embedded.records(), embedded.containers())
    started = time.monotonic()
    output = embedded.up()
    assert time.monotonic() - started < NO_OP_SECONDS
    assert (embedded.records(), embedded.containers()) == before
    assert "starting" not in output


def test_keys_are_readable_by_their_owner_only(embedded: Embedded) -> None:
    secret = [embedded.layout.kubeconfig, *embedded.layout.pki.iterdir()]
    open_files = [str(path) for path in secret if path.stat().st_mode & 0o077]
    assert len(secret) > 20
    assert open_files == []
    assert embedded.layout.state.stat().st_mode & 0o077 == 0


def test_only_authenticated_ports_are_open_beyond_loopback(embedded: Embedded) -> None:
    pids = {record.pid for record in embedded.records().values()}
    assert len(pids) == len(embedded.components)
    beyond = {(address, port) for address, port in _listening(pids) if not _is_loopback(address)}
    ports = {port for _, port in beyond}
    assert ports == {embedded.layout.api_port, 10250}
    assert all(address == NODE_IP for address, port in beyond if port == 10250), (
        "the kubelet listens on the bridge only"
    )
    for path in (f":{embedded.layout.api_port}/api/v1/pods", ":10250/pods"):
        assert _anonymous_status(f"https://{NODE_IP}{path}") == 401


def test_the_maze_api_is_reachable_from_this_machine_only(embedded: Embedded) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{MAZE_API_PORT}/health", timeout=10) as answer:
        assert answer.status == 200
    links = json.loads(subprocess.run(["ip", "-j", "-4", "address"], capture_output=True, text=True, check=True).stdout)
    addresses = [info["local"] for link in links for info in link["addr_info"] if not info["local"].startswith("127.")]
    assert NODE_IP in addresses
    for address in addresses:
        with socket.socket() as client:
            client.settimeout(2)
            assert client.connect_ex((address, MAZE_API_PORT)) != 0, f"the api is open at {address}:{MAZE_API_PORT}"


def test_the_object_store_keeps_what_it_has_acknowledged(embedded: Embedded) -> None:
    payload, key = os.urandom(1 << 20), f"lifecycle/{time.time_ns()}"
    with _cluster() as cluster, object_store(cluster) as store:
        store.put(key, payload)
        gateways = [pid for pid in cgroups.list_processes() if _program(pid) == "/versitygw"]
        assert len(gateways) == 1
        os.kill(gateways[0], signal.SIGKILL)
    _await(lambda: _deployment_ready(embedded, "maze-s3"), "maze-s3 available again", first=1.0)
    with _cluster() as cluster, object_store(cluster) as store:
        assert store.get(key) == payload
        store.delete(key)


def test_killed_components_come_back_and_pods_never_notice(embedded: Embedded, note: str) -> None:
    containers = embedded.containers()
    records = embedded.records()
    victims = ("kube-apiserver", "kubelet", "containerd")
    for name in victims:
        os.kill(records[name].pid, signal.SIGKILL)
    _await(lambda: not any(process.is_alive(records[name]) for name in victims), "the killed components gone")
    output = embedded.up()
    assert "died" in output, "`up` says what it found"
    after = embedded.records()
    assert {name for name in after if after[name] != records[name]} == set(victims), "only what died was started again"
    assert embedded.containers() == containers, "running containers go on"
    assert embedded.kubectl_json("get", "configmap", "-n", "maze", note)["data"] == {"kept": "yes"}


def test_after_everything_died_up_starts_again_with_its_data(embedded: Embedded, note: str) -> None:
    with _cluster() as cluster, object_store(cluster) as store:
        store.put("lifecycle/kept", b"kept")
    before = embedded.containers()
    cgroups.kill_processes()
    output = embedded.up()
    assert "unmount what its containers had mounted" in output
    assert embedded.containers().isdisjoint(before)
    assert embedded.kubectl_json("get", "configmap", "-n", "maze", note)["data"] == {"kept": "yes"}
    with _cluster() as cluster, object_store(cluster) as store:
        assert store.get("lifecycle/kept") == b"kept"
        store.delete("lifecycle/kept")


def _await(done: Callable[[], bool], what: str, seconds: float = 60, first: float = 0.0) -> None:
    deadline = time.monotonic() + seconds
    time.sleep(first)
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def _deployment_ready(embedded: Embedded, name: str) -> bool:
    status = embedded.kubectl_json("get", "deployment", "-n", "maze-system", name)["status"]
    return bool(status.get("availableReplicas", 0) >= 1 and not status.get("unavailableReplicas"))


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:
        return ""


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _listening(pids: set[int]) -> Iterator[tuple[str, int]]:
    """(address, port) of the TCP sockets that `pids` listen on."""
    links = [str(entry.readlink()) for pid in pids for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
    inodes = {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:[")}
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in inodes:
                address, port = fields[1].split(":")
                # Four bytes at a time, in the machine's (little endian) order.
                words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
                yield socket.inet_ntop(family, b"".join(words)), int(port, 16)


def _anonymous_status(url: str) -> int:
    """The HTTP status for somebody without any credentials."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
