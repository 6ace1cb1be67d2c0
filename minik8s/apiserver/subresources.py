"""Subresources that are written or read on their own: scale, binding, finalize. `status` and what a kind names itself
(`Kind.subresources`) are plain updates; eviction is `eviction.py`'s, streams (log, exec, proxy) are `connect.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from minik8s.api import selectors
from minik8s.api.errors import BadRequest, Conflict, invalid, invalid_object
from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds.node import topology_labels
from minik8s.api.resources import NODES, PODS, Resource
from minik8s.apiserver import bodies, managing
from minik8s.apiserver.cache import Entry
from minik8s.apiserver.contract import Operation
from minik8s.apiserver.registry import Answer, Change, Registry, raise_invalid
from minik8s.apiserver.request import Request
from minik8s.base.clock import rfc3339

SCALES = Resource("autoscaling", "v1", "scales", "Scale", verbs=())
"""What a Scale is shown as: no resource of its own."""
SCALE = bodies.TypeOf.of(SCALES)
BINDING = bodies.TypeOf("", "v1", "Binding")
SUCCESS: Mapping[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


async def scale(registry: Registry, request: Request) -> Answer:
    """GET, PUT and PATCH of autoscaling/v1 Scale."""
    if request.verb == "get":
        return scale_of(registry.get(request).obj)
    if bodies.is_apply(request):
        return await _apply_scale(registry, request)
    document = bodies.patch_of(request) if request.verb == "patch" else None
    if document is None:
        wanted = bodies.object_of(request, SCALE)
        bodies.check_name(request, wanted)
        bodies.check_namespace(request, wanted)

    async def change(old: Frozen) -> Object:
        new_scale = wanted if document is None else bodies.patched(request, document, scale_of(old), SCALE)
        await registry.admission.admit(request, Operation.UPDATE, new_scale, scale_of(old))
        replicas = new_scale.get("spec", {}).get("replicas", 0)
        if replicas < 0:
            error = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
            raise invalid_object("Scale", "autoscaling", request.name, [error])
        new = bodies.private(old)
        new.setdefault("spec", {})["replicas"] = replicas
        managing.track(request, new, old, rfc3339(registry.clock.now()))
        version = new_scale["metadata"].get("resourceVersion")
        new["metadata"].pop("resourceVersion")
        return new if not version else new | {"metadata": new["metadata"] | {"resourceVersion": version}}

    return await _rescale(registry, request, change)


async def _apply_scale(registry: Registry, request: Request) -> Answer:
    """An apply of a Scale is an apply of its replicas to the object itself, by a manager of the subresource."""
    config = bodies.config_of(request, SCALE)
    spec = config.get("spec") or {}
    if not isinstance(spec, dict) or spec.keys() - {"replicas"}:
        raise BadRequest("failed to create typed patch object: .spec: field not declared in schema")
    metadata = config.get("metadata") or {}
    inner_config = {
        "apiVersion": request.resource.api_version,
        "kind": request.resource.kind,
        "metadata": metadata,
        "spec": spec,
    }

    async def change(old: Frozen) -> Object:
        new = bodies.check_applied(request, managing.applied(request, inner_config, old, rfc3339(registry.clock.now())), old)
        await registry.admission.admit(request, Operation.UPDATE, scale_of(new), scale_of(old))
        return new

    return await _rescale(registry, request, change)


async def _rescale(registry: Registry, request: Request, change: Change) -> Answer:
    answer = await registry.rewrite(replace(request, verb="update", subresource="", admitted=True), change, tracked=True)
    return scale_of(answer.obj if isinstance(answer, Entry) else answer)


def scale_of(obj: Mapping[str, Any]) -> Object:
    """The Scale of an object with spec.replicas, spec.selector and status.replicas."""
    metadata = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    spec, status = obj.get("spec", {}), obj.get("status", {})
    selector = spec.get("selector")
    if selector is not None and not ("matchLabels" in selector or "matchExpressions" in selector):
        selector = {"matchLabels": selector}  # a ReplicationController's
    text = str(selectors.of_object(selector)) if selector else ""
    replicas = spec.get("replicas", 0)
    return {
        "kind": SCALE.kind,
        "apiVersion": SCALE.api_version,
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": status.get("replicas", 0)} | ({"selector": text} if text else {}),
    }


async def bind(registry: Registry, request: Request) -> Answer:
    """POST of a Binding: the pod gets its node, once. Source: pods/binding, KEP-624."""
    binding = bodies.object_of(request, BINDING)
    bodies.check_namespace(request, binding)
    name = request.name or binding["metadata"].get("name", "")
    if request.name and binding["metadata"].get("name", request.name) != request.name:
        raise BadRequest("name in URL does not match name in Binding object")
    await registry.admission.admit(request, Operation.CREATE, binding)
    target = binding.get("target", {})
    node = target.get("name", "")
    if target.get("kind", "Node") not in ("", "Node"):
        raise BadRequest(f'target.kind: Unsupported value: "{target["kind"]}": supported values: "Node"')
    if not node:
        raise BadRequest("target.name: Required value")
    inner = replace(request, verb="update", resource=PODS, name=name, subresource="binding")
    now = rfc3339(registry.clock.now())

    async def change(old: Frozen) -> Object:
        uid = binding["metadata"].get("uid")
        if uid and uid != old["metadata"]["uid"]:
            raise Conflict(
                f'Operation cannot be fulfilled on pods/binding "{name}": Precondition failed: UID in precondition: {uid}, '
                f"UID in object meta: {old['metadata']['uid']}",
                {"name": name, "kind": "pods/binding"},
            )
        refusal = ""
        if "deletionTimestamp" in old["metadata"]:
            refusal = f"pod {name} is being deleted, cannot be assigned to a host"
        elif old["spec"].get("nodeName"):
            refusal = f'pod {name} is already assigned to node "{old["spec"]["nodeName"]}"'
        elif old["spec"].get("schedulingGates"):
            refusal = f"pod {name} has non-empty .spec.schedulingGates"
        if refusal:
            raise Conflict(
                f'Operation cannot be fulfilled on pods/binding "{name}": {refusal}', {"name": name, "kind": "pods/binding"}
            )
        metadata = {key: value for key, value in old["metadata"].items() if key != "resourceVersion"}
        annotations = metadata.get("annotations", {}) | binding["metadata"].get("annotations", {})
        if annotations:
            metadata["annotations"] = annotations
        labels = metadata.get("labels", {}) | _topology_labels(registry, node)
        if labels:
            metadata["labels"] = labels
        scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
        status = old.get("status", {})
        others = [condition for condition in status.get("conditions", []) if condition["type"] != "PodScheduled"]
        return {
            **old,
            "metadata": metadata,
            "spec": {**old["spec"], "nodeName": node},
            "status": {**status, "conditions": [*others, scheduled]},
        }

    await registry.rewrite(inner, change, raw=True)
    return {**SUCCESS, "code": 201}


async def finalize(registry: Registry, request: Request) -> Answer:
    """PUT of a namespace's spec.finalizers; the last one gone, so is the namespace."""
    wanted = bodies.object_of(request, bodies.TypeOf.of(request.resource))
    bodies.check_name(request, wanted)

    async def change(old: Frozen) -> Object:
        new = bodies.private(old)
        finalizers = wanted.get("spec", {}).get("finalizers", [])
        bad = [
            invalid("spec.finalizers", name, "name is neither a standard finalizer name nor is it fully qualified")
            for name in finalizers
            if name != "kubernetes" and "/" not in name
        ]
        raise_invalid(request.resource, new, bad)
        new["spec"] = {"finalizers": finalizers} if finalizers else {}
        new["metadata"].pop("resourceVersion")
        if version := wanted["metadata"].get("resourceVersion"):
            new["metadata"]["resourceVersion"] = version
        await registry.admission.admit(request, Operation.UPDATE, new, old)
        return new

    return await registry.rewrite(request, change, raw=True)


def _topology_labels(registry: Registry, node: str) -> dict[str, str]:
    """The node's zone and region, which a pod is given when it is bound (KEP-4742)."""
    entry = registry.cache.of(NODES).get("", node)
    return topology_labels(entry.obj) if entry else {}
