"""Which cluster `make up` starts. Wrong here, a user without Docker gets an obscure failure instead of a cluster."""

from __future__ import annotations

import pytest

from maze_cluster.errors import ClusterError
from maze_cluster.flavour import Flavour, Machine, choose_flavour

BARE = Machine(docker=False, kind=False, linux=True, root=True)
DOCKER = Machine(docker=True, kind=True, linux=True, root=False)
MAC = Machine(docker=False, kind=True, linux=False, root=False)


@pytest.mark.parametrize(
    ("asked", "machine", "flavour"),
    [
        ("", DOCKER, Flavour.KIND),
        ("", BARE, Flavour.EMBEDDED),
        ("", Machine(docker=True, kind=False, linux=True, root=True), Flavour.EMBEDDED),
        ("embedded", Machine(docker=True, kind=True, linux=True, root=True), Flavour.EMBEDDED),
        ("existing", MAC, Flavour.EXISTING),
    ],
)
def test_the_best_that_the_machine_can_do(asked: str, machine: Machine, flavour: Flavour) -> None:
    assert choose_flavour({"MAZE_CLUSTER": asked} if asked else {}, machine) is flavour


@pytest.mark.parametrize(
    ("asked", "machine", "said"),
    [
        ("", MAC, "kind needs a Docker engine that answers .*the embedded cluster needs Linux and root"),
        ("kind", BARE, "MAZE_CLUSTER=kind needs a Docker engine that answers .* and the program `kind`"),
        ("embedded", DOCKER, "MAZE_CLUSTER=embedded needs root"),
        ("minikube", BARE, "'minikube': set it to one of kind, embedded, existing"),
    ],
)
def test_the_message_names_what_is_missing(asked: str, machine: Machine, said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        choose_flavour({"MAZE_CLUSTER": asked}, machine)
