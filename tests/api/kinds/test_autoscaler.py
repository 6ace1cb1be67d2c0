"""HorizontalPodAutoscalers in both versions: what v1 can't say survives in upstream's annotations."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api import convert_autoscaler as views
from minik8s.api.kinds import autoscaler

PREFIX = "autoscaling.alpha.kubernetes.io/"


def hpa(**spec: Any) -> dict[str, Any]:
    ref = {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}
    metadata = {"name": "h", "namespace": "n"}
    whole = {"maxReplicas": 3, "minReplicas": 1, "scaleTargetRef": ref} | spec
    return {"apiVersion": views.V2, "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": whole}


METRICS = [
    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
    {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "5"}}},
    {
        "type": "Object",
        "object": {
            "describedObject": {"kind": "Service", "name": "s"},
            "metric": {"name": "hits"},
            "target": {"type": "Value", "value": "2k"},
        },
    },
    {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "7"}}},
]
BEHAVIOR = {"scaleDown": {"selectPolicy": "Disabled", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 5}]}}


def test_a_way_through_v1_keeps_all() -> None:
    whole = hpa(metrics=METRICS, behavior=BEHAVIOR)
    status = {
        "currentMetrics": [
            {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "3m"}}}
        ],
        "desiredReplicas": 2,
        "currentReplicas": 1,
        "conditions": [{"type": "AbleToScale", "status": "True"}],
    }
    old = views.old_view(whole | {"status": status})
    assert old["status"] == {"currentReplicas": 1, "desiredReplicas": 2, "currentCPUUtilizationPercentage": 7}
    new = views.new_view(old)
    conditions = new["status"].pop("conditions")
    assert [(c["type"], c["status"]) for c in conditions] == [("AbleToScale", "True")]
    assert new["spec"] == whole["spec"]
    assert new["status"] == {key: value for key, value in status.items() if key != "conditions"}
    assert new["metadata"] == whole["metadata"]


@pytest.mark.parametrize(
    "text", ["no JSON", "{}", "[1]", '[{"type":5}]', '[{"type":"Pods","pods":{"targetAverageValue":"x"}}]']
)
def test_annotations_that_make_no_object_count_for_nothing(text: str) -> None:
    old = {"apiVersion": views.V1, "kind": "HorizontalPodAutoscaler", "spec": {"maxReplicas": 2}}
    new = views.new_view(old | {"metadata": {"name": "h", "annotations": {PREFIX + "metrics": text}}})
    assert new["spec"]["metrics"] == [views.CPU_METRIC]
    assert new["metadata"] == {"name": "h"}


def test_v2_loses_the_annotations_of_v1() -> None:
    body = hpa()
    body["metadata"]["annotations"] = {PREFIX + "behavior": "{}", "mine": "1"}
    autoscaler.default(body)
    assert body["metadata"]["annotations"] == {"mine": "1"}


def test_zero_replicas_stay_allowed() -> None:
    new, old = hpa(minReplicas=0, metrics=METRICS), hpa(minReplicas=0, metrics=METRICS)
    assert autoscaler.validate_update(new, old) == []
    assert [error.field for error in autoscaler.validate_create(new)] == ["spec.minReplicas"]


def test_targets_as_printed() -> None:
    status = {"currentMetrics": [{"type": "Resource", "resource": {"current": {"averageValue": "5Mi"}}}], "currentReplicas": 2}
    shown = autoscaler.row(hpa(metrics=METRICS) | {"status": status}, 0)
    assert shown[1:6] == ["Deployment/d", "memory: 5Mi/1Gi, <unknown>/5 + 2 more...", "1", 3, 2]
