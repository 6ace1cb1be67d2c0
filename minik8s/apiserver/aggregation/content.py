"""What aggregated API servers keep in namespaces, for the controller that empties a namespace: listed and deleted as that controller.

Neighbours: `aggregation.py` knows the servers and what they serve; `controllers/namespace.py` asks.
"""

from __future__ import annotations

from typing import Any

import orjson
from multidict import CIMultiDict

from minik8s.api.user import User
from minik8s.apiserver.aggregation.proxy import user_headers
from minik8s.apiserver.aggregation.routes import Route, path_of
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.outbound import Caller, CallFailed

PATIENCE = 30.0
"""Seconds that a server may take for one kind."""


class RemoteContent:
    """That of all servers that the catalogue knows at each ask, as `user`."""

    def __init__(self, catalogue: Catalogue, caller: Caller, user: User) -> None:
        self._catalogue, self._caller = catalogue, caller
        self._headers = CIMultiDict([("Accept", "application/json"), *user_headers(user)])

    def failing(self) -> list[str]:
        """The group versions of which nobody can say what they serve."""
        return sorted(f"{group}/{version}" for (group, version), route in self._catalogue.remote.items() if not route.available)

    async def empty(self, namespace: str) -> tuple[dict[str, list[Any]], list[str]]:
        """Deletes all that is in the namespace: (what is left by `plural.group`, what could not be done)."""
        left: dict[str, list[Any]] = {}
        failures: list[str] = []
        for route in [route for route in self._catalogue.remote.values() if route.available]:
            for kind in route.found.resources:
                plural, verbs = str(kind.get("name", "")), kind.get("verbs") or ()
                if not kind.get("namespaced") or "/" in plural or not {"list", "delete"} <= set(verbs):
                    continue
                path = f"{path_of(route.group, route.version)}/namespaces/{namespace}/{plural}"
                try:
                    if rest := await self._emptied(route, path, together="deletecollection" in verbs):
                        left[f"{plural}.{route.group}"] = rest
                except (CallFailed, orjson.JSONDecodeError, LookupError, TypeError) as error:
                    failures.append(f"{plural}.{route.group}: {error}")
        return left, failures

    async def _emptied(self, route: Route, path: str, *, together: bool) -> list[Any]:
        """What is still there after its deletion."""
        found = await self._list(route, path)
        if not found:
            return []
        for each in [path] if together else [f"{path}/{obj['metadata']['name']}" for obj in found]:
            try:
                await self._caller.delete(route.endpoint, each, self._headers, timeout=PATIENCE)
            except CallFailed as error:
                if error.code != 404:
                    raise
        return await self._list(route, path)

    async def _list(self, route: Route, path: str) -> list[Any]:
        try:
            answer = await self._caller.get(route.endpoint, path, self._headers, timeout=PATIENCE)
        except CallFailed as error:
            if error.code in (404, 405):  # it has gone, or can't be listed: nothing that anybody waits for
                return []
            raise
        return list(orjson.loads(answer)["items"] or ())
