"""A shelf of objects for tests of what only reads: the Reader contract over a dict."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from minik8s.api import resources
from minik8s.api.resources import Resource


class Shelf:
    """Holds objects by kind, namespace and name; tells who asked of each change."""

    def __init__(self) -> None:
        self._objects: dict[Resource, dict[tuple[str, str], Mapping[str, Any]]] = {}
        self._callbacks: dict[Resource, list[Callable[[], None]]] = {}

    def put(self, *objects: dict[str, Any]) -> None:
        for obj in objects:
            resource = resources.of(obj)
            assert resource, obj
            metadata = obj["metadata"]
            self._objects.setdefault(resource, {})[metadata.get("namespace", ""), metadata["name"]] = obj
            self._tell(resource)

    def drop(self, resource: Resource, namespace: str, name: str) -> None:
        del self._objects[resource][namespace, name]
        self._tell(resource)

    def get(self, resource: Resource, namespace: str, name: str) -> Mapping[str, Any] | None:
        return self._objects.get(resource, {}).get((namespace, name))

    def list(self, resource: Resource, namespace: str = "") -> Iterable[Mapping[str, Any]]:
        found = sorted(self._objects.get(resource, {}).items())
        return [obj for (home, _), obj in found if not namespace or home == namespace]

    def count(self, resource: Resource, namespace: str = "") -> int:
        return len([*self.list(resource, namespace)])

    def on_change(self, resource: Resource, callback: Callable[[], None]) -> None:
        self._callbacks.setdefault(resource, []).append(callback)

    def _tell(self, resource: Resource) -> None:
        for callback in self._callbacks.get(resource, ()):
            callback()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()
