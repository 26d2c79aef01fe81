"""The system packages that the embedded cluster uses, installed when they are missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ClusterError
from .host import find_cni_plugins
from .say import detail, ticking
from .sh import run

# program -> Debian package
PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "mmdebstrap": "mmdebstrap",
    "buildah": "buildah",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "umount": "mount",
}
CNI_PACKAGE = "containernetworking-plugins"


def plan_packages(present: Collection[str], has_cni: bool) -> tuple[str, ...]:
    """The packages to install, given the programs that are `present`."""
    missing = [package for program, package in PROGRAMS.items() if program not in present]
    return (*missing, *(() if has_cni else (CNI_PACKAGE,)))


def ensure_packages() -> None:
    """Install what is missing. Raises ClusterError on a machine without apt-get, naming the packages."""
    present = {program for program in PROGRAMS if shutil.which(program)}
    packages = plan_packages(present, find_cni_plugins() is not None)
    if not packages:
        return
    names = " ".join(packages)
    if not shutil.which("apt-get"):
        raise ClusterError(
            f"the embedded cluster needs these programs, named as in Debian: {names}. This machine has no apt-get to"
            " install them: install them with its own package manager."
        )
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with ticking(f"installing system packages: {names}", "30 s"), _no_services():
        run(["apt-get", "update", "-qq"], env=env, hint="apt-get must be able to reach a package mirror.")
        run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
            env=env, hint=f"Install these packages by hand: {names}",
        )  # fmt: skip
    detail("containerd's own service is not used: the cluster runs its own, with its own socket and folders")


@contextmanager
def _no_services(policy: Path = Path("/usr/sbin/policy-rc.d")) -> Iterator[None]:
    """Keep packages from starting services while they are installed (the interface is Debian's invoke-rc.d)."""
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)
