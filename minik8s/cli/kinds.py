"""Kinds as people name them (`po`, `deploy`, `deployments.apps`, `Pod`), looked up in the server's own discovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.cli import CommandError, UsageError
from minik8s.cli.connection import Server

DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class Kind:
    """One version of a resource, as the server says it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    verbs: Sequence[str]
    names: frozenset[str]  # plural, singular, short names, and the kind, in small letters
    categories: Sequence[str]

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        """`pods`, `deployments.apps`: how messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def singular(self) -> str:
        """`pod`, `deployment.apps`: what stands before a name."""
        return self.kind.lower() + (f".{self.group}" if self.group else "")

    def path(self, namespace: str = "", name: str = "") -> str:
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        return f"{base}{inside}/{self.plural}" + (f"/{name}" if name else "")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command line names: a kind, and names of it; no names are all."""

    kind: Kind
    names: Sequence[str] = ()


def kinds(server: Server) -> list[Kind]:
    """All that the server serves: core first, each group's preferred version first."""
    found = []
    for path in ("/api", "/apis"):
        for group in server.request("GET", path, accept=f"{DISCOVERY},application/json")["items"]:
            for version in group["versions"]:
                name = group.get("metadata", {}).get("name", "")
                found += [_kind(name, version["version"], resource) for resource in version["resources"]]
    return found


def find(known: Sequence[Kind], text: str) -> Kind:
    """The kind of a name: `pods`, `po`, `pod`, `deployments.apps`, `deployments.v1.apps`."""
    name, _, group = text.lower().partition(".")
    for kind in known:
        groups = ("", kind.group, f"{kind.version}.{kind.group}".rstrip("."))
        if name in kind.names and group in groups:
            return kind
    raise CommandError(f'the server doesn\'t have a resource type "{text}"')


def find_exact(known: Sequence[Kind], api_version: str, name: str) -> Kind:
    """The kind of an object's apiVersion and kind."""
    for kind in known:
        if (kind.api_version, kind.kind) == (api_version, name):
            return kind
    raise CommandError(f'no matches for kind "{name}" in version "{api_version}"')


def wanted(known: Sequence[Kind], words: Sequence[str]) -> list[Wanted]:
    """What words name: `KIND[,KIND] [NAME ...]`, or `KIND/NAME ...`. A category (`all`) is all its kinds."""
    if any("/" in word for word in words):
        pairs = [word.partition("/") for word in words]
        if not all(slash and kind and name for kind, slash, name in pairs):
            raise UsageError("either KIND NAME ... or KIND/NAME ...")
        return [Wanted(find(known, kind), (name,)) for kind, _, name in pairs]
    found = []
    for text in words[0].split(","):
        inside = [kind for kind in known if text.lower() in kind.categories]
        found += [Wanted(kind, words[1:]) for kind in inside or (find(known, text),)]
    return found


def _kind(group: str, version: str, resource: dict[str, Any]) -> Kind:
    kind = resource["responseKind"]["kind"]
    names = {resource["resource"], resource.get("singularResource", ""), kind.lower(), *resource.get("shortNames", ())}
    return Kind(
        group,
        version,
        resource["resource"],
        kind,
        resource["scope"] == "Namespaced",
        resource["verbs"],
        frozenset(names - {""}),
        resource.get("categories", ()),
    )
