"""How everyone but the API server talks to it: the verbs, on a transport. `informer.py` keeps a local copy, `workqueue.py` what to
do about it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from minik8s.api.call import PATCH_TYPES, Call
from minik8s.api.resources import Resource
from minik8s.client.transport import Transport, WatchEvent


class Client:
    """A client of one API server under one identity. Answers are shared: callers copy before they change one."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(
        self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "", **query: str
    ) -> Mapping[str, Any]:
        return await self._object(Call("get", resource, namespace, name, subresource, query))

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        limit: int = 0,
        continue_: str = "",
        held: bool = False,
    ) -> Mapping[str, Any]:
        """The List object (`items`, `metadata.resourceVersion`, `metadata.continue`). `held`: see Call."""
        query = _query(
            labelSelector=labels,
            fieldSelector=fields,
            resourceVersion=resource_version,
            limit=limit or "",
            **{"continue": continue_},
        )
        return await self._object(Call("list", resource, namespace, query=query, held=held))

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        timeout: float = 0,
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[WatchEvent]]]:
        """Batches of events after `resource_version`, bookmarks included."""
        query = _query(
            watch="true",
            allowWatchBookmarks="true",
            labelSelector=labels,
            fieldSelector=fields,
            resourceVersion=resource_version,
            timeoutSeconds=int(timeout) or "",
        )
        return self._transport.watch(Call("watch", resource, namespace, query=query))

    async def create(
        self, resource: Resource, obj: Mapping[str, Any], namespace: str = "", *, name: str = "", subresource: str = ""
    ) -> Mapping[str, Any]:
        """Creates `obj`, by default in its own namespace. `name` and `subresource` for binding, eviction, token."""
        namespace = namespace or _namespace(obj)
        return await self._object(Call("create", resource, namespace, name, subresource, body=obj))

    async def update(self, resource: Resource, obj: Mapping[str, Any], *, subresource: str = "") -> Mapping[str, Any]:
        """Replaces the object of that name; with its resourceVersion in it only if nobody wrote meanwhile (else Conflict)."""
        return await self._object(Call("update", resource, _namespace(obj), obj["metadata"]["name"], subresource, body=obj))

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        patch: Any,
        *,
        kind: str = "merge",
        subresource: str = "",
        **query: str,
    ) -> Mapping[str, Any]:
        """`kind` is one of PATCH_TYPES; `query` for `fieldManager` and `force` of an apply."""
        call = Call("patch", resource, namespace, name, subresource, query, patch, PATCH_TYPES[kind])
        return await self._object(call)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        grace_period: int | None = None,
        propagation: str = "",
    ) -> Mapping[str, Any]:
        preconditions = _query(uid=uid, resourceVersion=resource_version)
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if preconditions:
            options["preconditions"] = preconditions
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        if propagation:
            options["propagationPolicy"] = propagation
        return await self._object(Call("delete", resource, namespace, name, body=options))

    async def delete_collection(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", propagation: str = ""
    ) -> Mapping[str, Any]:
        query = _query(labelSelector=labels, fieldSelector=fields, propagationPolicy=propagation)
        return await self._object(Call("deletecollection", resource, namespace, query=query))

    async def close(self) -> None:
        await self._transport.close()

    async def _object(self, call: Call) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = await self._transport.request(call)
        return answer


def _namespace(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"].get("namespace", ""))


def _query(**values: Any) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value != ""}
