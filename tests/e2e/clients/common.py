"""What the tests of clients hold in their hands: kubectl, and objects to send."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from ..programs import Server, environment, kubectl_program

WIDGETS = "widgets.clients.example.com"
SPEC = {
    "type": "object",
    "description": "What is wanted of a widget.",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "description": "How large it is."},
        "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
        "replicas": {"type": "integer"},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "weight": {"type": "integer"}},
            },
        },
    },
}
STATUS = {
    "type": "object",
    "properties": {"phase": {"type": "string"}, "replicas": {"type": "integer"}, "child": {"type": "string"}},
}
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": WIDGETS},
    "spec": {
        "group": "clients.example.com",
        "scope": "Namespaced",
        "names": {
            "plural": "widgets",
            "singular": "widget",
            "kind": "Widget",
            "shortNames": ["wd"],
            "categories": ["toys"],
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": SPEC, "status": STATUS}}},
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                },
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
                ],
            }
        ],
    },
}


@dataclass
class Kubectl:
    """The real kubectl as the server's admin, in a namespace."""

    server: Server
    namespace: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        program = kubectl_program()
        assert program
        data = self.server.data
        own = [f"--kubeconfig={data}/admin.kubeconfig", f"--cache-dir={data}/cache", f"--namespace={self.namespace}"]
        return [program, *own, *arguments]

    def run(self, *arguments: str, input: Any = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """`input`: text, or objects for `-f -`."""
        text = input if isinstance(input, str | None) else yaml.safe_dump_all(input)
        return subprocess.run(
            self.command(*arguments),
            input=text or "",
            env=environment() | self.variables | variables,
            timeout=60,
            capture_output=True,
            text=True,
            check=False,
        )

    def __call__(self, *arguments: str, input: Any = None, **variables: str) -> str:
        done = self.run(*arguments, input=input, **variables)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}"
        return done.stdout

    def fails(self, *arguments: str, input: Any = None, **variables: str) -> str:
        """What it says on stderr, having failed."""
        done = self.run(*arguments, input=input, **variables)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def get(self, *arguments: str) -> Any:
        return json.loads(self("get", *arguments, "-o", "json", "--show-managed-fields"))


def widget(name: str, labels: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"labels": dict(labels)} if labels else {})}
    return {"apiVersion": "clients.example.com/v1", "kind": "Widget", "metadata": metadata, "spec": {"size": 1, **spec}}


def configmap(name: str, labels: Mapping[str, str] | None = None, **data: str) -> dict[str, Any]:
    metadata = {"name": name, **({"labels": dict(labels)} if labels else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def deployment(name: str, replicas: int | None = 1, image: str = "nginx:1") -> dict[str, Any]:
    container = {"name": "c", "image": image, "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}]}
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
    }
    if replicas is not None:
        spec["replicas"] = replicas
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
