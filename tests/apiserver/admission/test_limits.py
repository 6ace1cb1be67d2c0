"""LimitRanges, RuntimeClasses and PriorityClasses as admission applies them. Words follow the recorded answers of upstream 1.36."""

from typing import Any

import pytest

from minik8s.api import resources
from minik8s.api.errors import Forbidden
from minik8s.api.user import User
from minik8s.apiserver.admission import admit
from minik8s.apiserver.admission.limits import ANNOTATION, LimitRanger
from minik8s.apiserver.admission.pods import PodResize, Priority
from minik8s.apiserver.admission.runtimeclass import RuntimeClass
from minik8s.apiserver.contract import Admission, Operation, Plugin

CONTAINER = {
    "type": "Container",
    "default": {"cpu": "500m", "memory": "200Mi"},
    "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
    "max": {"cpu": "2", "memory": "1Gi"},
    "min": {"cpu": "50m", "memory": "10Mi"},
    "maxLimitRequestRatio": {"cpu": "8"},
}
POD = {"type": "Pod", "max": {"cpu": "3", "memory": "2Gi"}, "min": {"cpu": "60m"}, "maxLimitRequestRatio": {"memory": "4"}}
CLAIM = {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"}}


def thing(api_version: str, kind: str, name: str, namespace: str = "ns", **more: Any) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    each = [{"name": "abc"[i], "image": "i", "resources": container} for i, container in enumerate(containers or [{}])]
    return thing("v1", "Pod", "p", spec={"containers": each, **spec})


async def admitted(plugin: Plugin, obj: dict[str, Any], operation: Operation = Operation.CREATE) -> dict[str, Any]:
    resource = resources.of(obj)
    assert resource is not None
    shown = None if operation is Operation.DELETE else obj
    request = Admission(
        User("u"), operation, resource, "", obj["metadata"].get("namespace", ""), obj["metadata"]["name"], shown
    )
    await admit([plugin], request)
    return obj


async def refusal(plugin: Plugin, obj: dict[str, Any], operation: Operation = Operation.CREATE) -> str:
    with pytest.raises(Forbidden) as error:
        await admitted(plugin, obj, operation)
    return error.value.message.partition(" is forbidden: ")[2]


@pytest.fixture
def ranger(shelf: Any) -> LimitRanger:
    shelf.put(thing("v1", "LimitRange", "l", spec={"limits": [CONTAINER, POD, CLAIM]}))
    return LimitRanger(shelf)


async def test_containers_get_what_they_dont_name(ranger: LimitRanger) -> None:
    found = await admitted(ranger, pod({}, {"requests": {"cpu": "200m"}}))
    first, second = (container["resources"] for container in found["spec"]["containers"])
    assert first == {"requests": {"cpu": "100m", "memory": "200Mi"}, "limits": {"cpu": "500m", "memory": "200Mi"}}
    assert second["requests"] == {"cpu": "200m", "memory": "200Mi"}
    assert found["metadata"]["annotations"][ANNOTATION] == (
        "LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for container a; "
        "memory request for container b; cpu, memory limit for container b"
    )


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (
            {"requests": {"cpu": "10m", "memory": "1Mi"}, "limits": {"cpu": "10m", "memory": "1Mi"}},
            "[minimum cpu usage per Container is 50m, but request is 10m, minimum memory usage per Container is 10Mi, but request "
            "is 1Mi, minimum cpu usage per Pod is 60m, but request is 10m]",
        ),
        (
            {"requests": {"cpu": "3"}, "limits": {"cpu": "3", "memory": "500Mi"}},
            "maximum cpu usage per Container is 2, but limit is 3",
        ),
        (
            {"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "1", "memory": "500Mi"}},
            "[cpu max limit to request ratio per Container is 8, but provided ratio is 10.000000, memory max limit to request "
            "ratio per Pod is 4, but provided ratio is 5.000000]",
        ),
    ],
)
async def test_pods_outside_of_the_limits(ranger: LimitRanger, container: dict[str, Any], words: str) -> None:
    assert await refusal(ranger, pod(container)) == words


async def test_claims_outside_of_the_limits(ranger: LimitRanger) -> None:
    claim = thing("v1", "PersistentVolumeClaim", "c", spec={"resources": {"requests": {"storage": "6Gi"}}})
    assert await refusal(ranger, claim) == "maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi"


async def test_a_runtime_class_says_what_its_pods_cost_and_where_they_run(shelf: Any) -> None:
    toleration = {"key": "k", "operator": "Exists", "effect": "NoSchedule"}
    scheduling = {"nodeSelector": {"c": "d"}, "tolerations": [toleration]}
    overhead = {"podFixed": {"cpu": "100m"}}
    shelf.put(thing("node.k8s.io/v1", "RuntimeClass", "r", "", handler="h", overhead=overhead, scheduling=scheduling))
    plugin = RuntimeClass(shelf)
    spec = (await admitted(plugin, pod(runtimeClassName="r", nodeSelector={"a": "b"})))["spec"]
    assert (spec["overhead"], spec["nodeSelector"], spec["tolerations"]) == (
        {"cpu": "100m"},
        {"a": "b", "c": "d"},
        [toleration],
    )
    assert await refusal(plugin, pod(runtimeClassName="r", nodeSelector={"c": "z"})) == (
        "conflict: runtimeClass.scheduling.nodeSelector[c] = d; pod.spec.nodeSelector[c] = z"
    )
    assert await refusal(plugin, pod(runtimeClassName="none")) == 'pod rejected: RuntimeClass "none" not found'
    assert await refusal(plugin, pod(runtimeClassName="r", overhead={"cpu": "1"})) == (
        "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
    )
    assert await refusal(plugin, pod(overhead={"cpu": "1"})) == (
        "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
    )


def priority_class(name: str, value: int, **more: Any) -> dict[str, Any]:
    return thing("scheduling.k8s.io/v1", "PriorityClass", name, "", value=value, preemptionPolicy="Never", **more)


async def test_priority_comes_from_the_class_or_the_default_class(shelf: Any) -> None:
    shelf.put(priority_class("low", -5), priority_class("usual", 3, globalDefault=True))
    plugin = Priority(shelf)
    spec = (await admitted(plugin, pod(priorityClassName="low")))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (-5, "Never")
    spec = (await admitted(plugin, pod()))["spec"]
    assert (spec["priority"], spec["priorityClassName"]) == (3, "usual")
    assert await refusal(plugin, pod(priorityClassName="none")) == "no PriorityClass with name none was found"


async def test_one_default_class_and_the_systems_classes_stay(shelf: Any) -> None:
    shelf.put(priority_class("usual", 3, globalDefault=True))
    plugin = Priority(shelf)
    assert await refusal(plugin, priority_class("other", 4, globalDefault=True)) == (
        "PriorityClass usual is already marked as default. Only one default can exist"
    )
    await admitted(plugin, priority_class("usual", 3, globalDefault=True), Operation.UPDATE)
    system = priority_class("system-node-critical", 2_000_001_000)
    assert await refusal(plugin, system, Operation.DELETE) == "this is a system priority class and cannot be deleted"


async def test_a_resize_beyond_its_node_is_refused(shelf: Any) -> None:
    shelf.put(thing("v1", "Node", "n", "", status={"allocatable": {"cpu": "4", "memory": "1Gi"}}))
    resized = pod({"requests": {"cpu": "5"}}, nodeName="n")
    request = Admission(User("u"), Operation.UPDATE, resources.PODS, "resize", "ns", "p", resized, resized)
    with pytest.raises(Forbidden, match="resources: cpu, requested: 5000, allocatable: 4000") as refusal:
        await admit([PodResize(shelf)], request)
    assert refusal.value.details is not None
    assert refusal.value.details["causes"] == [{"reason": "NodeCapacity"}]
