"""Which custom resources there are, for the controllers that act on objects of every kind (garbage, namespaces, quotas).

One row stands for each custom resource: that of its storage version where it is served, else of the first version that is. A row stays the
same object as long as nothing in it changes, so that its informer stays too. Source: apiextensions.k8s.io CustomResourceDefinition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minik8s.api.conditions import is_true
from minik8s.api.resources import CUSTOMRESOURCEDEFINITIONS, Resource
from minik8s.client.informer import Informers

Object = Mapping[str, Any]
Followed = Callable[[Resource], None]


class CustomKinds:
    """The custom resources that are served, kept current."""

    def __init__(self, informers: Informers) -> None:
        self._informers = informers
        self._rows: dict[str, Resource] = {}  # by the definition's name
        self._versions: dict[str, frozenset[str]] = {}
        self._followers: list[tuple[Followed, Followed]] = []
        informers.of(CUSTOMRESOURCEDEFINITIONS).on_change(self._changed)

    def rows(self) -> list[Resource]:
        """All of them."""
        return list(self._rows.values())

    def of_kind(self, group: str, version: str, kind: str) -> Resource | None:
        """The row of a kind, where that version of it is served."""
        for name, row in self._rows.items():
            if (row.group, row.kind) == (group, kind) and version in self._versions[name]:
                return row
        return None

    def follow(self, come: Followed, gone: Followed) -> None:
        """Calls `come` for each row that there is and that comes, `gone` when one goes."""
        self._followers.append((come, gone))
        for row in self.rows():
            come(row)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        definition = new or old
        if definition is None:
            return
        name = definition["metadata"]["name"]
        before, row = self._rows.get(name), row_of(new) if new is not None else None
        if new is not None:
            self._versions[name] = frozenset(v["name"] for v in new["spec"]["versions"] if v.get("served"))
        if (before is None) == (row is None) and (before is None or row is None or _same(before, row)):
            return
        if before is not None:
            del self._rows[name]
            for _, gone in self._followers:
                gone(before)
            self._informers.forget(before)
        if row is not None:
            self._rows[name] = row
            for come, _ in self._followers:
                come(row)


def row_of(definition: Object) -> Resource | None:
    """The row that stands for what a definition defines; None while nothing of it is served."""
    spec, status = definition["spec"], definition.get("status") or {}
    served = [version for version in spec["versions"] if version.get("served")]
    names = status.get("acceptedNames") or {}
    if not is_true(definition, "Established") or not served or not names.get("plural"):
        return None
    version = next((version for version in served if version.get("storage")), served[0])
    return Resource(spec["group"], version["name"], names["plural"], names["kind"], namespaced=spec["scope"] == "Namespaced")


def _same(one: Resource, other: Resource) -> bool:
    return repr(one) == repr(other)
