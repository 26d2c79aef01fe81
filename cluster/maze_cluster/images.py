"""The images of a cluster: named by the content they are made of, built only when that name is new.

Static programs (pause, CoreDNS, the S3 server) are archives made by hand. Operator, api, runner and tools are built from
their Dockerfiles, by buildah here and by docker for kind; both get the same context folder:

    deps/   third-party packages for the image's Python, installed from the dist's requirements.lock by hash
    own/    our own dists, built as wheels and unpacked

The example image for OpRuns is what a user's own would be: its folder is the context.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from .archive import write_static_image
from .errors import ClusterError
from .layout import Layout
from .say import ticking
from .sh import run
from .tools import locked

IMAGE_PYTHON = "3.11"
IGNORED_PARTS = {"__pycache__", "build", "dist", ".venv", "tests"}
MANYLINUX = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")


@dataclass(frozen=True)
class StaticImage:
    """`maze/<name>`: the program `binary` of the built tools."""

    name: str
    binary: str


@dataclass(frozen=True)
class PythonImage:
    """`maze/<name>`, from `<folder>/Dockerfile`, with the packages of `<folder>/requirements.lock` and our own `dists`.

    Without `dists`: of what is in `<folder>`, and nothing else.
    """

    name: str
    folder: str
    dists: tuple[str, ...] = ()


LOCAL = "localhost/"
"""What the embedded cluster puts before its images' names: a name without a host would be looked for in a public
registry, where it may be anyone's, if it were ever missing."""

PAUSE = StaticImage("pause", "pause")
DNS = StaticImage("coredns", "coredns")
S3 = StaticImage("s3", "versitygw")
PYTHON_IMAGES = (
    PythonImage("operator", "operator", ("crds", "runner-image", "tools", "operator")),
    PythonImage("api", "api", ("crds", "tools", "api")),
    PythonImage("runner", "runner-image", ("runner-image",)),
    PythonImage("tools", "tools", ("runner-image", "tools")),
)
EXAMPLE = PythonImage("op-example", "examples/oprun")
"""Not deployed: OpRuns name it, as EXAMPLE_NAME."""
EXAMPLE_NAME = "maze/op-example"


def build_static_reference(image: StaticImage, bin_dir: Path) -> str:
    """`maze/coredns:<content version of the binaries>`."""
    return f"maze/{image.name}:{bin_dir.name[:12]}"


def list_sources(folder: Path) -> list[Path]:
    """The files of a dist that go into its wheel, without what tools leave behind; sorted.

    YAML beside the packages (the generated CRDs) is applied, not packed.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    packed = [path for path in files if path.parent != folder or path.suffix != ".yaml"]
    return sorted(path for path in packed if not _is_ignored(path.relative_to(folder)))


def _is_ignored(path: Path) -> bool:
    return any(part in IGNORED_PARTS or part.startswith(".") or part.endswith(".egg-info") for part in path.parts)


def build_python_reference(checkout: Path, image: PythonImage, base: str) -> str:
    """`maze/operator:<hash>` of the Dockerfile, the lock, our sources and the base image's name."""
    digest = hashlib.sha256(base.encode())
    for file in _inputs(checkout, image):
        content = file.read_bytes()
        digest.update(f"\0{file.relative_to(checkout)}\0{len(content)}\0".encode() + content)
    return f"maze/{image.name}:{digest.hexdigest()[:12]}"


def _inputs(checkout: Path, image: PythonImage) -> Iterable[Path]:
    files = {checkout / image.folder / "Dockerfile"}
    if image.dists:
        files.add(checkout / image.folder / "requirements.lock")
    for dist in image.dists or (image.folder,):
        files.update(list_sources(checkout / dist))
    missing = sorted(str(file) for file in files if not file.exists())
    if missing:
        raise ClusterError(f"image maze/{image.name} cannot be built: {', '.join(missing)} is missing.")
    return sorted(files)


def write_static_archive(
    image: StaticImage, bin_dir: Path, reference: str, present: Collection[str], archive: Path
) -> None:
    """Make the archive of a static image, whatever is `present`: it is a single layer."""
    del present
    write_static_image(bin_dir / image.binary, reference, archive)


def fill_context(layout: Layout, image: PythonImage, context: Path) -> None:
    """Fill `context` with deps/ and own/ for `image`, or with its folder."""
    if not image.dists:
        shutil.copytree(layout.checkout / image.folder, context, dirs_exist_ok=True)
        return
    shutil.copytree(_ensure_deps(layout, image), context / "deps", symlinks=True)
    wheels = context / "wheels"
    own = context / "own"
    own.mkdir()
    for dist in image.dists:
        run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
             "--wheel-dir", wheels, layout.checkout / dist],
            hint="Building wheels needs pip and hatchling beside this program; `make up` installs both in .venv.",
        )  # fmt: skip
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(own)
    shutil.rmtree(wheels)


def _ensure_deps(layout: Layout, image: PythonImage) -> Path:
    """Third-party packages for the image's Python, cached by the lock's content."""
    lock = layout.checkout / image.folder / "requirements.lock"
    machine = platform.machine()
    key = hashlib.sha256(lock.read_bytes() + f"{IMAGE_PYTHON} {machine}".encode()).hexdigest()[:16]
    target = layout.images_cache / "deps" / f"{image.name}-{key}"
    if target.is_dir():
        return target
    with locked(layout.images_cache / "deps.lock", "another download of Python packages is running; waiting for it"):
        for leftover in target.parent.glob("*.partial"):
            shutil.rmtree(leftover)
        partial = target.with_suffix(".partial")
        platforms = [f"--platform={tag}_{machine}" for tag in MANYLINUX]
        abis = [f"--abi=cp{IMAGE_PYTHON.replace('.', '')}", "--abi=abi3", "--abi=none"]
        with ticking(f"downloading the Python packages of maze/{image.name}", "15 s"):
            run(
                [sys.executable, "-m", "pip", "install", "--quiet", "--target", partial, "--no-deps", "--no-compile",
                 "--require-hashes", "--only-binary=:all:", f"--python-version={IMAGE_PYTHON}", "--implementation=cp",
                 *abis, *platforms, "-r", lock],
                hint=f"{lock} pins packages by hash; pip must be able to reach a package index that has them.",
            )  # fmt: skip
        partial.mkdir(parents=True, exist_ok=True)
        partial.rename(target)
    return target


def make_context_folder(layout: Layout) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder in the cache, not in /tmp, which may be small or in memory."""
    layout.images_cache.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=layout.images_cache, prefix="context-")
