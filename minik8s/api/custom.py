"""What a CustomResourceDefinition says of one version of the resource that it defines, compiled: the contract between `structural/`,
which makes it, and the API server, which serves by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from minik8s.api.kind import Frozen, Kind, Object
from minik8s.api.managed.shapes import Shape


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a custom resource keeps what its scale subresource shows: paths as `.spec.replicas`, "" for none."""

    spec_replicas: str
    status_replicas: str
    label_selector: str = ""


class CustomType(Protocol):
    """One version of a custom resource."""

    @property
    def rules(self) -> Kind:
        """Defaulting, validation (schema, formats, CEL rules, ratcheting), generation, columns, selectable fields, as of any kind."""
        ...

    @property
    def shape(self) -> Shape:
        """For server-side apply."""
        ...

    @property
    def scale(self) -> Scale | None:
        """Where its scale is kept; None where that subresource isn't served."""
        ...

    def conform(self, body: Frozen) -> tuple[Object, list[str]]:
        """As `schema.conform`: a private copy of a body, pruned, and what was dropped (`unknown field "spec.x"`). Doesn't default."""
        ...

    def complete(self, obj: Object) -> None:
        """Fills in the schema's defaults in place: on the way in, and in what is read from the store."""
        ...

    def openapi(self) -> dict[str, Any]:
        """The schema as it is published in OpenAPI v3, with apiVersion, kind and metadata."""
        ...
