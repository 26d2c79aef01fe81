"""Maze in a kind cluster, on a machine with a Docker engine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from . import deploy, images
from .examples import apply_examples
from .kubectl import Kubectl
from .layout import MAZE_API_PORT, Layout
from .say import say, ticking
from .sh import run

CLUSTER = "maze"
BASE = "python:3.11-slim-bookworm"
"""The default of ARG BASE in the Dockerfiles."""


def up(layout: Layout, env: Mapping[str, str]) -> str:
    """Create the kind cluster if it is not there, build and load the images, deploy; returns what to tell the user."""
    layout.state.mkdir(mode=0o700, exist_ok=True)
    if CLUSTER not in run(["kind", "get", "clusters"]).split():
        with ticking("creating the kind cluster", "1 min"):
            run(["kind", "create", "cluster", f"--name={CLUSTER}", f"--config={layout.checkout / 'kind-config.yaml'}",
                 "--kubeconfig", layout.kubeconfig, "--wait=120s"])  # fmt: skip
    run(["kind", "export", "kubeconfig", f"--name={CLUSTER}", "--kubeconfig", layout.kubeconfig])
    layout.kubeconfig.chmod(0o600)
    kubectl = Kubectl("kubectl", layout.kubeconfig)
    names = {}
    for image in images.PYTHON_IMAGES:
        names[f"maze/{image.name}"] = reference = images.build_python_reference(layout.checkout, image, BASE)
        build_image(layout, image, reference)
        _load(reference)
    build_image(layout, images.EXAMPLE, images.EXAMPLE_NAME)
    _load(images.EXAMPLE_NAME)
    deploy.ensure_secrets(kubectl, layout.manifests / "namespaces")
    patches = (deploy.build_task_images_patch(names),)
    deploy.apply(kubectl, deploy.Plan((str(layout.manifests / "overlays" / "kind"),), names, patches), layout.deploy)
    apply_examples(kubectl, layout.checkout / "examples")
    deploy.wait_rollouts(kubectl)
    return f"Maze API     http://127.0.0.1:{MAZE_API_PORT}\nkubectl      export KUBECONFIG={layout.kubeconfig}"


def _load(reference: str) -> None:
    run(["kind", "load", "docker-image", reference, f"--name={CLUSTER}"])


def build_image(layout: Layout, image: images.PythonImage, reference: str) -> None:
    """Build `reference` with docker from the same Dockerfile and context as everywhere."""
    with images.make_context_folder(layout) as folder, ticking(f"building image {reference}", "30 s"):
        images.fill_context(layout, image, Path(folder))
        dockerfile = layout.checkout / image.folder / "Dockerfile"
        run(["docker", "build", "--quiet", "--file", dockerfile, "--tag", reference, folder])


def down(layout: Layout) -> None:
    """Delete the kind cluster and our state."""
    say("deleting the kind cluster")
    run(["kind", "delete", "cluster", f"--name={CLUSTER}"])
    shutil.rmtree(layout.state, ignore_errors=True)


def status(layout: Layout) -> str:
    """The nodes, as kubectl shows them."""
    return Kubectl("kubectl", layout.kubeconfig).run("get", "nodes").rstrip()
