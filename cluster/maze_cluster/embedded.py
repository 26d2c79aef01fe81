"""The embedded cluster from nothing to ready, and back to nothing."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from . import buildah, cgroups, clear, containerd, deploy, host, images, process
from .components import Component, build_components, build_digest, plan_waves
from .configs import (
    Facts,
    build_cni_conflist,
    build_containerd_toml,
    build_kubelet_config,
    build_proxy_config,
    build_resolv_conf,
)  # fmt: skip
from .debian import ensure_packages
from .errors import ClusterError
from .examples import apply_examples
from .heal import Action, plan_start
from .kubectl import Kubectl
from .layout import MAZE_API_PORT, NODE_NAME, NONROOT_UID, SYSTEM_NAMESPACE, Layout
from .pki import ensure_pki, write_private
from .say import detail, say
from .settle import wait_settled
from .sh import attempt
from .tools import ensure_binaries, find_bin_dir, locked

NODE_READY_SECONDS = 60.0
DOWN_SECONDS = 2.0
"""How long a component may take to end in `down`: its data goes anyway."""
RESOLV_CONFS = ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf")


def up(layout: Layout, *, bare: bool = False) -> Kubectl:
    """Bring the cluster to the wanted state. `bare`: only Kubernetes, DNS and S3, to run operator and api by hand."""
    ensure_packages()
    with exclusive(layout):
        bin_dir = ensure_binaries(layout)
        started = start_cluster(layout, bin_dir)
        kubectl = Kubectl(str(bin_dir / "kubectl"), layout.kubeconfig)
        wait_node(kubectl)
        if started:
            wait_settled(layout, kubectl)
            say("the cluster is up")
        deploy_maze(layout, bin_dir, kubectl, bare=bare)
    return kubectl


@contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """One `up` or `down` at a time on this machine."""
    layout.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = layout.run.with_name(layout.run.name + ".lock")
    with locked(lock, "another `up` or `down` is running on this machine; waiting for it"):
        layout.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield


def start_cluster(layout: Layout, bin_dir: Path) -> bool:
    """Clear what a crash left, start what does not run or has changed; whether anything was started."""
    components = _components(layout, bin_dir)
    found = host.observe(layout, components)
    actions = plan_start(found)
    if actions:
        gone = f": {', '.join(sorted(found.stale))} died" if found.stale else ""
        say(f"clearing up after a cluster that did not end properly{gone}")
        clear.carry_out(layout, actions)
        layout.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    host.claim(layout)
    for folder in (layout.state, layout.config, layout.cni, layout.logs, layout.pids):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _prepare_s3_folder(layout)
    cgroup = host.prepare(layout)
    ensure_pki(layout)
    write_configs(layout, bin_dir)
    changed = False
    for wave in plan_waves(components):
        changed |= _start_wave(layout, wave, cgroup)
        if any(component.name == "containerd" for component in wave):
            _import_static(layout, bin_dir)
    return changed


def _components(layout: Layout, bin_dir: Path) -> tuple[Component, ...]:
    return build_components(layout, bin_dir, shutil.which("containerd") or "containerd")


def _prepare_s3_folder(layout: Layout) -> None:
    """The S3 server runs unprivileged and owns its folder; each folder in it is a bucket. Nobody else looks inside."""
    bucket = layout.s3 / "maze"
    if not bucket.is_dir():
        bucket.mkdir(parents=True, exist_ok=True)
    for folder in (layout.s3, bucket):
        folder.chmod(0o700)
        os.chown(folder, NONROOT_UID, NONROOT_UID)


def write_configs(layout: Layout, bin_dir: Path) -> None:
    """Write the configuration files that the components read."""
    cni_bin = host.find_cni_plugins()
    if cni_bin is None:
        raise ClusterError("no CNI plugins found: install the package containernetworking-plugins.")
    pause = _static_reference(images.PAUSE, bin_dir)
    facts = Facts(cni_bin, pause, host.choose_snapshotter(layout), host.is_cgroup_v2())
    texts = {
        layout.config / "containerd.toml": build_containerd_toml(layout, facts),
        layout.config / "kubelet.yaml": build_kubelet_config(layout, facts),
        layout.config / "kube-proxy.yaml": build_proxy_config(layout),
        layout.config / "resolv.conf": build_resolv_conf(_read_resolv_conf()),
        layout.cni / "10-maze.conflist": build_cni_conflist(layout),
    }
    for path, text in texts.items():
        write_private(path, text.encode())
    (layout.config / "resolv.conf").chmod(0o644)


def _read_resolv_conf() -> str:
    """The machine's upstream resolvers; systemd-resolved keeps the real ones elsewhere."""
    texts = [Path(path).read_text() for path in RESOLV_CONFS if Path(path).exists()]
    return next((text for text in texts if "nameserver" in text), "")


def _start_wave(layout: Layout, wave: tuple[Component, ...], cgroup: Path) -> bool:
    """Start the components of one wave that do not run as they should, and wait for all; whether any was started."""
    started: list[str] = []
    records: list[tuple[Component, process.Record]] = []
    for component in wave:
        digest = build_digest(component, {path: path.read_bytes() for path in component.files})
        record = process.read_record(layout, component.name)
        if record is not None and process.is_alive(record) and record.digest != digest:
            detail(f"{component.name}: its settings changed, restarting it")
            process.stop([record])
        if record is None or not process.is_alive(record) or record.digest != digest:
            record = process.start(layout, component, digest, cgroup)
            started.append(component.name)
        records.append((component, record))
    if started:
        say(f"starting {', '.join(started)}")
    for component, record in records:
        process.wait_ready(layout, component, record)
    return bool(started)


def _import_static(layout: Layout, bin_dir: Path) -> None:
    """pause, CoreDNS and the S3 server: needed before the first pod."""
    builders = {}
    for image in (images.PAUSE, images.DNS, images.S3):
        reference = _static_reference(image, bin_dir)
        builders[reference] = partial(images.write_static_archive, image, bin_dir, reference)
    containerd.ensure_images(layout, builders)


def wait_node(kubectl: Kubectl) -> None:
    """Wait until the node is Ready."""
    deadline = time.monotonic() + NODE_READY_SECONDS
    while True:
        node = kubectl.get("node", NODE_NAME) or {}
        conditions = {item["type"]: item for item in node.get("status", {}).get("conditions", ())}
        ready = conditions.get("Ready", {})
        if ready.get("status") == "True":
            return
        if time.monotonic() > deadline:
            raise ClusterError(
                f"node {NODE_NAME} is not Ready after {NODE_READY_SECONDS:.0f} s: {ready.get('message', 'it never registered')};"
                " see .cluster/logs/kubelet.log."
            )
        time.sleep(0.2)


def deploy_maze(layout: Layout, bin_dir: Path, kubectl: Kubectl, *, bare: bool) -> None:
    """Images, secrets, manifests, and the wait until all of it runs."""
    names = {f"maze/{image.name}": _static_reference(image, bin_dir) for image in (images.DNS, images.S3)}
    patches = [deploy.build_s3_path_patch(layout.s3)]
    overlay = "embedded-bare" if bare else "embedded"
    if not bare:
        python = {image: _python_reference(layout, image) for image in (*images.PYTHON_IMAGES, images.EXAMPLE)}
        builders = {
            reference: partial(buildah.build_archive, layout, image, reference) for image, reference in python.items()
        }
        containerd.ensure_images(layout, builders)
        containerd.ensure_name(layout, python[images.EXAMPLE], f"docker.io/{images.EXAMPLE_NAME}:latest")
        names |= {f"maze/{image.name}": reference for image, reference in python.items()}
        patches.append(deploy.build_task_images_patch(names))
    deploy.ensure_secrets(kubectl, layout.manifests / "namespaces")
    plan = deploy.Plan((str(layout.manifests / "overlays" / overlay),), names, tuple(patches))
    applied = deploy.apply(kubectl, plan, layout.deploy)
    if not bare:
        apply_examples(kubectl, layout.checkout / "examples")
    deploy.wait_rollouts(kubectl, deploy.BARE_LABEL if bare else deploy.LABEL)
    if applied and not bare:
        pause = _static_reference(images.PAUSE, bin_dir)
        containerd.drop_old_images(layout, frozenset({*names.values(), pause}))


def _python_reference(layout: Layout, image: images.PythonImage) -> str:
    return images.LOCAL + images.build_python_reference(layout.checkout, image, buildah.build_base_reference())


def _static_reference(image: images.StaticImage, bin_dir: Path) -> str:
    return images.LOCAL + images.build_static_reference(image, bin_dir)


def down(layout: Layout) -> None:
    """Stop everything and leave nothing behind but the build cache. Safe to repeat, and after a crash."""
    with exclusive(layout):
        owner = host.read_owner(layout)
        if owner is not None and owner.checkout != str(layout.checkout) and cgroups.list_processes():
            raise ClusterError(f"the cluster that runs here belongs to {owner.checkout}: run `make down` there.")
        say("stopping the cluster")
        components = _components(layout, find_bin_dir(layout))
        # The kubelet first, or it would start again what is being stopped; etcd last, so that nobody waits for it.
        records = {component.name: process.read_record(layout, component.name) for component in components}
        for name in ("kubelet", *(component.name for component in reversed(components))):
            record = records.pop(name, None)
            if record is not None:
                process.stop([record], DOWN_SECONDS)
        clear.carry_out(layout, [action for action in Action if action is not Action.DROP_PID_FILES])
        say(f"removing {layout.state}")
        shutil.rmtree(layout.state, ignore_errors=True)
        if layout.state.exists():
            attempt(["rm", "-rf", "--one-file-system", layout.state])
    layout.run.with_name(layout.run.name + ".lock").unlink(missing_ok=True)


def status(layout: Layout) -> list[tuple[str, str]]:
    """(component, state) of each component: `ready`, `running` (but not ready) or `stopped`."""
    rows = []
    for component in _components(layout, find_bin_dir(layout)):
        alive = process.is_alive(process.read_record(layout, component.name))
        ready = alive and process.probe_ready(layout, component.probe)
        rows.append((component.name, "ready" if ready else "running, not ready" if alive else "stopped"))
    return rows


def describe(layout: Layout, *, bare: bool) -> str:
    """The lines that `up` ends with."""
    lines = [] if bare else [f"Maze API     http://127.0.0.1:{MAZE_API_PORT}"]
    lines.append(f"kubectl      export KUBECONFIG={layout.kubeconfig}")
    lines.append(f"control plane in namespace {SYSTEM_NAMESPACE}, Runs in namespace maze; logs in {layout.logs}")
    return "\n".join(lines)
