"""When something is built again, and what is deployed. Wrong here, a user runs old code or waits for nothing."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from maze_cluster import deploy, examples, ocilayout
from maze_cluster.debian import CNI_PACKAGE, PROGRAMS, plan_packages
from maze_cluster.errors import ClusterError
from maze_cluster.images import PythonImage, build_python_reference, fill_context
from maze_cluster.layout import build_layout
from maze_cluster.tools import BINARIES, build_cache_key, build_ldflags, parse_go_version

EXAMPLES = Path(__file__).parents[2] / "examples"
IMAGE = PythonImage("operator", "operator", ("crds", "operator"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in {
        "operator/Dockerfile": "FROM x",
        "operator/requirements.lock": "a==1",
        "operator/pyproject.toml": "[project]",
        "operator/maze_operator/__init__.py": "",
        "crds/maze_crds/__init__.py": "",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "changed",
    ["operator/Dockerfile", "operator/requirements.lock", "crds/maze_crds/__init__.py", "crds/maze_crds/new.py"],
)
def test_an_image_is_built_again_when_an_input_changes(checkout: Path, changed: str) -> None:
    before = build_python_reference(checkout, IMAGE, "base:1")
    (checkout / changed).write_text("changed")
    assert build_python_reference(checkout, IMAGE, "base:1") != before


def test_an_image_is_not_built_again_for_what_tools_leave_behind(checkout: Path) -> None:
    before = build_python_reference(checkout, IMAGE, "base:1")
    for name in ("operator/maze_operator/__pycache__/a.pyc", "crds/build/x.py", "crds/.hidden/x", "crds/x.egg-info/y"):
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("noise")
    assert build_python_reference(checkout, IMAGE, "base:1") == before
    assert build_python_reference(checkout, IMAGE, "base:2") != before


def test_an_image_of_one_folder_needs_no_packages_and_follows_its_program(checkout: Path) -> None:
    folder = checkout / "examples" / "op"
    folder.mkdir(parents=True)
    for name in ("Dockerfile", "op.py"):
        (folder / name).write_text("one")
    image = PythonImage("op-example", "examples/op")
    before = build_python_reference(checkout, image, "base:1")
    (folder / "op.py").write_text("two")
    assert build_python_reference(checkout, image, "base:1") != before
    fill_context(build_layout(checkout, {}), image, checkout / "context")
    assert {path.name for path in (checkout / "context").iterdir()} == {"Dockerfile", "op.py"}


def test_a_missing_input_is_named(checkout: Path) -> None:
    (checkout / "operator/requirements.lock").unlink()
    with pytest.raises(ClusterError, match=r"operator/requirements\.lock is missing"):
        build_python_reference(checkout, IMAGE, "base:1")


def test_binaries_are_built_again_when_a_version_changes() -> None:
    sources = [("go.mod", b"one"), ("go.sum", b"two")]
    assert build_cache_key(sources) == build_cache_key(list(reversed(sources)))
    assert build_cache_key(sources) != build_cache_key([("go.mod", b"other"), ("go.sum", b"two")])
    assert build_cache_key([("a", b"bc")]) != build_cache_key([("ab", b"c")])


def test_binaries_report_the_version_that_they_are() -> None:
    assert "-X k8s.io/component-base/version.gitVersion=v1.34.4" in build_ldflags()
    assert {"etcd", "kubelet", "kube-apiserver", "kubectl", "coredns", "pause", "versitygw"} <= set(BINARIES)


@pytest.mark.parametrize(
    ("text", "version"),
    [("go version go1.26.8 linux/amd64", (1, 26)), ("go version go1.25rc1 linux/arm64", (1, 25)), ("", None)],
)
def test_the_go_version_is_read(text: str, version: tuple[int, int] | None) -> None:
    assert parse_go_version(text) == version


def test_only_missing_packages_are_installed() -> None:
    assert plan_packages(set(PROGRAMS), has_cni=True) == ()
    assert plan_packages(set(PROGRAMS) - {"runc"}, has_cni=False) == ("runc", CNI_PACKAGE)


def test_the_kustomization_points_at_the_manifests_and_pins_the_images() -> None:
    plan = deploy.Plan(
        ("/checkout/manifests/overlays/embedded",),
        {"maze/api": "maze/api:abc", "maze/runner": "registry.example:5000/maze/runner:v1"},
        (deploy.build_task_images_patch({"maze/runner": "maze/runner:v1", "maze/tools": "maze/tools:v2"}),),
    )
    document = json.loads(deploy.build_kustomization(plan, Path("/checkout/.cluster/deploy")))
    assert document["resources"] == ["../../manifests/overlays/embedded"]
    assert document["images"] == [
        {"name": "maze/api", "newName": "maze/api", "newTag": "abc"},
        {"name": "maze/runner", "newName": "registry.example:5000/maze/runner", "newTag": "v1"},
    ]
    assert "maze/runner:v1" in document["patches"][0]["patch"]
    assert "maze/tools:v2" in document["patches"][0]["patch"]


@pytest.mark.parametrize(
    ("status", "waits_for"),
    [
        ({}, "waiting to be noticed"),
        ({"observedGeneration": 2}, "0 of 1 pods updated"),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1}, "1 old pods still running"),
        ({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1}, "0 of 1 pods available"),
        ({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}, ""),
    ],
)
def test_up_waits_until_the_new_version_runs(status: dict[str, int], waits_for: str) -> None:
    deployment = {"metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": status}
    assert deploy.rollout_state(deployment) == waits_for


def test_a_pod_that_does_not_start_is_explained() -> None:
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 2s"}
    pod = {"status": {"containerStatuses": [{"name": "operator", "restartCount": 7, "state": {"waiting": waiting}}]}}
    assert deploy.explain_pod(pod) == "operator: CrashLoopBackOff: back-off 2s"
    assert deploy.count_restarts(pod) == 7


def test_an_import_carries_only_what_the_cluster_lacks(tmp_path: Path) -> None:
    folder = make_oci_layout(
        tmp_path / "oci", {"localhost/maze/api:1": [b"base", b"one"], "localhost/maze/api:2": [b"base", b"two"]}
    )
    archive = tmp_path / "image.tar"
    ocilayout.write_archive(folder, "localhost/maze/api:2", {digest(b"base")}, archive)
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    assert [item["annotations"][ocilayout.REF_NAME] for item in index["manifests"]] == ["localhost/maze/api:2"]
    blobs = {name for name in names if name.startswith("blobs/")}
    assert path_of(digest(b"two")) in blobs
    assert path_of(digest(b"base")) not in blobs
    assert len(blobs) == 3, "manifest, configuration and the new layer"


def test_old_versions_of_an_image_do_not_fill_the_disk(tmp_path: Path) -> None:
    images = {
        "localhost/maze/api:1": [b"base", b"one"],
        "localhost/maze/api:2": [b"base"],
        "localhost/maze/runner:1": [b"run"],
    }
    folder = make_oci_layout(tmp_path / "oci", images)
    ocilayout.drop_old_versions(folder, "localhost/maze/api:2")
    left = {item["annotations"][ocilayout.REF_NAME] for item in ocilayout.read_manifests(folder)}
    assert left == {"localhost/maze/api:2", "localhost/maze/runner:1"}
    assert not (folder / path_of(digest(b"one"))).exists()
    assert (folder / path_of(digest(b"base"))).exists()
    assert (folder / path_of(digest(b"run"))).exists()


def test_the_example_problems_and_scenarios_are_found_and_are_workflows() -> None:
    assert {path.name for path in examples.find_problems(EXAMPLES)} >= {"example.yaml", "incident.yaml"}
    built = {
        workflow["metadata"]["annotations"]["maze.dev/scenario-id"] for workflow in examples.build_scenarios(EXAMPLES)
    }
    assert "news_source_discovery_v1" in built


def test_an_example_scenario_that_is_none_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "scenarios"
    folder.mkdir()
    for text in ("[1]", "{", '{"steps": 1}'):
        (folder / "wrong.json").write_text(text)
        with pytest.raises(ClusterError, match=r"scenarios/wrong\.json is not a scenario definition: \w+"):
            examples.build_scenarios(tmp_path)


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def path_of(blob: str) -> str:
    return "blobs/" + blob.replace(":", "/")


def make_oci_layout(folder: Path, images: dict[str, list[bytes]]) -> Path:
    (folder / "blobs" / "sha256").mkdir(parents=True)

    def store(content: bytes) -> str:
        (folder / path_of(digest(content))).write_bytes(content)
        return digest(content)

    manifests = []
    for reference, layers in images.items():
        config = store(f"config of {reference}".encode())
        manifest = {"config": {"digest": config}, "layers": [{"digest": store(layer)} for layer in layers]}
        blob = store(json.dumps(manifest).encode())
        manifests.append({"digest": blob, "annotations": {ocilayout.REF_NAME: reference}})
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
    return folder
