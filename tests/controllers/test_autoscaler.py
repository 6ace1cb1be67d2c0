"""HorizontalPodAutoscalers on a running control plane; the simulated containers use what their annotation says.

Sources: kubernetes.io "Horizontal Pod Autoscaling"; conformance-like e2e of upstream's sig-autoscaling. The arithmetic stands in
`test_autoscaler_rules.py`.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from minik8s.api.errors import ApiError, Conflict, InternalError, ServiceUnavailable
from minik8s.client.client import Client
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster, find_resource
from tests.controllers.objects import condition, conditions, events, template, workload

Object = Mapping[str, Any]
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}

pytestmark = pytest.mark.cluster(nodes=1)


def busy(cpu: str, name: str = "web") -> dict[str, Any]:
    pods = template(name, simulate=f"cpu={cpu} memory=64Mi")
    pods["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    return pods


def autoscaler(name: str = "web", kind: str = "Deployment", group: str = "apps/v1", **spec: Any) -> dict[str, Any]:
    reference = {"apiVersion": group, "kind": kind, "name": "web"}
    full = {"scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 10, "metrics": [CPU]} | spec
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name}, "spec": full}


async def state(cluster: Cluster, name: str = "web") -> Object:
    found = await cluster.get(f"hpa/{name}")
    assert found is not None
    status: Object = found["status"]
    return status


async def replicas(cluster: Cluster, what: str = "deployment/web") -> int:
    found = await cluster.get(what)
    assert found is not None
    return int(found["spec"].get("replicas", 0))


async def test_up_while_it_is_busy_and_down_five_minutes_after(cluster: Cluster, clock: VirtualClock) -> None:
    """Each pod uses its whole request, the target is half of it: the double, and again, as fast as the default allows."""
    await cluster.apply([workload("Deployment", replicas=1, pods=busy("100m")), autoscaler(maxReplicas=5)])
    await clock.advance(1)
    status = await state(cluster)
    assert conditions({"status": status})[1] == ("ScalingActive", "False", "FailedGetResourceMetric"), "it starts only"
    assert status["currentMetrics"] == [{"type": ""}]
    await clock.advance(60)
    assert await replicas(cluster) == 5
    status = await state(cluster)
    current = {"averageUtilization": 100, "averageValue": "100m"}
    assert status["currentMetrics"] == [{"type": "Resource", "resource": {"name": "cpu", "current": current}}]
    assert (status["currentReplicas"], status["desiredReplicas"]) == (5, 5)
    assert condition({"status": status}, "ScalingLimited")["reason"] == "TooManyReplicas"
    told = await events(cluster, "web")
    why = "reason: cpu resource utilization (percentage of request) above target"
    assert ("SuccessfulRescale", f"New size: 2; {why}") in told
    assert ("SuccessfulRescale", f"New size: 4; {why}") in told

    await cluster.apply(workload("Deployment", pods=busy("10m")))
    await clock.advance(240)
    assert await replicas(cluster) == 5
    assert condition({"status": await state(cluster)}, "AbleToScale")["reason"] == "ScaleDownStabilized"
    await clock.advance(120)
    assert await replicas(cluster) == 1
    assert ("SuccessfulRescale", "New size: 1; reason: All metrics below target") in await events(cluster, "web")


async def test_at_rest_nothing_is_asked(cluster: Cluster, clock: VirtualClock) -> None:
    usage = cluster.plane.usage
    assert usage is not None
    asked: list[float] = []
    source = usage.sources["node-0"]

    async def counted() -> Any:
        asked.append(clock.now())
        return await source()

    usage.sources["node-0"] = counted
    await cluster.apply(workload("Deployment", replicas=1, pods=busy("50m")))
    await clock.advance(120)
    assert asked == [], "there is no autoscaler"
    await cluster.apply(autoscaler())
    await clock.advance(300)
    before = await state(cluster)
    asked.clear()
    revision = (await cluster.get("hpa/web") or {})["metadata"]["resourceVersion"]
    await clock.advance(60)
    assert len(asked) == 4
    assert await state(cluster) == before
    assert (await cluster.get("hpa/web") or {})["metadata"]["resourceVersion"] == revision, "nothing new is written"
    await cluster.delete("hpa/web")
    asked.clear()
    await clock.advance(60)
    assert asked == []


async def test_numbers_of_replicas_alone(cluster: Cluster, clock: VirtualClock) -> None:
    deployment = workload("Deployment", replicas=0, pods=busy("50m"))
    await cluster.apply([deployment, autoscaler(minReplicas=2)])
    await clock.advance(1)
    disabled = condition({"status": await state(cluster)}, "ScalingActive")
    assert (disabled["reason"], await replicas(cluster)) == ("ScalingDisabled", 0)
    await cluster.client.patch(find_resource("deployments"), "web", "default", {"spec": {"replicas": 1}})
    await clock.advance(16)
    assert await replicas(cluster) == 2
    await cluster.client.patch(find_resource("deployments"), "web", "default", {"spec": {"replicas": 20}})
    await clock.advance(16)
    assert await replicas(cluster) == 10
    assert "New size: 10; reason: Current number of replicas above Spec.MaxReplicas" in [
        m for _, m in await events(cluster, "web")
    ]


async def test_targets_that_cannot_be_scaled(cluster: Cluster, clock: VirtualClock) -> None:
    prefix = "the HPA controller was unable to get the target's current scale: "
    await cluster.apply(
        [
            autoscaler("missing"),
            autoscaler("unknown", "Thing", "example.com/v1"),
            autoscaler("unscalable", "DaemonSet"),
        ]
    )
    await clock.advance(1)
    for name, why in (
        ("missing", 'deployments.apps "web" not found'),
        ("unknown", 'no matches for kind "Thing" in group "example.com"'),
        ("unscalable", "the server could not find the requested resource"),
    ):
        status = await state(cluster, name)
        assert conditions({"status": status}) == [("AbleToScale", "False", "FailedGetScale")]
        assert status["conditions"][0]["message"] == prefix + why
        assert ("FailedGetScale", why) in await events(cluster, name)


async def test_two_of_the_same_pods_and_none_at_all(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([workload("StatefulSet", replicas=1, serviceName="web", pods=busy("100m"))])
    await cluster.apply([autoscaler(name, "StatefulSet") for name in ("a", "b")])
    await clock.advance(20)
    message = "pods by selector app=web are controlled by multiple HPAs: [{a default} {b default}]"
    assert condition({"status": await state(cluster, "b")}, "ScalingActive")["message"] == message
    assert ("AmbiguousSelector", message) in await events(cluster, "b")
    await cluster.delete("hpa/a")
    await clock.advance(60)
    assert await replicas(cluster, "statefulset/web") > 1


DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: farms.example.com}
spec:
  group: example.com
  names: {plural: farms, kind: Farm}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources: {scale: {specReplicasPath: .spec.n, statusReplicasPath: .status.n, labelSelectorPath: .status.pods}}
---
apiVersion: example.com/v1
kind: Farm
metadata: {name: web}
spec: {n: 1}
status: {n: 1, pods: app=web}
"""


async def test_a_custom_resource_is_a_target_too(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(DEFINITION)
    await cluster.apply([workload("Deployment", replicas=1, pods=busy("80m")), autoscaler("web", "Farm", "example.com/v1")])
    await clock.advance(60)
    found = await cluster.get("Farm/web")
    assert found is not None
    assert found["spec"]["n"] == 2


async def test_metrics_that_nobody_serves(cluster: Cluster, clock: VirtualClock) -> None:
    target = {"type": "AverageValue", "averageValue": "10"}
    pods = {"type": "Pods", "pods": {"metric": {"name": "hits"}, "target": target}}
    external = {"type": "External", "external": {"metric": {"name": "queue"}, "target": target}}
    await cluster.apply(workload("Deployment", replicas=1, pods=busy("80m")))
    await cluster.apply(autoscaler(metrics=[pods, external]))
    await clock.advance(1)
    told = dict(await events(cluster, "web"))
    assert told["FailedGetPodsMetric"] == (
        "unable to get metric hits: unable to fetch metrics from custom metrics API: no custom metrics API"
        " (custom.metrics.k8s.io) registered"
    )
    assert told["FailedGetExternalMetric"] == (
        "unable to get external metric default/queue/nil: unable to fetch metrics from external metrics API: the server could not"
        " find the requested resource (get queue.external.metrics.k8s.io)"
    )
    assert told["FailedComputeMetricsReplicas"].startswith(
        "invalid metrics (2 invalid out of 2), first error is: failed to get pods"
    )


async def test_metrics_of_an_aggregated_server(cluster: Cluster, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paths are those of upstream's clients of custom.metrics.k8s.io and external.metrics.k8s.io."""
    desk, asked = cluster.plane.desk, []

    async def elsewhere(route: Any, user: Any, call: Any) -> Any:
        asked.append((user.name.rpartition(":")[2], call.path, dict(call.query)))
        now = "2026-01-01T00:00:00Z"
        if call.path.endswith("/requests"):
            raise ServiceUnavailable("the metrics are being counted")
        pods = await cluster.all("pods")
        items = [{"describedObject": {"name": pod["metadata"]["name"]}, "timestamp": now, "value": "30"} for pod in pods]
        return {"items": items[: 1 if "/*/" not in call.path else None]}

    await cluster.apply(workload("Deployment", replicas=1, pods=busy("1m")))
    await clock.advance(40)
    versions = (("custom.metrics.k8s.io", "v1beta1"), ("external.metrics.k8s.io", "v1beta1"))
    monkeypatch.setattr(desk.catalogue, "remote", dict.fromkeys(versions, object()))
    monkeypatch.setattr(desk, "elsewhere", elsewhere)
    target = {"type": "AverageValue", "averageValue": "10"}
    metric = {"name": "hits", "selector": {"matchLabels": {"k": "v"}}}
    ingress = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "i"}
    value = {"type": "Value", "value": "100"}
    metrics = [
        {"type": "Pods", "pods": {"metric": metric, "target": target}},
        {"type": "Object", "object": {"metric": {"name": "rate"}, "describedObject": ingress, "target": value}},
        {"type": "External", "external": {"metric": metric, "target": target}},
        {"type": "Object", "object": {"metric": {"name": "requests"}, "describedObject": ingress, "target": value}},
    ]
    await cluster.apply(autoscaler(metrics=metrics))
    await clock.advance(1)
    root, who = "/namespaces/default", "horizontal-pod-autoscaler"
    custom, external = "/apis/custom.metrics.k8s.io/v1beta1" + root, "/apis/external.metrics.k8s.io/v1beta1" + root
    assert asked[:4] == [
        (who, f"{custom}/pods/*/hits", {"labelSelector": "app=web", "metricLabelSelector": "k=v"}),
        (who, f"{custom}/ingresses.networking.k8s.io/i/rate", {}),
        (who, f"{external}/hits", {"labelSelector": "k=v"}),
        (who, f"{custom}/ingresses.networking.k8s.io/i/requests", {}),
    ]
    status = await state(cluster)
    assert [each["type"] for each in status["currentMetrics"]] == ["Pods", "Object", "External", ""]
    assert await replicas(cluster) == 3, "what fails does not stop what goes up"
    assert "the metrics are being counted" in dict(await events(cluster, "web"))["FailedGetObjectMetric"]


async def test_a_scale_that_is_not_written_at_once(
    cluster: Cluster, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals: list[ApiError] = [Conflict("changed"), Conflict("changed")]
    update = Client.update

    async def refusing(self: Client, resource: Any, obj: Any, *, subresource: str = "") -> Any:
        if (resource.plural, subresource) == ("deployments", "scale") and refusals:
            raise refusals.pop()
        return await update(self, resource, obj, subresource=subresource)

    monkeypatch.setattr(Client, "update", refusing)
    await cluster.apply([workload("Deployment", replicas=3, pods=busy("50m")), autoscaler(maxReplicas=2)])
    await clock.advance(1)
    assert (await replicas(cluster), refusals) == (2, [])
    refusals.append(InternalError("etcd is gone"))
    await cluster.apply(autoscaler(maxReplicas=1))
    await clock.advance(1)
    assert await replicas(cluster) == 2
    status = await state(cluster)
    told = condition({"status": status}, "AbleToScale")
    assert (told["status"], told["reason"]) == ("False", "FailedUpdateScale")
    assert told["message"] == "the HPA controller was unable to update the target scale: etcd is gone"
    reason = "Current number of replicas above Spec.MaxReplicas"
    assert ("FailedRescale", f"New size: 1; reason: {reason}; error: etcd is gone") in await events(cluster, "web")
    await clock.advance(15)
    assert await replicas(cluster) == 1
