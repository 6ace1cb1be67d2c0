"""Pods that are refused: fields, and words that clients match. Rule: upstream's causes; the golden answers hold many more."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from minik8s.api.kinds.pod import POD

PATHS: dict[str, list[tuple[Any, list[str]]]] = {
    "containers": [
        ([], ["spec.containers: Required value"]),
        ([{"image": "i"}], ["spec.containers[0].name: Required value"]),
        ([{"name": "a"}], ["spec.containers[0].image: Required value"]),
        ([{"name": "a", "image": "i"}, {"name": "a", "image": "i"}], ['spec.containers[1].name: Duplicate value: "a"']),
        (
            [{"name": "a", "image": " i "}],
            ['spec.containers[0].image: Invalid value: " i ": must not have leading or trailing whitespace'],
        ),
        (
            [{"name": "a", "image": "i", "ports": [{"containerPort": 1, "hostPort": 2}, {"containerPort": 3, "hostPort": 2}]}],
            ['spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//2"'],
        ),
        (
            [{"name": "a", "image": "i", "volumeMounts": [{"name": "none", "mountPath": "/x"}]}],
            ['spec.containers[0].volumeMounts[0].name: Not found: "none"'],
        ),
        (
            [{"name": "a", "image": "i", "livenessProbe": {"tcpSocket": {"port": 80}, "exec": {"command": ["x"]}}}],
            ["spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"],
        ),
        (
            [{"name": "a", "image": "i", "lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}],
            [
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than"
                " terminationGracePeriodSeconds (30)"
            ],
        ),
        (
            [{"name": "a", "image": "i", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}],
            ['spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'],
        ),
        (
            [
                {
                    "name": "a",
                    "image": "i",
                    "env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                }
            ],
            ['spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty'],
        ),
    ],
    "volumes": [
        ([{"emptyDir": {}}], ["spec.volumes[0].name: Required value"]),
        (
            [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}],
            ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "../up"}]}}],
            ["spec.volumes[0].configMap.items[0].path: Invalid value: \"../up\": must not contain '..'"],
        ),
        (
            [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
            [
                "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when"
                " serviceAccountName is not set"
            ],
        ),
    ],
    "tolerations": [
        (
            [{"operator": "Exists", "effect": "NoWay"}],
            [
                'spec.tolerations[0].effect: Unsupported value: "NoWay": supported values: "NoSchedule",'
                ' "PreferNoSchedule", "NoExecute"'
            ],
        ),
    ],
    "securityContext": [
        ({"runAsUser": -1}, ["spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"]),
    ],
    "ephemeralContainers": [
        ([{"name": "e", "image": "i"}], ["spec.ephemeralContainers: Forbidden: cannot be set on create"]),
    ],
    "restartPolicy": [
        (
            "Perhaps",
            ['spec.restartPolicy: Unsupported value: "Perhaps": supported values: "Always", "OnFailure", "Never"'],
        ),
    ],
    "dnsPolicy": [("None", ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"])],
    "hostname": [("h.x", ['spec.hostname: Invalid value: "h.x": must not contain dots'])],
}


def new_pod(field: str, value: Any) -> dict[str, Any]:
    pod: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
    pod["spec"][field] = copy.deepcopy(value)
    POD.default(pod)
    POD.prepare_create(pod)
    return pod


@pytest.mark.parametrize(("field", "value", "causes"), [(f, v, c) for f, cases in PATHS.items() for v, c in cases])
def test_refusals(field: str, value: Any, causes: list[str]) -> None:
    pod = new_pod(field, value)
    before = copy.deepcopy(pod)
    for _ in range(2):  # what was found is remembered; it is found again
        assert [str(error) for error in POD.validate(pod) + POD.validate_create(pod)] == causes
    assert pod == before


def test_the_same_container_in_other_surroundings_is_looked_at_again() -> None:
    hook = {"name": "a", "image": "i", "lifecycle": {"preStop": {"sleep": {"seconds": 20}}}}
    pod = new_pod("containers", [hook])
    assert POD.validate(pod) == []
    pod["spec"]["terminationGracePeriodSeconds"] = 10
    assert [error.field for error in POD.validate(pod)] == ["spec.containers[0].lifecycle.preStop.sleep"]


def test_warnings() -> None:
    variables = [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}]
    ports = [{"containerPort": 80}, {"containerPort": 80}]
    pod = new_pod("containers", [{"name": "a", "image": "i", "env": variables, "ports": ports}])
    pod["spec"]["nodeSelector"] = {"beta.kubernetes.io/os": "linux"}
    pod["metadata"]["name"] = "a.b"
    warnings = POD.warnings(pod, None)
    assert warnings[0].startswith("metadata.name: this is used in the Pod's hostname")
    assert warnings[1:] == [
        'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead',
        'spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply',
        "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
    ]
    assert POD.warnings(pod, pod) == []
