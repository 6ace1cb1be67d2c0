"""Defaults of pods and templates. Rule: the API reference of PodSpec; KEP-2837 for resources of the pod as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api.kinds.pod import POD
from minik8s.api.kinds.pod.defaults import default_pod, pull_policy
from minik8s.api.kinds.pod.resources import qos_class, total_requests
from minik8s.api.kinds.podtemplate import default_pod_template, validate_pod_template


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1.36", "IfNotPresent"),
        ("reg.example:5000/busybox", "Always"),
        ("reg.example:5000/team/busybox:v2", "IfNotPresent"),
        ("busybox@sha256:" + "0" * 64, "IfNotPresent"),
        ("minik8s.local/host", "Always"),
        ("Not An Image", "IfNotPresent"),
    ],
)
def test_pull_policy(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


def resources(requests: dict[str, str], limits: dict[str, str] | None = None) -> dict[str, Any]:
    return {"resources": {"requests": requests} | ({"limits": limits} if limits else {})}


def spec_of(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    named = [{"name": f"c{i}", "image": "i:1"} | container for i, container in enumerate(containers)]
    return {"containers": named} | more


@pytest.mark.parametrize(
    ("spec", "quality"),
    [
        (spec_of({}), "BestEffort"),
        (spec_of(resources({"ephemeral-storage": "1Gi"})), "BestEffort"),
        (spec_of(resources({"cpu": "1"})), "Burstable"),
        (spec_of(resources({}, {"cpu": "1", "memory": "1Gi"})), "Guaranteed"),
        (spec_of(resources({}, {"cpu": "1", "memory": "1Gi"}), {}), "Burstable"),
        (spec_of(resources({"cpu": "500m"}, {"cpu": "1", "memory": "1Gi"})), "Burstable"),
        (spec_of(resources({}, {"cpu": "1", "memory": "1Gi"}), initContainers=[{"name": "i", "image": "i"}]), "Burstable"),
        (spec_of({}, resources={"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
    ],
)
def test_quality_of_service(spec: dict[str, Any], quality: str) -> None:
    pod = {"metadata": {"name": "p"}, "spec": spec}
    default_pod(pod)
    assert qos_class(pod["spec"]) == quality


def test_init_containers_and_sidecars_count_at_the_worst_moment() -> None:
    """KEP-753: sidecars run beside what comes after them."""
    init = [
        {"name": "side", "restartPolicy": "Always", **resources({"cpu": "100m"})},
        {"name": "big", **resources({"cpu": "2"})},
    ]
    assert total_requests(spec_of(resources({"cpu": "500m"}), initContainers=init)) == {"cpu": "2100m"}
    assert total_requests(spec_of(resources({"cpu": "3"}), initContainers=init)) == {"cpu": "3100m"}


def test_requests_follow_limits_in_pods_alone() -> None:
    pod = {"metadata": {"name": "p"}, "spec": spec_of(resources({"cpu": "100u"}, {"cpu": "1", "memory": "1Gi"}))}
    template: dict[str, Any] = {"spec": spec_of(resources({}, {"cpu": "1"}))}
    default_pod(pod)
    default_pod_template(template)
    assert pod["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1m", "memory": "1Gi"}
    assert template["spec"]["containers"][0]["resources"]["requests"] == {}
    assert template["metadata"] == {}
    assert "enableServiceLinks" not in template["spec"]
    assert validate_pod_template(template, "spec.template") == []


def test_templates_name_their_own_path() -> None:
    template: dict[str, Any] = {"metadata": {"labels": {"a": "b c"}}, "spec": {"containers": [{"name": "a"}]}}
    default_pod_template(template)
    fields = [error.field for error in validate_pod_template(template, "spec.template")]
    assert fields == ["spec.template.labels", "spec.template.spec.containers[0].image"]


def test_host_ports_in_the_hosts_network() -> None:
    pod = {"metadata": {"name": "p"}, "spec": spec_of({"ports": [{"containerPort": 80}]}, hostNetwork=True)}
    default_pod(pod)
    assert pod["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}]


def test_defaults_may_be_filled_in_again() -> None:
    pod = {"metadata": {"name": "p"}, "spec": spec_of({"livenessProbe": {"grpc": {"port": 1}}}, volumes=[{"name": "v"}])}
    default_pod(pod)
    again = {"metadata": dict(pod["metadata"]), "spec": dict(pod["spec"])}
    default_pod(again)
    assert again == pod


def test_a_new_pod_is_pending() -> None:
    pod: dict[str, Any] = {
        "metadata": {"name": "p", "labels": {"app": "w"}},
        "spec": spec_of({}),
        "status": {"phase": "Failed"},
    }
    selector = {"labelSelector": {}, "matchLabelKeys": ["app", "absent"]}
    pod["spec"]["topologySpreadConstraints"] = [selector]
    POD.default(pod)
    POD.prepare_create(pod)
    assert pod["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert selector["labelSelector"] == {"matchExpressions": [{"key": "app", "operator": "In", "values": ["w"]}]}


def test_fields_of_closed_gates_go() -> None:
    container = {"lifecycle": {"stopSignal": "SIGUSR1"}}
    sources = [{"clusterTrustBundle": {"name": "c", "path": "p"}}]
    pod = {"metadata": {"name": "p"}, "spec": spec_of(container, volumes=[{"name": "v", "projected": {"sources": sources}}])}
    POD.default(pod)
    POD.prepare_create(pod)
    assert "lifecycle" not in pod["spec"]["containers"][0]  # type: ignore[index]
    assert sources == [{}]
