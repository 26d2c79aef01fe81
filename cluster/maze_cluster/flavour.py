"""Which kind of cluster to bring up. Pure, but for `probe_machine`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from .errors import ClusterError
from .sh import attempt


class Flavour(StrEnum):
    """The three ways to a cluster."""

    KIND = "kind"
    EMBEDDED = "embedded"
    EXISTING = "existing"


@dataclass(frozen=True)
class Machine:
    """What decides. docker: a Docker engine answers. kind: the program is on PATH."""

    docker: bool
    kind: bool
    linux: bool
    root: bool


def probe_machine() -> Machine:
    """Look at this machine."""
    docker = bool(shutil.which("docker")) and attempt(["docker", "info"]).returncode == 0
    return Machine(
        docker=docker, kind=bool(shutil.which("kind")), linux=sys.platform == "linux", root=os.geteuid() == 0
    )


def choose_flavour(env: Mapping[str, str], machine: Machine) -> Flavour:
    """The flavour that MAZE_CLUSTER asks for, or else the best that this machine can do.

    Raises ClusterError, naming what is missing, where it can do none or not the one that is asked for.
    """
    asked = env.get("MAZE_CLUSTER", "")
    if asked and asked not in list(Flavour):
        raise ClusterError(f"MAZE_CLUSTER is {asked!r}: set it to one of {', '.join(Flavour)}, or leave it out.")
    if asked == Flavour.EXISTING:
        return Flavour.EXISTING
    no_kind, no_embedded = _missing_for_kind(machine), _missing_for_embedded(machine)
    if asked == Flavour.KIND and no_kind:
        raise ClusterError(f"MAZE_CLUSTER=kind needs {no_kind}.")
    if asked == Flavour.EMBEDDED and no_embedded:
        raise ClusterError(f"MAZE_CLUSTER=embedded needs {no_embedded}.")
    if asked != Flavour.EMBEDDED and not no_kind:
        return Flavour.KIND
    if not no_embedded:
        return Flavour.EMBEDDED
    raise ClusterError(
        f"no cluster can be started here: kind needs {no_kind}, the embedded cluster needs {no_embedded}."
        " To use a cluster that already runs, set MAZE_CLUSTER=existing."
    )


def _missing_for_kind(machine: Machine) -> str:
    missing = []
    if not machine.docker:
        missing.append("a Docker engine that answers (`docker info`)")
    if not machine.kind:
        missing.append("the program `kind` on PATH")
    return " and ".join(missing)


def _missing_for_embedded(machine: Machine) -> str:
    missing = []
    if not machine.linux:
        missing.append("Linux")
    if not machine.root:
        missing.append("root")
    return " and ".join(missing)
