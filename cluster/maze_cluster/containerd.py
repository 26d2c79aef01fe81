"""Images in the cluster's own containerd."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from .host import choose_snapshotter
from .images import make_context_folder
from .layout import Layout
from .say import detail
from .sh import attempt, run

BUILDER_PREFIX = "localhost/"
"""buildah's name for what it built comes along in the archive, as a second name that nobody needs."""


def shorten(name: str) -> str:
    """`maze/api:<hash>` for any name of it: containerd puts a default registry before a short name (none is ever asked)."""
    return "/".join(name.split("/")[-2:])


def list_images(layout: Layout) -> dict[str, str]:
    """The images in the cluster: short name -> containerd's name."""
    return {shorten(name): name for name in _list_names(layout) if not name.startswith(BUILDER_PREFIX)}


def _list_names(layout: Layout) -> list[str]:
    return run([*_ctr(layout), "images", "ls", "-q"]).split()


def ensure_images(layout: Layout, builders: Mapping[str, Callable[[Path], None]]) -> None:
    """Import what is missing. `builders`: image name -> a function that writes its archive to the given path."""
    present = list_images(layout)
    missing = {reference: build for reference, build in builders.items() if reference not in present}
    for reference, build in missing.items():
        with make_context_folder(layout) as folder:
            archive = Path(folder) / "image.tar"
            build(archive)
            env = {**os.environ, "CONTAINERD_SNAPSHOTTER": choose_snapshotter(layout)}
            run([*_ctr(layout), "images", "import", archive], env=env)
        _remove(layout, [name for name in _list_names(layout) if name.startswith(BUILDER_PREFIX)])
        detail(f"image {reference} is in the cluster")


def drop_old_images(layout: Layout, current: frozenset[str]) -> None:
    """Remove older versions of our images; what runs on them goes on."""
    images = list_images(layout)
    _remove(layout, [full for name, full in images.items() if name.startswith("maze/") and name not in current])


def _remove(layout: Layout, names: list[str]) -> None:
    if names:
        attempt([*_ctr(layout), "images", "rm", *names])


def _ctr(layout: Layout) -> list[str]:
    return ["ctr", "--address", str(layout.containerd_socket), "--namespace", "k8s.io"]
