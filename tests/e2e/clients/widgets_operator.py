"""An operator in kopf, which test_kopf.py runs by `kopf run`: each widget owns a ConfigMap of its size and is remembered when it goes."""

from __future__ import annotations

from typing import Any

import kopf
from kubernetes import client, config

WIDGETS = ("clients.example.com", "v1", "widgets")


@kopf.on.startup()
def configure(**_: Any) -> None:
    config.load_kube_config()


@kopf.on.create(*WIDGETS)
def create(name: str, namespace: str, spec: kopf.Spec, patch: kopf.Patch, body: kopf.Body, **_: Any) -> None:
    child = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-child"},
        "data": {"size": str(spec["size"])},
    }
    kopf.adopt(child)
    client.CoreV1Api().create_namespaced_config_map(namespace, child)
    patch.status["phase"] = "Ready"
    patch.status["child"] = f"{name}-child"
    kopf.info(body, reason="Made", message="A child was made")


@kopf.on.update(*WIDGETS, field="spec.size")
def resize(name: str, namespace: str, new: int, **_: Any) -> None:
    client.CoreV1Api().patch_namespaced_config_map(f"{name}-child", namespace, {"data": {"size": str(new)}})


@kopf.on.delete(*WIDGETS)
def delete(name: str, namespace: str, **_: Any) -> None:
    client.CoreV1Api().create_namespaced_config_map(namespace, {"metadata": {"name": f"{name}-was-here"}})
