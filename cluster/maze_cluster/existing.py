"""Maze in a cluster that somebody else runs: the user's own KUBECONFIG and context.

The images must be where that cluster can pull them. MAZE_IMAGE_REGISTRY names that place (`registry.example/maze`):
`up` deploys `<registry>/operator:<tag>`, `api`, `runner` and `tools`; MAZE_IMAGE_TAG is the tag, by default the content tag that
`up` names when it asks for the images. Nothing is started and nothing is built or pushed.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import deploy, images
from .errors import ClusterError
from .kind import BASE
from .kubectl import Kubectl
from .layout import SYSTEM_NAMESPACE, Layout
from .say import say


def build_names(env: Mapping[str, str], layout: Layout) -> dict[str, str]:
    """Image name in the manifests -> where the cluster pulls it. Raises ClusterError without MAZE_IMAGE_REGISTRY."""
    local = {image: images.build_python_reference(layout.checkout, image, BASE) for image in images.PYTHON_IMAGES}
    registry = env.get("MAZE_IMAGE_REGISTRY", "").rstrip("/")
    if not registry:
        wanted = ", ".join(reference.removeprefix("maze/") for reference in local.values())
        raise ClusterError(
            f"MAZE_CLUSTER=existing needs MAZE_IMAGE_REGISTRY: push the images ({wanted}) to a registry that your"
            " cluster can pull from and set it to their common prefix, for example registry.example/maze."
        )
    tag = env.get("MAZE_IMAGE_TAG", "")
    return {
        f"maze/{image.name}": f"{registry}/{image.name}:{tag or reference.rpartition(':')[2]}"
        for image, reference in local.items()
    }


def up(layout: Layout, env: Mapping[str, str]) -> str:
    """Deploy into the current context; returns what to tell the user."""
    kubectl = Kubectl("kubectl")
    context = kubectl.run("config", "current-context", hint="Set KUBECONFIG to your cluster.").strip()
    names = build_names(env, layout)
    say(f"deploying into context {context}")
    deploy.ensure_secrets(kubectl, layout.manifests / "namespaces")
    patches = (deploy.build_task_images_patch(names),)
    plan = deploy.Plan((str(layout.manifests / "overlays" / "existing"),), names, patches)
    deploy.apply(kubectl, plan, layout.deploy)
    deploy.wait_rollouts(kubectl)
    return f"Maze API     kubectl -n {SYSTEM_NAMESPACE} port-forward service/maze-api 8000:8000"


def down(layout: Layout) -> None:
    """Delete what `up` deployed, its data and the namespaces included."""
    say("deleting Maze from the current context")
    Kubectl("kubectl").run("delete", "--ignore-not-found", "-k", layout.deploy)


def status(layout: Layout) -> str:
    """Maze's deployments, as kubectl shows them."""
    return Kubectl("kubectl").run("get", "deployments", "-A", "-l", deploy.LABEL).rstrip()
