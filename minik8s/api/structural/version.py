"""One version of a custom resource, compiled from its CustomResourceDefinition: the parts are made when they are first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from minik8s.api import names
from minik8s.api.custom import Scale
from minik8s.api.errors import FieldError, invalid
from minik8s.api.kind import Frozen, Kind, Object
from minik8s.api.kinds.changes import keep
from minik8s.api.managed import shapes
from minik8s.api.structural import columns, defaulting, embedded, lists, openapi, pruning, schemas
from minik8s.api.structural.nodes import EMBEDDED, LIST_TYPE, RULES, Node, Visit, properties
from minik8s.api.structural.spine import keywords

if TYPE_CHECKING:
    from minik8s.api.structural.rules import Ruled

MOST_REPLICAS = (1 << 31) - 1
STANDARD_FINALIZERS = ("orphan", "foregroundDeletion", "kubernetes")
BLOCKING = {
    "FieldValueNotSupported",
    "FieldValueRequired",
    "FieldValueTooLong",
    "FieldValueTooMany",
    "FieldValueTypeInvalid",
}
"""Errors after which rules are not tried: they could trip over what is wrong."""
NOT_TRIED = FieldError(
    "FieldValueInvalid",
    schemas.NOWHERE,
    "Invalid value: null: some validation rules were not checked because the object was invalid;"
    " correct the existing errors to complete validation",
)


_NOTHING: Node = {"type": "object"}


class _Found(threading.local):
    """What the rules found out besides errors, for the warnings of the same object: one thread asks for both, one after the other."""

    warnings: Sequence[str] = ()


class Version:
    """The CustomType of a version. `scale` is None where the subresource isn't served."""

    def __init__(self, crd: Frozen, version: Frozen) -> None:
        spec = crd["spec"]
        accepted = (crd.get("status") or {}).get("acceptedNames") or {}
        self.group: str = spec["group"]
        self.name: str = version["name"]
        self.kind: str = accepted.get("kind") or spec["names"]["kind"]
        self.api_version = f"{self.group}/{self.name}"
        self._version = version
        self._versions: Sequence[Frozen] = spec["versions"]
        subresources = version.get("subresources") or {}
        self.has_status = subresources.get("status") is not None
        scale = subresources.get("scale")
        self.scale: Scale | None = scale and Scale(
            scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath") or ""
        )
        self._found = _Found()
        self._tried = False

    @cached_property
    def schema(self) -> Node:
        """The structural schema; everything is kept where there is none."""
        found = (self._version.get("schema") or {}).get("openAPIV3Schema")
        return found or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

    # --- CustomType --------------------------------------------------------------------------------------------------

    def conform(self, body: Frozen) -> tuple[Object, list[str]]:
        if body.get("apiVersion") != self.api_version and self._is_of_no_version(body):
            return pruning.compiled(_NOTHING, self.name, self.kind)(body)
        return self._conform(body)

    def _is_of_no_version(self, body: Frozen) -> bool:
        """Whether a body claims to be of a version that there isn't: nothing is known of its fields."""
        group, _, version = str(body.get("apiVersion", "")).rpartition("/")
        known = {each["name"] for each in self._versions}
        return (group, body.get("kind")) == (self.group, self.kind) and version not in known

    def complete(self, obj: Object) -> None:
        if self._complete:
            self._complete(obj)

    def openapi(self) -> dict[str, Any]:
        selectable = self._version.get("selectableFields") or ()
        return openapi.published(self.schema, self.group, self.name, self.kind, selectable)

    @cached_property
    def shape(self) -> shapes.Shape:
        return shapes.of_openapi(self.schema)

    @cached_property
    def rules(self) -> Kind:
        headers, row = columns.columns(self._version.get("additionalPrinterColumns") or ())
        return Kind(
            default=self.complete,
            prepare_create=self._prepare_create,
            prepare_update=self._prepare_update,
            prepare_status=_keep_all_but_status,
            validate_create=lambda obj: self._validate(obj, None),
            validate_update=self._validate,
            validate_status=self._validate_status,
            warnings=self._warnings,
            heavy=lambda: RULES in self._said and not self._tried,
            generation=True,
            generation_of=lambda obj: {key: value for key, value in obj.items() if key != "metadata"},
            columns=headers,
            row=row,
            fields=columns.fields(self._version.get("selectableFields") or ()),
        )

    # --- parts -------------------------------------------------------------------------------------------------------

    @cached_property
    def _conform(self) -> Callable[[Frozen], tuple[Object, list[str]]]:
        return pruning.compiled(self.schema, self.name, self.kind)

    @cached_property
    def _said(self) -> set[str]:
        """All keywords of the schema: what it doesn't say, nobody need look for."""
        return keywords(self.schema)

    @cached_property
    def _complete(self) -> defaulting.Fill | None:
        return defaulting.compiled(self.schema) if "default" in self._said else None

    @cached_property
    def _check(self) -> schemas.Check:
        return schemas.compiled(self.schema)

    @cached_property
    def _check_status(self) -> schemas.Check | None:
        status = properties(self.schema).get("status")
        return None if status is None else schemas.compiled(status, root=False)

    @cached_property
    def _lists(self) -> Visit | None:
        return lists.compiled(self.schema) if LIST_TYPE in self._said else None

    @cached_property
    def _embedded(self) -> Visit | None:
        return embedded.compiled(self.schema) if EMBEDDED in self._said else None

    @cached_property
    def _ruled(self) -> Ruled | None:
        """The rules in CEL, whose room is only entered where there are some."""
        if RULES not in self._said:
            return None
        from minik8s.api.structural import rules

        return rules.compiled(self.schema)

    # --- hooks -------------------------------------------------------------------------------------------------------

    def _prepare_create(self, obj: Object) -> None:
        if self.has_status:
            obj.pop("status", None)

    def _prepare_update(self, new: Object, old: Frozen) -> None:
        if self.has_status:
            keep(new, old, "status")

    def _validate(self, new: Frozen, old: Frozen | None) -> list[FieldError]:
        if errors := self._type_errors(new):
            return errors
        self._check(new, None, errors, schemas.UNRELATED if old is None else old)
        if errors and old is not None and new == old:
            errors = []
        errors += self._scale_errors(new, ("spec", "status"))
        if self._embedded:
            self._embedded(new, None, errors)
        errors += self._list_errors(new, old)
        return errors + self._rule_errors(errors, new, old)

    def _validate_status(self, new: Frozen, old: Frozen) -> list[FieldError]:
        if errors := self._type_errors(new):
            return errors
        if self._check_status and "status" in new:
            found: list[FieldError] = []
            self._check_status(new["status"], None, found, old.get("status"))
            if not schemas.unchanged(new["status"], old.get("status")):
                errors += [_in_status(error) for error in found]
        errors += self._scale_errors(new, ("status",))
        errors += self._list_errors(new, old)
        return errors + self._rule_errors(errors, new, old)

    def _type_errors(self, obj: Frozen) -> list[FieldError]:
        wanted = {"kind": self.kind, "apiVersion": self.api_version}
        return [invalid(key, obj.get(key, ""), f"must be {value}") for key, value in wanted.items() if obj.get(key) != value]

    def _list_errors(self, new: Frozen, old: Frozen | None) -> list[FieldError]:
        """Repeated items are borne where there were some before."""
        errors: list[FieldError] = []
        if self._lists:
            self._lists(new, None, errors)
            if errors and old is not None:
                before: list[FieldError] = []
                self._lists(old, None, before)
                return [] if before else errors
        return errors

    def _rule_errors(self, errors: list[FieldError], new: Frozen, old: Frozen | None) -> list[FieldError]:
        self._found.warnings = []
        if self._ruled is None:
            return []
        if any(error.type in BLOCKING for error in errors):
            return [NOT_TRIED]
        from minik8s.api.structural import rules

        found, self._found.warnings = rules.tried(self._ruled, new, old)
        self._tried = True
        return found

    def _scale_errors(self, obj: Frozen, parts: tuple[str, ...]) -> list[FieldError]:
        if self.scale is None:
            return []
        errors: list[FieldError] = []
        for part, path in (("spec", self.scale.spec_replicas), ("status", self.scale.status_replicas)):
            if part in parts:
                errors += _count_errors(path, obj)
        if "status" in parts and self.scale.label_selector:
            value, wrong = _nested(obj, self.scale.label_selector)
            if not wrong and value is not None and not isinstance(value, str):
                wrong = f"{self.scale.label_selector} accessor error: {_go(value)}, expected string"
            errors += [invalid(self.scale.label_selector, "", wrong)] if wrong else []
        return errors

    @cached_property
    def deprecated(self) -> str:
        if not self._version.get("deprecated"):
            return ""
        if self._version.get("deprecationWarning"):
            return str(self._version["deprecationWarning"])
        rank = names.version_rank(self.name)
        better = [each["name"] for each in self._versions if each.get("served") and not each.get("deprecated")]
        best = min(better, key=names.version_rank, default=self.name)
        told = f"{self.api_version} {self.kind} is deprecated"
        return f"{told}; use {self.group}/{best} {self.kind}" if names.version_rank(best) < rank else told

    def _warnings(self, new: Frozen, old: Frozen | None) -> list[str]:
        """Of rules that what did not change would break (found when it was validated, just before), and of new finalizers."""
        told, self._found.warnings = self._found.warnings, []
        before = (old["metadata"].get("finalizers") or ()) if old else ()
        added = set(new["metadata"].get("finalizers") or ()) - set(before)
        return [*told] + [text for finalizer in sorted(added) for text in _finalizer_warnings(finalizer)]


def _keep_all_but_status(new: Object, old: Frozen) -> None:
    """An update of the status changes nothing else, not even labels."""
    entries = new["metadata"].get("managedFields")
    keep(new, old, *((new.keys() | old.keys()) - {"status", "apiVersion", "kind"}))
    if entries is not None:
        new["metadata"]["managedFields"] = entries


def _in_status(error: FieldError) -> FieldError:
    if error.field == schemas.NOWHERE:
        return FieldError(error.type, "status", error.message)
    return FieldError(error.type, f"status.{error.field}" if error.field else "status", error.message)


def _finalizer_warnings(finalizer: str) -> list[str]:
    told = [f'metadata.finalizers: "{finalizer}": {text}' for text in names.qualified_name(finalizer)]
    if "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
        path = " including a path (/)" if "." in finalizer else ""
        told.append(
            f'metadata.finalizers: "{finalizer}": prefer a domain-qualified finalizer name{path}'
            " to avoid accidental conflicts with other finalizer writers"
        )
    return told


def _count_errors(path: str, obj: Frozen) -> list[FieldError]:
    value, wrong = _nested(obj, path)
    if not wrong and value is not None and type(value) is not int:
        wrong = f"{path} accessor error: {_go(value)}, expected int64"
    if wrong:
        return [invalid(path, 0, wrong)]
    if value is not None and value < 0:
        return [invalid(path, value, "should be a non-negative integer")]
    if value is not None and value > MOST_REPLICAS:
        return [invalid(path, value, f"should be less than or equal to {MOST_REPLICAS}")]
    return []


def _nested(obj: Frozen, path: str) -> tuple[Any, str]:
    """What a path of fields leads to, and what stands in the way."""
    value: Any = obj
    walked = ""
    for step in path.removeprefix(".").split("."):
        if value is None:
            return None, ""
        if not isinstance(value, Mapping):
            return None, f"{walked} accessor error: {_go(value)}, expected map[string]interface{{}}"
        value, walked = value.get(step), f"{walked}.{step}"
    return value, ""


_GO_TYPES = {str: "string", bool: "bool", int: "int64", float: "float64"}


def _go(value: Any) -> str:
    """A value that is of the wrong type, as upstream's messages show it."""
    kind = "map[string]interface {}" if isinstance(value, Mapping) else _GO_TYPES.get(type(value), "[]interface {}")
    return f"{columns.text(value)} is of the type {kind}"
