"""The pod and container that `logs` and `exec` mean."""

from __future__ import annotations

import sys
from typing import Any

from minik8s.cli import CommandError, UsageError
from minik8s.cli.connection import Server
from minik8s.cli.kinds import find, kinds

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


def pod(server: Server, text: str) -> dict[str, Any]:
    """The pod named `NAME` or `pod/NAME`, or one of what `deploy/NAME` (a Service, ReplicaSet, ...) selects."""
    kind, slash, name = text.rpartition("/")
    if slash and not (kind and name):
        raise UsageError(f"{text!r} is neither NAME nor KIND/NAME")
    pods = f"/api/v1/namespaces/{server.namespace}/pods"
    if kind in ("", "po", "pod", "pods"):
        found: dict[str, Any] = server.request("GET", f"{pods}/{name}")
        return found
    owner = server.request("GET", find(kinds(server), kind).path(server.namespace, name))
    selector = owner.get("spec", {}).get("selector") or {}
    labels = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
    if not labels:
        raise CommandError(f"{text} selects no pods; name one")
    query = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())}
    items = server.request("GET", pods, query)["items"]
    if not items:
        raise CommandError(f"{text} has no pods yet; minik8s get {text} tells more")
    running = [item for item in items if item.get("status", {}).get("phase") == "Running"]
    chosen: dict[str, Any] = (running or items)[0]
    if len(items) > 1:
        print(f"Found {len(items)} pods, using pod/{chosen['metadata']['name']}", file=sys.stderr)
    return chosen


def container(found: dict[str, Any], given: str) -> str:
    """The container's name: as given, else the pod's default, else its first; says so where there are several."""
    names = [one["name"] for part in ("containers", "initContainers") for one in found["spec"].get(part) or ()]
    default = (found["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER, "")
    if given or default in names:
        return given or default
    if len(names) > 1:
        print(f'Defaulted container "{names[0]}" out of: {", ".join(names)}', file=sys.stderr)
    return str(names[0])
