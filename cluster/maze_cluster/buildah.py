"""Builds the Python images from their Dockerfiles without a container engine and without a registry.

The base, which a Dockerfile takes as its ARG BASE, is a minimal Debian with Python, made once by mmdebstrap and cached.
Nothing in a build needs the network: what an image is made of is in its context.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from .images import PythonImage, fill_context, make_context_folder
from .layout import Layout
from .ocilayout import drop_old_versions, write_archive
from .say import ticking
from .sh import attempt, run
from .tools import locked

SUITE = "bookworm"
PACKAGES = "python3,ca-certificates"
DROPPED_PATHS = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/zoneinfo/*",
)
POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}\n'
"""No signatures: every image is made here, from files that were checked by hash."""


def build_base_reference() -> str:
    """The base image's name, which changes with what it is made of."""
    key = hashlib.sha256(" ".join((SUITE, PACKAGES, *DROPPED_PATHS)).encode()).hexdigest()[:12]
    return f"localhost/maze/base:{SUITE}-{key}"


def _buildah(layout: Layout) -> list[str]:
    store = layout.images_cache / "store"
    kind = run(["stat", "-f", "-c", "%T", layout.images_cache]).strip()
    driver = "vfs" if kind in ("overlayfs", "overlay") else "overlay"
    return ["buildah", "--root", str(store), "--runroot", str(layout.run / "buildah"), "--storage-driver", driver]


def _policy(layout: Layout) -> str:
    path = layout.images_cache / "policy.json"
    path.write_text(POLICY)
    return f"--signature-policy={path}"


def has_image(layout: Layout, reference: str) -> bool:
    """Whether `reference` is in our store."""
    return attempt([*_buildah(layout), "inspect", "--type", "image", reference]).returncode == 0


def ensure_base(layout: Layout) -> str:
    """The base image in our store; returns its name."""
    reference = build_base_reference()
    layout.images_cache.mkdir(parents=True, exist_ok=True)
    with locked(layout.images_cache / "base.lock", "another build of the base image is running; waiting for it"):
        if has_image(layout, reference):
            return reference
        with (
            ticking("making the base image (minimal Debian with Python)", "25 s"),
            make_context_folder(layout) as folder,
        ):
            context = Path(folder)
            excludes = [f"--dpkgopt=path-exclude={path}" for path in DROPPED_PATHS]
            run(
                [
                    "mmdebstrap",
                    "--quiet",
                    "--variant=minbase",
                    f"--include={PACKAGES}",
                    *excludes,
                    SUITE,
                    context / "base.tar",
                ],
                env={**os.environ, "TMPDIR": folder},
                hint="mmdebstrap must be able to reach a Debian mirror.",
            )
            (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
            _bud(layout, context, context / "Dockerfile", reference, [])
    return reference


def build_archive(layout: Layout, image: PythonImage, reference: str, present: Collection[str], archive: Path) -> None:
    """Build `image` as `reference` and write to `archive` what of it is not `present` (digests) in the cluster."""
    blobs = layout.images_cache / "blobs"
    if write_archive(blobs, reference, present, archive):
        return  # built before, for a cluster that is gone
    base = ensure_base(layout)
    with make_context_folder(layout) as folder, ticking(f"building image {reference}", "15 s"):
        fill_context(layout, image, Path(folder))
        dockerfile = layout.checkout / image.folder / "Dockerfile"
        _bud(layout, Path(folder), dockerfile, reference, [f"--build-arg=BASE={base}", "--layers"])
        push = [*_buildah(layout), "push", "--quiet", "--disable-compression", _policy(layout)]
        with locked(layout.images_cache / "blobs.lock", "another image build is running; waiting for it"):
            run([*push, reference, f"oci:{blobs}:{reference}"])
            write_archive(blobs, reference, present, archive)
            drop_old_versions(blobs, reference)
    _prune(layout, reference)


def _bud(layout: Layout, context: Path, dockerfile: Path, reference: str, options: list[str]) -> None:
    argv = [
        *_buildah(layout),
        "bud",
        "--quiet",
        _policy(layout),
        "--isolation=chroot",
        "--pull-never",
    ]
    run(
        [*argv, "--format=docker", "--file", str(dockerfile), "--tag", reference, *options, str(context)],
        env={**os.environ, "TMPDIR": str(context), "BUILDAH_ISOLATION": "chroot"},
    )


def _prune(layout: Layout, reference: str) -> None:
    """Drop older versions of the same image from our store; their shared layers stay."""
    name = reference.rpartition(":")[0]
    names = attempt([*_buildah(layout), "images", "--format", "{{.Name}}:{{.Tag}}"]).stdout.split()
    old = [other for other in names if other.startswith(f"{name}:") and other != reference]
    if old:
        attempt([*_buildah(layout), "rmi", *old])
