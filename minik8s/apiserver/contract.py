"""What the rooms inside the front desk say to each other: who asks for what (authorization), what is about to be written
(admission), and how both read what is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Any, NamedTuple, Protocol

from minik8s.api.kind import Frozen, Object
from minik8s.api.resources import Resource
from minik8s.api.selectors import FieldSelector, LabelSelector
from minik8s.api.user import User


class Reader(Protocol):
    """Reads current objects from the cache, synchronously. What it gives is shared: nobody changes it."""

    def get(self, resource: Resource, namespace: str, name: str) -> Mapping[str, Any] | None: ...

    def list(self, resource: Resource, namespace: str = "") -> Iterable[Mapping[str, Any]]:
        """All objects of the kind (in one namespace), sorted by namespace and name."""
        ...

    def count(self, resource: Resource, namespace: str = "") -> int:
        """How many `list` would give."""
        ...

    def on_change(self, resource: Resource, callback: Callable[[], None]) -> None:
        """Calls back after any change of the kind (for who keeps something derived)."""
        ...


ShownAs = Callable[[Frozen, Resource, Resource], Awaitable[Frozen]]
"""An object of one row as another row of its family shows it: (object, its row, the other one)."""


class Attributes(NamedTuple):
    """What an authorizer judges (authorization.k8s.io ResourceAttributes / NonResourceAttributes). `path` only for the latter.
    `fields` and `labels` are the request's selectors: a node may list the pods whose spec.nodeName it is. Made once a request: a frozen
    dataclass takes five times as long.
    """

    user: User
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: FieldSelector | None = None
    labels: LabelSelector | None = None


class Decision(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    NO_OPINION = "no opinion"


class Authorizer(Protocol):
    def authorize(self, attributes: Attributes) -> tuple[Decision, str]:
        """The decision and its reason. Synchronous: everything it needs is in the cache."""
        ...


class Operation(StrEnum):
    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    CONNECT = "CONNECT"


@dataclass(slots=True)
class Admission:
    """One write on its way in. Mutating plugins change `object` in place; `old` is shared. Rejection: raise an ApiError."""

    user: User
    operation: Operation
    resource: Resource
    subresource: str
    namespace: str
    name: str
    object: Object | None
    old: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    """What the audit log says of the request besides (audit.k8s.io Event.annotations): keys with a domain, the first value stays."""
    reinvoke: bool = False
    """Set by a mutating plugin that changed the object where others may have to see that: all are asked once more."""
    again: bool = False
    """Whether this is that second time."""
    memory: dict[str, Any] = field(default_factory=dict)
    """What a plugin remembers of the first time, by its name."""
    deadline: float = inf
    """When the request has no more time (monotonic): who calls out waits no longer."""


WEBHOOKS = "AdmissionWebhooks"
"""The plugin that waits for others."""
PATCH_ANNOTATION = "patch.webhook.admission.k8s.io/"
"""How annotations begin that hold parts of objects: the audit log shows them from the level Request on."""


class Plugin(Protocol):
    """An admission plugin; `handles` says cheaply whether it looks at a request at all."""

    name: str

    def handles(self, request: Admission) -> bool: ...
    async def admit(self, request: Admission) -> None:
        """Mutates `request.object`."""
        ...

    async def validate(self, request: Admission) -> None:
        """Raises what speaks against it."""
        ...
