"""Container images that are one static program and nothing else, as a docker archive made by hand."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from pathlib import Path

from .errors import ClusterError
from .layout import NONROOT_UID

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def find_architecture() -> str:
    """This machine's architecture as Go and the image formats call it."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise ClusterError(
            f"this machine's processor is {machine}; the embedded cluster runs on {', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[machine]


def write_static_image(binary: Path, reference: str, archive: Path, *, arguments: Sequence[str] = ()) -> None:
    """Write to `archive` the image `reference` whose entry point is `binary`, run as an unprivileged user."""
    layer = _build_layer(binary)
    config = json.dumps(
        {
            "architecture": find_architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": [f"/{binary.name}"],
                "Cmd": list(arguments),
                "User": f"{NONROOT_UID}:{NONROOT_UID}",
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
            "history": [{"created_by": "maze_cluster"}],
        }
    ).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": [reference], "Layers": ["layer.tar"]}]).encode()
    partial = archive.with_name(archive.name + ".partial")
    with tarfile.open(partial, "w") as tar:
        for member, content in ((name, config), ("layer.tar", layer), ("manifest.json", manifest)):
            _add(tar, member, content, 0o644)
    partial.rename(archive)


def _build_layer(binary: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add(tar, binary.name, binary.read_bytes(), 0o755)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))
