"""Which class an Ingress gets. Source: kubernetes.io "Ingress", "Default IngressClass"."""

from typing import Any

import pytest

from minik8s.api.resources import INGRESSES
from minik8s.api.user import User
from minik8s.apiserver.admission.ingress import DefaultIngressClass
from minik8s.apiserver.contract import Admission, Operation


def ingress_class(name: str, made: str, default: str = "true") -> dict[str, Any]:
    annotations = {"ingressclass.kubernetes.io/is-default-class": default}
    metadata = {"name": name, "creationTimestamp": f"2026-01-01T00:00:{made}Z", "annotations": annotations}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": metadata}


OLD, NEW, TWIN = ingress_class("old", "01"), ingress_class("new", "02"), ingress_class("a-twin", "02")
NONE = ingress_class("none", "09", "false")


@pytest.mark.parametrize(
    ("classes", "spec", "annotations", "chosen"),
    [
        pytest.param([OLD, NEW, NONE], {}, {}, "new", id="the newest default"),
        pytest.param([OLD, NEW, TWIN], {}, {}, "a-twin", id="of the same second, the first by name"),
        pytest.param([NONE], {}, {}, None, id="no default"),
        pytest.param([], {}, {}, None, id="no class"),
        pytest.param([NEW], {"ingressClassName": "mine"}, {}, "mine", id="it names one"),
        pytest.param([NEW], {}, {"kubernetes.io/ingress.class": "nginx"}, None, id="it names one in the old way"),
    ],
)
async def test_the_class(
    shelf: Any, classes: list[Any], spec: dict[str, Any], annotations: dict[str, str], chosen: str | None
) -> None:
    for each in classes:
        shelf.put(each)
    plugin = DefaultIngressClass(shelf)
    obj = {"metadata": {"name": "i", "namespace": "ns", "annotations": annotations}, "spec": dict(spec)}
    request = Admission(User("jane"), Operation.CREATE, INGRESSES, "", "ns", "i", obj)
    assert plugin.handles(request)
    await plugin.admit(request)
    assert obj["spec"].get("ingressClassName") == chosen
