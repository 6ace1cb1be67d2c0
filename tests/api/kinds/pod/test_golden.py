"""Upstream's answers to pods that are created, judged without a server.

Source: the golden answers (recorded from kube-apiserver 1.36.2), which stand beside the repository on the machines that have them.
What admission adds upstream is added here by hand, so that what is compared is the API's own part: decoding, defaults,
what creation sets, validation, warnings.
"""

from __future__ import annotations

import json
import re
from typing import Any

import golden_answers
import pytest
import yaml

from minik8s.api import schema
from minik8s.api.errors import FieldError
from minik8s.api.kinds.pod import POD
from minik8s.api.names import validate_metadata

GOLDEN = golden_answers.directory()
ADMISSION = {"pd-runtimeclass", "pd-priority", "pd-serviceaccount", "pd-binding"}  # cases that other parts decide
TOKEN = "kube-api-access-xxxxx"
MOUNT = {"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": TOKEN, "readOnly": True}
SOURCES = [
    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
    {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
    {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}]}},
]


def creations() -> list[Any]:
    """(pod, answer) of each creation whose outcome the pod's own rules decide."""
    if not GOLDEN.is_dir():
        return [pytest.param(None, None, marks=pytest.mark.skip(reason="the golden answers are not on this machine"))]
    found = []
    for file in ("pods-defaults", "pods-validation"):
        answers = json.loads((GOLDEN / f"answers/{file}.json").read_text())
        for case in yaml.load((GOLDEN / f"cases/{file}.yaml").read_text(), yaml.CSafeLoader):
            steps = [step for step in case["do"] if "sleep" not in step]
            for i, (step, answer) in enumerate(zip(steps, answers[case["case"]], strict=True)):
                body = step.get("body")
                if step.get("post") != "/api/v1/namespaces/{ns}/pods" or case["case"] in ADMISSION:
                    continue
                named = isinstance(body, dict) and body.get("metadata", {}).get("name")
                if named and body.get("apiVersion") == "v1" and answer["status"] in (201, 422):
                    found.append(pytest.param(body, answer, id=f"{case['case']}#{i}"))
    return found


@pytest.mark.parametrize(("body", "answer"), creations())
def test_creation(body: dict[str, Any], answer: dict[str, Any]) -> None:
    pod = json.loads(json.dumps(body))
    pod["metadata"]["namespace"] = "ns"
    pod = schema.conform(pod, "", "v1", "Pod")[0]
    POD.default(pod)
    POD.prepare_create(pod)
    admit(pod)
    POD.default(pod)
    errors = validate_metadata(pod, POD.name_rule, namespaced=True) + POD.validate(pod) + POD.validate_create(pod)
    if answer["status"] == 422:
        causes = answer["body"]["details"]["causes"]
        assert [short(error) for error in errors] == [(c["reason"], c["field"], fixed(c["message"])) for c in causes]
    else:
        assert errors == []
        assert pod["spec"] == json.loads(json.dumps(answer["body"]["spec"]).replace("kube-api-access-<5>", TOKEN))
        assert without_times(pod["status"]) == without_times(answer["body"]["status"])
        assert POD.warnings(pod, None) == [text[len('299 - "') : -1].replace('\\"', '"') for text in answer["warnings"]]


def admit(pod: dict[str, Any]) -> None:
    """What upstream's default admission adds to a pod: account, token, tolerations, priority."""
    spec = pod["spec"]
    spec.setdefault("serviceAccountName", "default")
    spec["serviceAccount"] = spec["serviceAccountName"]
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    for key in ("not-ready", "unreachable"):
        toleration = {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"}
        known = [t for t in spec.get("tolerations", ()) if t.get("key", toleration["key"]) == toleration["key"]]
        if not any(t.get("effect", "NoExecute") == "NoExecute" for t in known):
            spec["tolerations"] = [*spec.get("tolerations", ()), toleration | {"tolerationSeconds": 300}]
    if spec.get("automountServiceAccountToken", True):
        projected = {"defaultMode": 420, "sources": SOURCES}
        spec["volumes"] = [*spec.get("volumes", ()), {"name": TOKEN, "projected": projected}]
        for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
            container["volumeMounts"] = [*container.get("volumeMounts", ()), MOUNT]


def short(error: FieldError) -> tuple[str, str, str]:
    return error.type, error.field, fixed(error.message)


def fixed(message: str) -> str:
    """The message without objects: upstream shows its internal types."""
    return re.sub(r"\{\S.*\}", "{}", message)


def without_times(status: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(status), object_hook=lambda o: {k: v for k, v in o.items() if not k.endswith("Time")})
