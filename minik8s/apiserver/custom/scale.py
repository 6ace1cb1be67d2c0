"""GET, PUT and PATCH of the scale subresource of a custom resource, whose replicas and selector are kept where its definition says.

Source: apiextensions.k8s.io CustomResourceSubresourceScale, autoscaling/v1 Scale. Neighbour: `subresources.py` for built-in kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from minik8s.api.custom import Scale
from minik8s.api.errors import BadRequest, InternalError, NotFound
from minik8s.api.kind import Frozen, Object
from minik8s.apiserver import bodies
from minik8s.apiserver.cache import Entry
from minik8s.apiserver.contract import Operation
from minik8s.apiserver.registry import Answer, Change, Registry
from minik8s.apiserver.request import Request
from minik8s.apiserver.subresources import SCALE

_KEPT = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


async def scale(registry: Registry, request: Request) -> Answer:
    """The Scale of a custom object, read or changed."""
    custom = request.resource.custom
    paths = custom.scale if custom is not None else None
    if paths is None:
        raise NotFound("the server could not find the requested resource", {})
    if request.verb == "get":
        obj = (await registry.read(request)).obj
        if _at(obj, paths.spec_replicas) is None:
            missing = _missing(paths, "does not exist")
            raise InternalError(f"Internal error occurred: {missing}", {"causes": [{"message": missing}]})
        return scale_of(obj, paths)
    if bodies.is_apply(request):
        return await _apply(registry, request, paths)
    document = bodies.patch_of(request) if request.verb == "patch" else None
    wanted: Object = {}
    if document is None:
        wanted = bodies.object_of(request, SCALE)
        bodies.check_name(request, wanted)
        bodies.check_namespace(request, wanted)

    async def change(old: Frozen) -> Object:
        before = scale_of(old, paths)
        new_scale = wanted if document is None else bodies.patched(request, document, before, SCALE)
        await registry.admission.admit(request, Operation.UPDATE, new_scale, before)
        replicas = (new_scale.get("spec") or {}).get("replicas")
        if replicas is None:
            if document is not None and _at(old, paths.spec_replicas) is None:
                raise BadRequest(_missing(paths, "cannot be empty"))
            replicas = 0
        new = bodies.private(old)
        _set(new, paths.spec_replicas, replicas)
        await registry.track(request, new, old)
        new["metadata"].pop("resourceVersion")
        if version := new_scale["metadata"].get("resourceVersion"):
            new["metadata"]["resourceVersion"] = version
        return new

    return await _rescale(registry, request, paths, change)


async def _apply(registry: Registry, request: Request, paths: Scale) -> Answer:
    """An apply of a Scale is an apply of its replicas to the object itself, by a manager of the subresource."""
    config = bodies.config_of(request, SCALE)
    spec = config.get("spec") or {}
    if not isinstance(spec, dict) or spec.keys() - {"replicas"}:
        raise BadRequest("failed to create typed patch object: .spec: field not declared in schema")
    resource = request.resource
    inner: Object = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": config.get("metadata") or {},
    }
    if "replicas" in spec:
        _set(inner, paths.spec_replicas, spec["replicas"])

    async def change(old: Frozen) -> Object:
        new = bodies.check_applied(request, await registry.applied(request, inner, old), old)
        await registry.admission.admit(request, Operation.UPDATE, scale_of(new, paths), scale_of(old, paths))
        return new

    return await _rescale(registry, request, paths, change)


async def _rescale(registry: Registry, request: Request, paths: Scale, change: Change) -> Answer:
    inner = replace(request, verb="patch", subresource="", admitted=True)
    answer = await registry.rewrite(inner, change, tracked=True)
    return scale_of(answer.obj if isinstance(answer, Entry) else answer, paths)


def scale_of(obj: Frozen, paths: Scale) -> Object:
    """The Scale of a custom object."""
    replicas, selector = _at(obj, paths.spec_replicas), _at(obj, paths.label_selector)
    return {
        "kind": SCALE.kind,
        "apiVersion": SCALE.api_version,
        "metadata": {name: obj["metadata"][name] for name in _KEPT if name in obj["metadata"]},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": _at(obj, paths.status_replicas) or 0} | ({"selector": selector} if selector else {}),
    }


def _missing(paths: Scale, what: str) -> str:
    return f'the spec replicas field "{paths.spec_replicas}" {what}'


def _steps(path: str) -> list[str]:
    return path.removeprefix(".").split(".")


def _at(obj: Frozen, path: str) -> Any:
    """What a path of fields leads to; None where there is nothing."""
    value: Any = obj
    for step in _steps(path) if path else ("",):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _set(obj: Object, path: str, value: Any) -> None:
    *parents, last = _steps(path)
    for step in parents:
        obj = obj.setdefault(step, {})
    obj[last] = value
