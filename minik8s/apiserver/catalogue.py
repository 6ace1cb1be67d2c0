"""What is served at this moment: the built-in resources, those that CustomResourceDefinitions add, and the group versions that
APIServices give to other servers.

Whoever needs to know what is served asks here at each request, and keeps nothing but what `generation` tells to be current. Without
custom resources the tables are those of `api/resources.py` themselves. Neighbours: `custom/` puts custom rows in, the aggregation its
routes; discovery, OpenAPI and the paths read them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from minik8s.api.resources import RESOURCES, Resource

PathKey = tuple[str, str, str]
GroupVersion = tuple[str, str]


class Catalogue:
    """The tables of one API server. `replace_custom` and `replace_remote` alone change them, each as a whole."""

    def __init__(self, builtin: tuple[Resource, ...] = RESOURCES) -> None:
        self._builtin = builtin
        self._own = frozenset(builtin)
        self.generation = 0
        """Rises with every change."""
        self.custom: tuple[Resource, ...] = ()
        self.remote: Mapping[GroupVersion, Any] = {}
        """(group, version) that another server answers for -> the way to it (the aggregation's own). It wins over a row."""
        self.resources: tuple[Resource, ...] = builtin
        """All rows of this server, the built-in ones first."""
        self.by_path: Mapping[PathKey, Resource] = _by_path(builtin)
        """(group, version, plural) -> row."""
        self.by_kind: Mapping[PathKey, Resource] = _by_kind(builtin)
        """(group, version, kind) -> row."""
        self._listeners: list[Callable[[], None]] = []

    def add(self, rows: tuple[Resource, ...]) -> None:
        """Serves rows that are built in, but not everywhere. Before anything else is served."""
        self._builtin += rows
        self._own |= frozenset(rows)
        self._serve()

    def replace_custom(self, rows: Iterable[Resource]) -> None:
        """The rows of custom resources are these from now on. Built-in rows stay what they are."""
        own = _by_path(self._builtin)
        kept = tuple(row for row in rows if (row.group, row.version, row.plural) not in own)
        if kept != self.custom:
            self.custom = kept
            self._serve()

    def replace_remote(self, routes: Mapping[GroupVersion, Any]) -> None:
        """The group versions of other servers are these from now on."""
        if routes != self.remote:
            self.remote = dict(routes)
            self._changed()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Calls back after every change."""
        self._listeners.append(callback)

    def current(self, row: Resource) -> Resource | None:
        """The row that is served in the place of one that somebody holds: itself, unless it is a custom resource's of another time."""
        return row if row in self._own else self.by_path.get((row.group, row.version, row.plural))

    def of(self, obj: object) -> Resource | None:
        """The row of an object with `apiVersion` and `kind`, None where it is not served here."""
        if not isinstance(obj, Mapping):
            return None
        group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
        return self.by_kind.get((group, version, str(obj.get("kind", ""))))

    def family(self, row: Resource) -> list[Resource]:
        """The rows of all served versions of what a row serves: those that share its storage."""
        home = _home(row)
        return [each for each in self.resources if each.plural == row.plural and _home(each) == home]

    def _serve(self) -> None:
        self.resources = self._builtin + self.custom
        self.by_path, self.by_kind = _by_path(self.resources), _by_kind(self.resources)
        self._changed()

    def _changed(self) -> None:
        self.generation += 1
        for callback in self._listeners:
            callback()


def _by_path(rows: Iterable[Resource]) -> dict[PathKey, Resource]:
    return {(row.group, row.version, row.plural): row for row in rows}


def _by_kind(rows: Iterable[Resource]) -> dict[PathKey, Resource]:
    return {(row.group, row.version, row.kind): row for row in rows}


def _home(row: Resource) -> str:
    """The group and version in which a row's objects are stored."""
    return row.stored_as or f"{row.group}/{row.version}"
