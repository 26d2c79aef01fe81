"""Which spare pods are made and deleted, which one a Run may claim, and what a claim writes.

A spare requests next to nothing, so it takes no room until it is claimed; then it takes the size of the Run's tasks by
in-place resize. What Kubernetes 1.34 refuses there, and is not asked for therefore: another QoS class (so every spare is
Burstable, and stays it), limits that vanish, and resources other than cpu and memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from maze_crds import names
from maze_crds.quantity import format_bytes, format_cpu, parse_quantity
from maze_crds.workflow import Task, WorkflowSpec
from maze_operator.core import effective
from maze_operator.core.podspec import build_spec, owner_reference, run_labels, with_env
from maze_operator.core.shapes import make_shape
from maze_operator.core.values import RunView, Settings, Shape

Json = dict[str, Any]

TINY = {"cpu": Decimal("0.01"), "memory": Decimal(16 * 1024**2)}
"""What a spare requests."""
SPARES_TAKE = ("Insufficient cpu", "Insufficient memory", "Insufficient pods", "Too many pods")
"""As the scheduler names it."""
QUIET = 1.0
"""Seconds after a Run got a pod, or had tasks that wait for one, before a spare is made: starting one costs a core about
0.3 s, which the Run needs then."""
PATIENCE = 15.0
"""Spares are made in spite of that where they have been too few for so many seconds: some Run always starts somewhere."""
RELIEF = 30.0
"""Seconds without a pod that lacks room, before spares are made again."""
START_SECONDS = 300.0
"""A spare whose runner has not been heard of for so long is given up."""
LIVED = 60.0
"""Seconds after which the end of a spare says nothing about the next one."""
BACKOFF = (2.0, 300.0)
REFUSED_SECONDS = 60.0
"""Before a spare is made again that the API server refused: a quota, or a namespace that does not exist."""


@dataclass(frozen=True)
class Kind:
    """Spares that are alike. prefix: of their names, which is how they are told from those of other settings or versions."""

    namespace: str
    prefix: str
    count: int
    shape: Shape


@dataclass(frozen=True, kw_only=True)
class Spare:
    """resources: of its container. ready: its runner waits. heard: its runner has asked this process for work.

    quiet: seconds since it was heard of, or else since it was first seen. taken: it is being claimed or deleted.
    """

    namespace: str
    name: str
    uid: str
    base: str
    resources: Mapping[str, Any] = field(default_factory=dict)
    ready: bool = False
    heard: bool = False
    quiet: float = 0.0
    taken: bool = False
    ended: bool = False
    deleting: bool = False

    @property
    def claimable(self) -> bool:
        return self.ready and not (self.taken or self.ended or self.deleting)


@dataclass(frozen=True)
class Trouble:
    """How often a kind's pods failed in a row, and until when none is made."""

    failures: int = 0
    until: float = 0.0


@dataclass(frozen=True)
class Situation:
    """Seconds by one clock, None: never.

    busy: when a Run got a pod, or needed one, last. short: when a pod of a Run lacked room last.
    full: when there were enough spares, or one was made.
    """

    now: float
    busy: float | None = None
    short: float | None = None
    full: float = 0.0
    trouble: Mapping[str, Trouble] = field(default_factory=dict)
    """By Kind.prefix and namespace, as key_of has it."""


@dataclass(frozen=True)
class Decision:
    """create: one of each. again: seconds after which to decide again, unless something happens before."""

    create: tuple[Kind, ...] = ()
    delete: tuple[Spare, ...] = ()
    again: float | None = None
    enough: bool = True


def key_of(kind: Kind) -> str:
    return f"{kind.namespace}/{kind.prefix}"


def make_kinds(settings: Settings) -> tuple[Kind, ...]:
    """Raises ValueError: an image without the runner."""
    bundled = (settings.default_image, settings.tools_image)
    found = []
    for wanted in settings.spares:
        if wanted.image not in (None, *bundled):
            raise ValueError(
                f"spare pods of the image '{wanted.image}' can't be kept: it has no runner built in;"
                f" these have: {', '.join(filter(None, bundled))}"
            )
        task = Task.model_validate({"name": "spare", "python": {"source": "def f(p): return p", "image": wanted.image}})
        spec = build_spec(task, WorkflowSpec(tasks=[task]), effective.priority_class(0, settings), 1.0, settings)
        container = {**spec["containers"][0], "resources": _spare_resources(wanted.cpu, wanted.memory)}
        shape = make_shape({**spec, "containers": [container]})
        found.append(Kind(wanted.namespace, f"maze-spare-{shape.key[:8]}-", wanted.count, shape))
    return tuple(found)


def _spare_resources(cpu: str | None, memory: str | None) -> Json:
    limits: Json = {}
    requests = {"cpu": format_cpu(TINY["cpu"]), "memory": format_bytes(TINY["memory"])}
    if cpu is not None:
        limits["cpu"] = format_cpu(parse_quantity(cpu))
        requests["cpu"] = format_cpu(min(TINY["cpu"], parse_quantity(cpu)))
    if memory is not None:
        limits["memory"] = format_bytes(parse_quantity(memory))
        requests["memory"] = format_bytes(min(TINY["memory"], parse_quantity(memory) / 2))
    return {"limits": limits, "requests": requests} if limits else {"requests": requests}


def build_spare(kind: Kind, name: str, env: list[Json]) -> Json:
    """No owner: none in its namespace lives as long as the installation does."""
    labels = {names.LABEL_RUN_UID: "", names.LABEL_SPARE: kind.shape.base}
    metadata = {"name": name, "namespace": kind.namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": with_env(kind.shape.spec, env)}


def belongs(spare: Spare, kind: Kind) -> bool:
    """One that was resized for a claim that failed is nobody's."""
    made = kind.shape.resources["requests"]
    same = _amounts(spare.resources, "requests") == {key: parse_quantity(value) for key, value in made.items()}
    return spare.namespace == kind.namespace and spare.name.startswith(kind.prefix) and same


def decide(kinds: Sequence[Kind], spares: Iterable[Spare], situation: Situation) -> Decision:
    """Spares that are taken are counted no more, and left alone."""
    now = situation.now
    here = [spare for spare in spares if not (spare.taken or spare.deleting)]
    if situation.short is not None and now - situation.short < RELIEF:
        return Decision(delete=tuple(here), again=RELIEF - (now - situation.short))
    create: list[Kind] = []
    keep: set[str] = set()
    waits: list[float] = []
    enough = True
    for kind in kinds:
        own = [spare for spare in here if belongs(spare, kind) and not spare.ended and spare.quiet < START_SECONDS]
        own = sorted(own, key=lambda spare: (not spare.ready, not spare.heard))[: kind.count]
        keep |= {spare.uid for spare in own}
        waits += [START_SECONDS - spare.quiet for spare in own if not spare.ready]
        if len(own) == kind.count:
            continue
        enough = False
        wait = max(situation.trouble.get(key_of(kind), Trouble()).until, _not_before(situation)) - now
        if wait > 0:
            waits.append(wait)
        elif all(spare.heard for spare in own):
            create.append(kind)
    delete = tuple(spare for spare in here if spare.uid not in keep)
    return Decision(tuple(create), delete, min(waits, default=None), enough)


def _not_before(situation: Situation) -> float:
    quiet = 0.0 if situation.busy is None else situation.busy + QUIET
    return min(quiet, situation.full + PATIENCE)


def after_failure(trouble: Trouble, lived: float, now: float) -> Trouble:
    """`lived`: seconds."""
    failures = 1 if lived >= LIVED else trouble.failures + 1
    return Trouble(failures, now + min(BACKOFF[1], BACKOFF[0] * 2 ** min(failures - 1, 16)))


def lacks_room(pod: Json) -> bool:
    """Whether it waits for something that spares take, so not where the scheduler names only other things, as GPUs."""
    status = pod.get("status") or {}
    if status.get("phase") != "Pending" or "deletionTimestamp" in pod["metadata"]:
        return False
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            message = condition.get("message", "")
            return "Insufficient" not in message or any(each in message for each in SPARES_TAKE)
    return False


def fits(spare: Spare, shape: Shape, resizable: bool) -> bool:
    """Whether it could serve such tasks. Resized it can have any size, but a limit can't be taken away."""
    if spare.base != shape.base:
        return False
    has, wants = _amounts(spare.resources, "limits"), _amounts(shape.resources, "limits")
    if has is None or wants is None:
        return False
    return has == wants or (resizable and set(has) <= set(wants) <= set(TINY))


def choose(spares: Iterable[Spare], shape: Shape, namespace: str, resizable: bool) -> list[Spare]:
    """All that could be claimed, the best first: of the same size, else the one that fewest others could use."""
    found = [
        spare for spare in spares if spare.claimable and spare.namespace == namespace and fits(spare, shape, resizable)
    ]
    return sorted(found, key=lambda spare: (needs_resize(spare, shape), -len(spare.resources.get("limits") or {})))


def needs_resize(spare: Spare, shape: Shape) -> bool:
    """Of its limits."""
    return _amounts(spare.resources, "limits") != _amounts(shape.resources, "limits")


def target_resources(spare: Spare, shape: Shape) -> Json:
    """Of the container, once the Run has it. Where requests equal limits, one byte of memory less is requested: the QoS class
    can't change."""
    limits = dict(shape.resources.get("limits") or {})
    requests = {**(spare.resources.get("requests") or {}), **(shape.resources.get("requests") or {})}
    same = all(key in limits and parse_quantity(limits[key]) == parse_quantity(requests[key]) for key in TINY)
    if same:
        requests["memory"] = format_bytes(parse_quantity(requests["memory"]) - 1)
    return {"limits": limits, "requests": requests} if limits else {"requests": requests}


def accounts_for(spare: Spare, target: Json) -> bool:
    """Whether it requests what it is to request."""
    return _amounts(spare.resources, "requests") == _amounts(target, "requests")


def resize_patch(pod: Json, target: Json) -> list[Json]:
    """JSON patch for pods/NAME/resize."""
    return [
        {"op": "test", "path": "/metadata/uid", "value": pod["metadata"]["uid"]},
        {"op": "test", "path": "/spec/containers/0/name", "value": "task"},
        {"op": "replace", "path": "/spec/containers/0/resources", "value": target},
    ]


def never_resizable(status: int, message: str, name: str) -> bool:
    """What the API server's answer to a resize says of all pods: not that this one is gone, and not that its namespace's
    quota or limits forbid this size."""
    if status == 403:
        return "cannot patch resource" in message
    return 400 <= status < 500 and status not in (409, 429) and not (status == 404 and f'"{name}"' in message)


def resize_verdict(pod: Json, target: Json) -> bool | None:
    """Whether its node agrees that it gets the target size; None: not known yet."""
    status = pod.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or () if each.get("status") == "True"}
    progress = conditions.get("PodResizeInProgress")
    if "PodResizePending" in conditions or (progress is not None and progress.get("reason") == "Error"):
        return False
    container: Json = next(iter(status.get("containerStatuses") or ()), {})
    allocated = _amounts({"requests": container.get("allocatedResources")}, "requests")
    limits = _amounts(container.get("resources") or {}, "limits")
    agreed = allocated == _amounts(target, "requests") or limits == _amounts(target, "limits")
    return True if agreed or progress is not None else None


def resize_failed(pod: Json) -> bool:
    """Whether a pod that got another size for its claim will not have it after all: its runner waits in vain."""
    resized = (pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_RESIZED) == "true"
    return resized and resize_verdict(pod, {}) is False


def claim_patch(pod: Json, view: RunView, shape: Shape, resized: bool) -> list[Json]:
    """JSON patch; refused (422) where the pod is not a spare any more, or is being deleted. What else changes in a pod, such as
    its status, does no harm."""
    metadata = pod["metadata"]
    labels = {key: value for key, value in metadata["labels"].items() if key != names.LABEL_SPARE}
    labels |= {**run_labels(view), names.LABEL_SHAPE: shape.key}
    patch: list[Json] = [
        {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
        {"op": "test", "path": "/metadata/labels/" + _escape(names.LABEL_RUN_UID), "value": ""},
        {"op": "test", "path": "/metadata/deletionTimestamp", "value": None},
        {"op": "replace", "path": "/metadata/labels", "value": labels},
        {"op": "add", "path": "/metadata/ownerReferences", "value": [owner_reference(view)]},
    ]
    if resized:
        annotations = {**(metadata.get("annotations") or {}), names.ANNOTATION_RESIZED: "true"}
        patch.append({"op": "add", "path": "/metadata/annotations", "value": annotations})
    return patch


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _amounts(resources: Mapping[str, Any], what: str) -> dict[str, Decimal] | None:
    """None: somebody else has set something that we never would."""
    try:
        return {key: parse_quantity(value) for key, value in (resources.get(what) or {}).items()}
    except ValueError:
        return None
