"""EndpointSlice mirroring: Endpoints that somebody wrote for a Service without selector, as EndpointSlices too.

Source: kubernetes.io "EndpointSlices" ("EndpointSlice mirroring").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minik8s.api.errors import NotFound
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers import backends, endpointslices
from minik8s.controllers.manager import Context, enqueue, key_of

Object = Mapping[str, Any]
MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
MAX_ENDPOINTS = 1000
"""Of one subset that are mirrored."""
_NOT_COPIED = ("kubectl.kubernetes.io/last-applied-configuration", backends.TRIGGER_TIME)


def is_mirrored(endpoints: Object | None, service: Object | None) -> bool:
    """Whether Endpoints are somebody's own, for a Service without a selector."""
    if endpoints is None or service is None or service["spec"].get("selector"):
        return False
    metadata = endpoints["metadata"]
    return (metadata.get("labels") or {}).get(SKIP) != "true" and LEADER not in (metadata.get("annotations") or {})


def slices(endpoints: Object, existing: Sequence[Object]) -> list[Mutable]:
    """The slices that mirror Endpoints: one for each subset and address family, over existing ones with the same ports."""
    wanted = []
    unused = sorted(existing, key=lambda found: found["metadata"]["name"])
    own = endpoints["metadata"]
    annotations = {key: value for key, value in (own.get("annotations") or {}).items() if key not in _NOT_COPIED}
    labels = {key: value for key, value in (own.get("labels") or {}).items() if key != backends.HEADLESS}
    for subset in endpoints.get("subsets") or ():
        ports: list[Mutable] = [{"name": "", **port} for port in subset.get("ports") or ()]
        for family, entries in _by_family(subset).items():
            base = next((e for e in unused if e["addressType"] == family and (e.get("ports") or []) == ports), None)
            if base is not None:
                unused.remove(base)
            found = endpointslices.shaped(endpoints, ENDPOINTS, MANAGER, labels, base, family, ports, entries)
            if annotations:
                found["metadata"]["annotations"] = annotations
            else:
                found["metadata"].pop("annotations", None)
            wanted.append(found)
    return wanted


def _by_family(subset: Object) -> dict[str, list[Mutable]]:
    found: dict[str, list[Mutable]] = {}
    for address, ready in list(_addresses(subset))[:MAX_ENDPOINTS]:
        entry: Mutable = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
        entry |= {name: address[name] for name in ("hostname", "nodeName", "targetRef") if name in address}
        found.setdefault("IPv6" if ":" in address["ip"] else "IPv4", []).append(entry)
    return found


def _addresses(subset: Object) -> Iterable[tuple[Object, bool]]:
    yield from ((address, True) for address in subset.get("addresses") or ())
    yield from ((address, False) for address in subset.get("notReadyAddresses") or ())


def start(context: Context) -> list[Reconciler[Key]]:
    services, endpoints, kept = context.informer(SERVICES), context.informer(ENDPOINTS), context.informer(ENDPOINTSLICES)
    kept.add_index("mirrored", lambda found: endpointslices.service_of(found, MANAGER))

    async def reconcile(key: Key) -> float | None:
        found, existing = endpoints.get(*key), list(kept.indexed("mirrored", "/".join(key)))
        wanted = slices(found, existing) if found is not None and is_mirrored(found, services.get(*key)) else []
        for surplus in await endpointslices.write(context, kept, existing, wanted):
            try:
                await context.client.delete(ENDPOINTSLICES, surplus["metadata"]["name"], key[0], uid=surplus["metadata"]["uid"])
            except NotFound:
                continue
        return None

    reconciler: Reconciler[Key] = Reconciler("endpointslice-mirroring", reconcile, context.clock, workers=4)

    def slice_changed(old: Object | None, new: Object | None) -> None:
        for found in filter(None, (old, new)):
            for key in endpointslices.service_of(found, MANAGER):
                namespace, _, name = key.partition("/")
                reconciler.add((namespace, name))

    def service_changed(old: Object | None, new: Object | None) -> None:
        for service in filter(None, (old, new)):
            if endpoints.get(*key_of(service)) is not None:
                reconciler.add(key_of(service))

    endpoints.on_change(enqueue(reconciler))
    services.on_change(service_changed)
    kept.on_change(slice_changed)
    return [reconciler]
