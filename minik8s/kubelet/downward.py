"""The downward API: what a container may learn of its own pod, for variables and for files.

Sources: v1.ObjectFieldSelector, v1.ResourceFieldSelector; Go's strconv.Quote for the files of labels and annotations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minik8s.api import quantity
from minik8s.api.quantity import Quantity
from minik8s.kubelet.pod import ContainerSpec, Pod, find_container
from minik8s.kubelet.resources import amounts


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container's environment says of the node and the sandbox."""

    pod_ips: Sequence[str] = ()
    host_ips: Sequence[str] = ()
    allocatable: Mapping[str, Quantity] = field(default_factory=dict)  # the limit of who has none
    seen_at: str = ""  # when this kubelet first saw the pod, RFC 3339


def field_value(pod: Pod, path: str, surroundings: Surroundings) -> str:
    """The value of a `fieldRef`; ValueError for a path that there is not."""
    keyed = _KEYED.fullmatch(path)
    if keyed:
        return str(_map(pod, keyed[1], surroundings).get(keyed[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        found = _map(pod, path.removeprefix("metadata."), surroundings)
        return "\n".join(f"{name}={quote(value)}" for name, value in sorted(found.items()))
    plain: dict[str, Callable[[], object]] = {
        "metadata.name": lambda: pod["metadata"]["name"],
        "metadata.namespace": lambda: pod["metadata"].get("namespace", ""),
        "metadata.uid": lambda: pod["metadata"]["uid"],
        "spec.nodeName": lambda: pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": lambda: pod["spec"].get("serviceAccountName", ""),
        "status.hostIP": lambda: next(iter(surroundings.host_ips), ""),
        "status.hostIPs": lambda: ",".join(surroundings.host_ips),
        "status.podIP": lambda: next(iter(surroundings.pod_ips), ""),
        "status.podIPs": lambda: ",".join(surroundings.pod_ips),
    }
    if path not in plain:
        raise ValueError(f"unsupported fieldPath: {path}")
    return str(plain[path]())


def resource_value(pod: Pod, container: ContainerSpec, ref: Mapping[str, Any], surroundings: Surroundings) -> str:
    """The value of a `resourceFieldRef`, in units of its divisor, rounded up; ValueError where it names what there is not."""
    if ref.get("containerName"):
        found = find_container(pod, ref["containerName"])
        if found is None:
            raise ValueError(f"container {ref['containerName']} not found")
        container = found[1]
    kind, _, resource = str(ref["resource"]).partition(".")
    if kind not in ("limits", "requests"):
        raise ValueError(f"unsupported container resource : {ref['resource']}")
    value = amounts(container, kind).get(resource)
    if value is None:
        value = surroundings.allocatable.get(resource, quantity.ZERO) if kind == "limits" else quantity.ZERO
    divisor = quantity.from_json(ref.get("divisor") or "1") or quantity.of(1)
    return str(-(-value.nano // divisor.nano))


def quote(text: str) -> str:
    """`text` as Go's strconv.Quote writes it."""
    return '"' + "".join(_escape(c) for c in text) + '"'


_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\t": "\\t",
    "\r": "\\r",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\v": "\\v",
}


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _map(pod: Pod, kind: str, surroundings: Surroundings) -> Mapping[str, str]:
    found = dict(pod["metadata"].get(kind) or {})
    if kind == "annotations":
        found |= {"kubernetes.io/config.seen": surroundings.seen_at, "kubernetes.io/config.source": "api"}
    return found
