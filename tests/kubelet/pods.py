"""Pods for tests, as the API server would give them (with its defaults)."""

from __future__ import annotations

from typing import Any


def container(name: str = "c", command: str = "sleep 1000", **fields: Any) -> dict[str, Any]:
    words = {"image": "img:1", "imagePullPolicy": "IfNotPresent", "command": [command]}
    return {
        "name": name,
        **words,
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        **fields,
    }


def pod(*containers: dict[str, Any], name: str = "a", metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "ns", "name": name, "uid": f"uid-{name}", "generation": 1, **(metadata or {})},
        "spec": {
            "containers": [*containers] or [container()],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "nodeName": "n1",
            "enableServiceLinks": True,
            **spec,
        },
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }
