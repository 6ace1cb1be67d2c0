"""What sets one kind apart from another, as plain functions over plain objects. The generic registry calls them in this order:

create: decode -> `default` -> mutating admission -> `prepare_create` -> `validate` + `validate_create` -> store
update: decode -> `default` -> `prepare_update` -> mutating admission (-> `default`) -> `validate` + `validate_update` -> store
status: as update with `prepare_status` and `validate_status`

The registry itself does what holds for every kind: metadata (names, generateName, uid, generation where `generation` is set,
labels, annotations, owner references, finalizers), immutable metadata, resource versions, dry run.
Functions that change an object are given a private copy and change it in place. Validation never changes and never raises:
objects that reach it have passed the schema (types are right, required may be missing).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minik8s.api.errors import FieldError

Object = dict[str, Any]
"""A JSON object of the API that its holder may change."""
Frozen = Mapping[str, Any]
"""An object that is shared: nobody changes it."""


def thawed(value: Any) -> Any:
    """A private copy of shared data."""
    if isinstance(value, Mapping):
        return {key: thawed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [thawed(item) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get` (metav1.TableColumnDefinition). `priority` 1 shows with `-o wide` only."""

    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


def nothing(*_: Any) -> None:
    """The hook that does nothing."""


def no_errors(*_: Any) -> list[FieldError]:
    """The validation that finds nothing wrong."""
    return []


def no_warnings(*_: Any) -> list[str]:
    return []


NAME = Column("Name", format="name", description="Name must be unique within a namespace.")
AGE = Column("Age", description="CreationTimestamp is a timestamp representing the server time when this object was created.")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The hooks of one kind; the defaults suit a kind without rules of its own."""

    default: Callable[[Object], None] = nothing
    prepare_create: Callable[[Object], None] = nothing
    prepare_update: Callable[[Object, Frozen], None] = nothing  # (new, old): keeps status, bumps nothing
    prepare_status: Callable[[Object, Frozen], None] | None = None  # None: keeps all but status and metadata's free parts
    validate: Callable[[Frozen], list[FieldError]] = no_errors
    validate_create: Callable[[Frozen], list[FieldError]] = no_errors  # besides `validate`: what only updates may hold
    validate_update: Callable[[Frozen, Frozen], list[FieldError]] = no_errors  # (new, old): besides `validate`
    validate_status: Callable[[Frozen, Frozen], list[FieldError]] = no_errors  # (new, old): instead of both above
    # further writable subresources (resize, approval, ...): (prepare, validate), each of (new, old), instead of those above
    subresources: Mapping[str, tuple[Callable[[Object, Frozen], None], Callable[[Frozen, Frozen], list[FieldError]]]] = field(
        default_factory=dict
    )
    stamp: Callable[[Object, Frozen, str], None] = (
        nothing  # (new, old, now as RFC 3339): times set by the server, after prepare
    )
    orphans: bool = False  # a DELETE that doesn't say otherwise leaves the dependents behind
    orphans_warning: str = ""  # what such a DELETE is told
    warnings: Callable[[Frozen, Frozen | None], list[str]] = no_warnings  # (new, old or None) -> Warning headers
    heavy: Callable[[], bool] = lambda: False  # validating takes long whatever the size: expressions have to be compiled
    generation: bool = False  # metadata.generation starts at 1 and rises when `generation_of` changes
    generation_of: Callable[[Frozen], Any] = lambda obj: obj.get("spec")
    name_rule: str = "subdomain"  # of NAME_RULES in api/names.py: subdomain, label, label1035, path, ...
    columns: Sequence[Column] = (NAME, AGE)
    row: Callable[[Frozen, float], list[Any]] | None = None  # (object, now) -> cells; None: name and age
    row_order: Callable[[Frozen], Any] | None = None  # key by which a Table's rows are sorted; None: by namespace and name
    row_conditions: Callable[[Frozen], list[Object]] | None = None  # a row's metav1.TableRowConditions, where it has some
    fields: Mapping[str, Callable[[Frozen], str]] = field(default_factory=dict)  # selectable besides metadata.name/namespace
    graceful: Callable[[Frozen, int | None], int] | None = None  # (object, asked seconds) -> grace period; None: at once
