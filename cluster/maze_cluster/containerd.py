"""Images in the cluster's own containerd."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from .host import choose_snapshotter
from .images import LOCAL, make_context_folder
from .layout import Layout
from .say import detail
from .sh import attempt, run

Builder = Callable[[Collection[str], Path], None]
"""Writes an image's archive to the path; may leave out the blobs whose digests are given."""


def list_images(layout: Layout) -> frozenset[str]:
    """The names of the images in the cluster."""
    return frozenset(run([*_ctr(layout), "images", "ls", "-q"]).split())


def ensure_images(layout: Layout, builders: Mapping[str, Builder]) -> None:
    """Import what is missing. `builders`: image name -> what makes its archive."""
    present = list_images(layout)
    missing = {reference: build for reference, build in builders.items() if reference not in present}
    for reference, build in missing.items():
        blobs = frozenset(run([*_ctr(layout), "content", "ls", "-q"]).split())
        with make_context_folder(layout) as folder:
            archive = Path(folder) / "image.tar"
            build(blobs, archive)
            env = {**os.environ, "CONTAINERD_SNAPSHOTTER": choose_snapshotter(layout)}
            run([*_ctr(layout), "images", "import", archive], env=env)
        detail(f"image {reference} is in the cluster")


def ensure_name(layout: Layout, reference: str, name: str) -> None:
    """Make the image `reference` known as `name` (`docker.io/USER/IMAGE:TAG`), too, in place of what it named before."""
    rows = [line.split() for line in run([*_ctr(layout), "images", "ls"]).splitlines()[1:]]
    digests = {row[0]: row[2] for row in rows}
    if digests.get(name) != digests[reference]:
        run([*_ctr(layout), "images", "tag", "--force", reference, name])


def list_running(layout: Layout) -> frozenset[str]:
    """The ids of the containers that run."""
    rows = [line.split() for line in run([*_ctr(layout), "tasks", "ls"]).splitlines()[1:]]
    return frozenset(row[0] for row in rows if row[2] == "RUNNING")


def drop_old_images(layout: Layout, current: frozenset[str]) -> None:
    """Remove older versions of our images; what runs on them goes on."""
    old = [name for name in list_images(layout) if name.startswith(f"{LOCAL}maze/") and name not in current]
    if old:
        attempt([*_ctr(layout), "images", "rm", *old])


def _ctr(layout: Layout) -> list[str]:
    return ["ctr", "--address", str(layout.containerd_socket), "--namespace", "k8s.io"]
