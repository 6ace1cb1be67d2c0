"""Namespaces: what each one has from the start (a default ServiceAccount, the cluster's root CA), and how its content goes with it.

A namespace that is being deleted stays until everything in it is gone, also in aggregated API servers; its conditions say what it still
waits for. Pods go first by their own grace. Source: kubernetes.io "Namespaces", KEP-5080 (ordered deletion),
BoundServiceAccountTokenVolume (root CA).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minik8s.api.errors import AlreadyExists, ApiError, NotFound
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import APISERVICES, CONFIGMAPS, EVENTS, NAMESPACES, PODS, RESOURCES, SERVICEACCOUNTS, Resource
from minik8s.base.backoff import Backoff
from minik8s.base.clock import rfc3339
from minik8s.client.workqueue import Key, Reconciler, Retry
from minik8s.controllers.garbage import owned
from minik8s.controllers.manager import Context, enqueue

Object = Mapping[str, Any]
FINALIZER = "kubernetes"
BACKOFF = Backoff(initial=0.005, maximum=60)
REMOTE_AGAIN = 5.0
"""Seconds after which what is left in other API servers is looked at again: nobody tells of its end."""
ROOT_CA = "kube-root-ca.crt"
ROOT_CA_ANNOTATION = {
    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints "
    "such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
}


def namespaced_kinds() -> list[Resource]:
    """What may be in a namespace, pods first."""
    kinds = [r for r in RESOURCES if r.namespaced and "deletecollection" in r.verbs and not r.stored_as]
    return sorted(kinds, key=lambda resource: resource is not PODS)


def start_service_accounts(context: Context) -> list[Reconciler[Key]]:
    """Keeps a ServiceAccount `default` in every namespace."""
    account: Mutable = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    return [_keeper(context, "default-service-account", SERVICEACCOUNTS, account)]


def start_root_ca(context: Context) -> list[Reconciler[Key]]:
    """Keeps the cluster's authority in a ConfigMap of every namespace, for pods' tokens to go with."""
    if not context.settings.root_ca:
        return []
    metadata = {"name": ROOT_CA, "annotations": ROOT_CA_ANNOTATION}
    content: Mutable = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {"ca.crt": context.settings.root_ca},
    }
    return [_keeper(context, "root-ca", CONFIGMAPS, content)]


def _keeper(context: Context, name: str, resource: Resource, content: Mutable) -> Reconciler[Key]:
    """Keeps an object with that content (as far as it has data) in every namespace."""
    kept_name = content["metadata"]["name"]
    namespaces, kept = context.informer(NAMESPACES), context.informers.of(resource, fields=f"metadata.name={kept_name}")

    async def reconcile(key: Key) -> float | None:
        namespace = namespaces.get("", key[1])
        if namespace is None or "deletionTimestamp" in namespace["metadata"]:
            return None
        current = kept.get(key[1], kept_name)
        try:
            if current is None:
                await context.client.create(resource, content | {"metadata": content["metadata"] | {"namespace": key[1]}})
            elif current.get("data") != content.get("data"):
                await context.client.update(resource, {**current, "data": content["data"]})
        except (AlreadyExists, NotFound):  # the informers are a moment behind, or the namespace is gone
            return None
        return None

    def changed(old: Object | None, new: Object | None) -> None:
        """Deleted or changed, it comes back."""
        obj = new or old
        if obj is not None and old is not None:
            reconciler.add(("", obj["metadata"]["namespace"]))

    reconciler: Reconciler[Key] = Reconciler(name, reconcile, context.clock, workers=4)
    namespaces.on_change(enqueue(reconciler))
    kept.on_change(changed)
    return reconciler


def start_deletion(context: Context) -> list[Reconciler[Key]]:
    """Empties namespaces that are being deleted. What goes later than it was told to brings its namespace back here."""
    namespaces = context.informer(NAMESPACES)

    async def reconcile(key: Key) -> float | None:
        namespace = namespaces.get("", key[1])
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            return None
        finalizers = namespace.get("spec", {}).get("finalizers") or []
        if FINALIZER not in finalizers:
            return None
        content = await _empty(context, key[1])
        try:
            namespace = await _report(context, namespace, content)
            if content.is_gone:
                rest = [finalizer for finalizer in finalizers if finalizer != FINALIZER]
                finished = {**namespace, "spec": {"finalizers": rest} if rest else {}}
                await context.client.update(NAMESPACES, finished, subresource="finalize")
        except NotFound:
            return None
        if why := content.failures + content.undiscovered:
            raise Retry("; ".join(why))
        return REMOTE_AGAIN if content.remote else None

    reconciler: Reconciler[Key] = Reconciler("namespace", reconcile, context.clock, workers=4, backoff=BACKOFF)

    def changed(old: Object | None, new: Object | None) -> None:
        if new is not None and "deletionTimestamp" in new["metadata"]:
            reconciler.add(("", new["metadata"]["name"]))

    def content_changed(old: Object | None, new: Object | None) -> None:
        """Something is gone, or came at the last moment."""
        obj = new or old
        if obj is None or (old is not None and new is not None):
            return
        namespace = namespaces.get("", obj["metadata"]["namespace"])
        if namespace is not None and "deletionTimestamp" in namespace["metadata"]:
            reconciler.add(("", obj["metadata"]["namespace"]))

    def look_at_all() -> None:
        for namespace in namespaces.list():
            changed(None, namespace)

    namespaces.on_change(changed)
    context.informer(APISERVICES).on_change(lambda old, new: look_at_all())  # it has come, gone, or answers again

    def follow(resource: Resource) -> None:
        if resource.namespaced:
            informer = context.informers.of(resource, keep=owned)
            informer.on_change(content_changed)
            informer.on_relist(look_at_all)

    for resource in namespaced_kinds():
        if resource is not EVENTS:  # they go at once, and are too many to be kept
            follow(resource)
    context.custom.follow(follow, lambda _: None)
    return [reconciler]


@dataclass(slots=True)
class Content:
    """What an attempt to empty a namespace found."""

    left: dict[str, list[Object]] = field(default_factory=dict)  # by plural.group
    failures: list[str] = field(default_factory=list)
    undiscovered: list[str] = field(default_factory=list)  # group versions whose kinds are not known
    remote: bool = False  # whether something is left in other API servers

    @property
    def is_gone(self) -> bool:
        return not (self.left or self.failures or self.undiscovered)


async def _empty(context: Context, namespace: str) -> Content:
    """Deletes what is in the namespace."""
    content, remote = Content(), context.settings.remote
    for resource in [*namespaced_kinds(), *(row for row in context.custom.rows() if row.namespaced)]:
        if _named(PODS) in content.left:
            break  # pods end before what they may need is taken from them
        try:
            found = await context.client.list(resource, namespace)
            if not found["items"]:
                continue
            await context.client.delete_collection(resource, namespace, propagation="Background")
            rest = (await context.client.list(resource, namespace))["items"]
        except ApiError as error:
            content.failures.append(f"{resource.group_resource}: {error.message}")
            continue
        if rest:
            content.left[_named(resource)] = list(rest)
    if remote is not None:
        content.undiscovered = remote.failing()
        if _named(PODS) not in content.left:
            left, failures = await remote.empty(namespace)
            content.left |= left
            content.failures += failures
            content.remote = bool(left)
    return content


def _named(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}"


async def _report(context: Context, namespace: Object, content: Content) -> Object:
    """Writes the conditions; the namespace as it is then."""
    status = {**namespace.get("status", {}), "conditions": conditions(namespace, content, context.clock.now())}
    if status == namespace.get("status"):
        return namespace
    return await context.client.update(NAMESPACES, {**namespace, "status": status}, subresource="status")


def conditions(namespace: Object, content: Content, now: float) -> list[Mutable]:
    """The five conditions of a namespace's deletion."""
    finalizers: dict[str, int] = {}
    for objects in content.left.values():
        for obj in objects:
            for name in obj["metadata"].get("finalizers") or ():
                finalizers[name] = finalizers.get(name, 0) + 1
    remaining = ", ".join(
        f"{kind} has {len(objects)} resource instances" for kind, objects in sorted(content.left.items()) if objects
    )
    waiting = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(finalizers.items()))
    failures, unknown = sorted(content.failures), content.undiscovered
    undiscovered = ", ".join(f"{each}: stale GroupVersion discovery: {each}" for each in unknown)
    wanted = (
        (
            "NamespaceDeletionDiscoveryFailure",
            bool(unknown),
            "DiscoveryFailed" if unknown else "ResourcesDiscovered",
            f"Discovery failed for some groups, {len(unknown)} failing: unable to retrieve the complete list of server APIs: "
            f"{undiscovered}"
            if unknown
            else "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            False,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            bool(failures),
            "ContentDeletionFailed" if failures else "ContentDeleted",
            f"Failed to delete all resource types, {len(failures)} remaining: {', '.join(failures)}"
            if failures
            else "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            bool(remaining),
            "SomeResourcesRemain" if remaining else "ContentRemoved",
            f"Some resources are remaining: {remaining}" if remaining else "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            bool(waiting),
            "SomeFinalizersRemain" if waiting else "ContentHasNoFinalizers",
            f"Some content in the namespace has finalizers remaining: {waiting}"
            if waiting
            else "All content-preserving finalizers finished",
        ),
    )
    old = {c["type"]: c for c in namespace.get("status", {}).get("conditions") or ()}
    return [
        _condition(old.get(kind), kind, "True" if is_so else "False", reason, text, now) for kind, is_so, reason, text in wanted
    ]


def _condition(old: Object | None, kind: str, status: str, reason: str, message: str, now: float) -> Mutable:
    since = old["lastTransitionTime"] if old is not None and old["status"] == status else rfc3339(now)
    return {"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message}
