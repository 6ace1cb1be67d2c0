"""One step of a rollout, and what the status says of it: tables. Source: kubernetes.io "Deployments"."""

from typing import Any

import pytest

from minik8s.controllers import rollout, rollout_status
from minik8s.testing.clock import START

from .objects import conditions, template, workload


def deployment(replicas: int = 10, surge: Any = 3, unavailable: Any = 2, image: str = "v2", **more: Any) -> dict[str, Any]:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    spec = {"strategy": strategy, "replicas": replicas, "progressDeadlineSeconds": 600} | more
    made = workload("Deployment", pods=template(image=image), **spec)
    made["metadata"] |= {"namespace": "default", "uid": "d", "generation": 1}
    return made


def rs(
    image: str, size: int, available: int | None = None, *, actual: int | None = None, desired: int = 10, most: int = 13
) -> Any:
    """A ReplicaSet: its size, how many pods of it are available, how many there are."""
    actual = size if actual is None else actual
    available = size if available is None else available
    made = workload("ReplicaSet", pods=template(image=image), replicas=size)
    annotations = {rollout.REVISION: image[1:], rollout.DESIRED_REPLICAS: str(desired), rollout.MAX_REPLICAS: str(most)}
    made["metadata"] |= {"name": image, "uid": image, "namespace": "default", "generation": 1, "annotations": annotations}
    made["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:0{image[1:]}Z"
    status = {"replicas": actual, "readyReplicas": available, "availableReplicas": available, "observedGeneration": 1}
    return made | {"status": status}


def sizes(step: rollout.Step) -> dict[str, int]:
    return {scale.replica_set["metadata"]["name"]: scale.result["spec"]["replicas"] for scale in step.scale}


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "wanted"),
    [
        (3, 2, 10, (3, 2)),
        ("25%", "25%", 10, (3, 2)),
        ("25%", "25%", 1, (1, 0)),
        (0, "1%", 10, (0, 1)),
        (0, 0, 10, (0, 1)),
        (0, 5, 3, (0, 3)),
    ],
)
def test_limits(surge: Any, unavailable: Any, replicas: int, wanted: tuple[int, int]) -> None:
    """A surge is rounded up, unavailability down; both zero would stand still."""
    assert rollout.limits(deployment(replicas, surge, unavailable)) == wanted


@pytest.mark.parametrize(
    ("sets", "wanted"),
    [
        ([rs("v2", 0), rs("v1", 10)], {"v2": 3}),
        ([rs("v2", 3, 0), rs("v1", 10)], {"v1": 8}),
        ([rs("v2", 3, 0), rs("v1", 10, 7)], {"v1": 8}),  # sick ones may go: as many as go without harm
        ([rs("v2", 3, 0), rs("v1", 8)], {"v2": 5}),
        ([rs("v2", 5, 0), rs("v1", 8)], {}),
        ([rs("v2", 5, 5), rs("v1", 8)], {"v1": 3}),
        ([rs("v2", 10, 10), rs("v1", 3)], {"v1": 0}),
        ([rs("v3", 0, 0), rs("v2", 5, 0), rs("v1", 8)], {"v2": 5}),  # undone: the same size, a new revision
    ],
)
def test_steps_of_a_rolling_update(sets: list[Any], wanted: dict[str, int]) -> None:
    assert sizes(rollout.decide(deployment(), sets)) == wanted


def test_the_first_step_makes_the_set() -> None:
    step = rollout.decide(deployment(), [rs("v1", 10)])
    assert step.create is not None
    assert (step.create["spec"]["replicas"], step.revision) == (3, "2")
    assert step.create["metadata"]["annotations"][rollout.MAX_REPLICAS] == "13"


@pytest.mark.parametrize(
    ("replicas", "sets", "wanted"),
    [
        (15, [rs("v2", 5), rs("v1", 8)], {"v2": 7, "v1": 11}),
        (5, [rs("v2", 5, 0), rs("v1", 8)], {"v2": 3, "v1": 5}),
        (5, [rs("v2", 5), rs("v1", 8)], {"v1": 0}),  # the new set is enough
        (0, [rs("v2", 5), rs("v1", 8)], {"v2": 0, "v1": 0}),
        (12, [rs("v2", 3, desired=6, most=9), rs("v1", 3, desired=6, most=9)], {"v2": 10, "v1": 5}),
        (20, [rs("v2", 10)], {"v2": 20}),
    ],
)
def test_proportional_scaling(replicas: int, sets: list[Any], wanted: dict[str, int]) -> None:
    step = rollout.decide(deployment(replicas), sets)
    assert sizes(step) == wanted
    assert not step.rolls


def test_history() -> None:
    """The oldest empty sets beyond the limit go, once the rollout is complete; what is not empty stays."""
    old = [rs(f"v{n}", 0) for n in (3, 4, 5, 6)]
    made = deployment(image="v9", revisionHistoryLimit=2)
    sets = [rs("v9", 10), *old]
    assert [each["metadata"]["name"] for each in rollout.decide(made, sets).delete] == ["v3", "v4"]
    old[0]["status"]["replicas"] = 1
    assert rollout.decide(made, sets).delete == ()


@pytest.mark.parametrize("revisions", [3, 2000])
def test_the_list_of_old_revisions_is_bounded(revisions: int) -> None:
    made = rs("v2", 10)
    made["metadata"]["annotations"][rollout.REVISION_HISTORY] = ",".join(map(str, range(revisions)))
    step = rollout.decide(deployment(), [made, rs("v5", 0)])
    (scale,) = step.scale
    told = scale.result["metadata"]["annotations"]
    assert told[rollout.REVISION] == step.revision == "6"
    assert told[rollout.REVISION_HISTORY].endswith(",2")
    assert len(told[rollout.REVISION_HISTORY]) <= rollout.HISTORY_LENGTH


PROGRESS = {"type": "Progressing", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("reason", "sets", "after", "wanted"),
    [
        ("ReplicaSetUpdated", [rs("v2", 5, 0), rs("v1", 8)], 601, "ProgressDeadlineExceeded"),
        ("ReplicaSetUpdated", [rs("v2", 5, 0), rs("v1", 8)], 599, "ReplicaSetUpdated"),
        ("ReplicaSetUpdated", [rs("v2", 5, 1), rs("v1", 8)], 601, "ReplicaSetUpdated"),
        ("ReplicaSetUpdated", [rs("v2", 10)], 601, "NewReplicaSetAvailable"),
        ("NewReplicaSetAvailable", [rs("v2", 10, 4)], 601, "NewReplicaSetAvailable"),
        ("ProgressDeadlineExceeded", [rs("v2", 10)], 601, "NewReplicaSetAvailable"),
    ],
)
def test_progress(reason: str, sets: list[Any], after: float, wanted: str) -> None:
    made = deployment()
    counts = {"replicas": 13, "updatedReplicas": 5, "readyReplicas": 8, "availableReplicas": 8}
    if reason == "NewReplicaSetAvailable":
        counts = {"replicas": 10, "updatedReplicas": 10, "readyReplicas": 10, "availableReplicas": 10}
    since = {"lastUpdateTime": "2026-01-01T00:00:00Z", "reason": reason, "message": ""}
    made["status"] = counts | {"conditions": [PROGRESS | since]}
    status = rollout_status.status_of(made, sets, START + after, rollout.Step())
    assert {kind: why for kind, _, why in conditions({"status": status})}["Progressing"] == wanted


def test_without_a_deadline_nothing_is_said_of_progress() -> None:
    status = rollout_status.status_of(deployment(progressDeadlineSeconds=2**31 - 1), [rs("v2", 10)], START, rollout.Step())
    assert [kind for kind, _, _ in conditions({"status": status})] == ["Available"]


def test_names_of_templates() -> None:
    """The same for the same template, another after a collision; label values that any vowel-free word may be."""
    one, other = deployment(), deployment(image="v3")
    assert rollout.template_hash(one) == rollout.template_hash(deployment(replicas=3))
    assert rollout.template_hash(one) != rollout.template_hash(other)
    assert rollout.template_hash(one) != rollout.template_hash(one | {"status": {"collisionCount": 1}})
    assert len(rollout.template_hash(one)) == 10
