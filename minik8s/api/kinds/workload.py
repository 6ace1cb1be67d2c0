"""What the kinds that keep pods running share: a selector over the labels of their template, counts, columns.

Used by `deployment`, `replicaset` and their like. The template itself is `podtemplate`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api import names
from minik8s.api.errors import FieldError, forbidden, invalid, required, unsupported
from minik8s.api.kind import Column, Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.changes import immutable
from minik8s.api.kinds.podtemplate import validate_pod_template, warn_of_pod_template
from minik8s.api.printing import NONE
from minik8s.api.selectors import of_object, validate_selector

PERCENT = re.compile(r"[0-9]+%")
TOO_MANY = "cannot be greater than status.replicas"
CONTAINERS = Column("Containers", priority=1, description="Names of each container in the template.")
IMAGES = Column("Images", priority=1, description="Images referenced by each container in the template.")
SELECTOR = Column("Selector", priority=1, description="Which pods are counted.")


def spec_of(obj: Frozen) -> Mapping[str, Any]:
    return obj.get("spec") or {}


def status_of(obj: Frozen) -> Mapping[str, Any]:
    return obj.get("status") or {}


# --- validation ------------------------------------------------------------------------------------------------------


def not_negative(obj: Mapping[str, Any], path: str, *keys: str) -> list[FieldError]:
    """None of these fields is negative."""
    return [error for key in keys for error in checks.not_negative(obj.get(key) or 0, f"{path}.{key}")]


def not_decremented(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[FieldError]:
    """The count of hash collisions in a status only grows."""
    collisions = new.get("collisionCount") or 0
    fewer = collisions < (old.get("collisionCount") or 0)
    return [invalid("status.collisionCount", collisions, "cannot be decremented")] if fewer else []


def selector_and_template(spec: Mapping[str, Any], owner: str, noun: str) -> list[FieldError]:
    """The errors of `spec.selector` and `spec.template`. `owner` and `noun` are the kind's names in upstream's messages."""
    selector, path = spec.get("selector"), "spec.selector"
    template = spec.get("template") or {}
    if selector is None:
        errors = [required(path)]
    else:
        errors = validate_selector(selector, path)
        if errors:
            return [*errors, invalid(path, selector, "invalid label selector")]
        if not of_object(selector):
            errors = [invalid(path, selector, f"empty selector is invalid for {noun}")]
    chosen = of_object(selector)
    labels = (template.get("metadata") or {}).get("labels")
    if chosen and not chosen.matches(labels):
        errors.append(invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"))
    return errors + template_errors(template, owner)


def same_selector(new: Frozen, old: Frozen) -> list[FieldError]:
    """An update keeps `spec.selector`."""
    return immutable(spec_of(new).get("selector"), spec_of(old).get("selector"), "spec.selector")


def template_errors(template: Frozen, owner: str) -> list[FieldError]:
    """A template whose pods never end by themselves."""
    pod = template.get("spec") or {}
    errors = validate_pod_template(template, "spec.template")
    if pod.get("restartPolicy") != "Always":
        errors.append(unsupported("spec.template.spec.restartPolicy", pod.get("restartPolicy", ""), ("Always",)))
    if pod.get("activeDeadlineSeconds") is not None:
        detail = f"activeDeadlineSeconds in {owner} is not Supported"
        errors.append(forbidden("spec.template.spec.activeDeadlineSeconds", detail))
    return errors


def count_or_percent(value: int | str, path: str) -> list[FieldError]:
    """A count of pods, or a share of them."""
    if isinstance(value, int):
        return list(checks.not_negative(value, path))
    if PERCENT.fullmatch(value):
        return []
    rule = "a valid percent string must be a numeric string followed by an ending '%'"
    return [invalid(path, value, names.pattern_error(rule, PERCENT.pattern, "1%", "93%"))]


def at_most_all(value: int | str, path: str) -> list[FieldError]:
    """A share of at most 100 %."""
    too_much = isinstance(value, str) and PERCENT.fullmatch(value) and int(value[:-1]) > 100
    return [invalid(path, value, "must not be greater than 100%")] if too_much else []


def amount(value: int | str) -> int:
    """The number in a count or share."""
    text = str(value).removesuffix("%")
    return int(text) if re.fullmatch("-?[0-9]+", text) else 0


def status_counts(
    status: Mapping[str, Any], counted: Sequence[str], within: Sequence[str], ready: str = "readyReplicas"
) -> list[FieldError]:
    """Counts of pods in a status: none negative, those of `within` at most `replicas`, available ones at most the ready ones
    (which upstream's message calls `ready`).
    """
    errors = not_negative(status, "status", *counted)
    total = status.get("replicas", 0)
    for key in within:
        if status.get(key, 0) > total:
            errors.append(invalid(f"status.{key}", status.get(key, 0), TOO_MANY))
    available = status.get("availableReplicas", 0)
    if available > status.get("readyReplicas", 0):
        errors.append(invalid("status.availableReplicas", available, f"cannot be greater than {ready}"))
    return errors


def name_warnings(obj: Frozen, old: Frozen | None) -> list[str]:
    """A name that is no DNS label makes strange hostnames of pods."""
    problems = names.dns_label(obj["metadata"].get("name", "")) if old is None else []
    if not problems:
        return []
    surprise = "this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended"
    return [f"metadata.name: {surprise}: [{' '.join(problems)}]"]


def template_warnings(obj: Frozen, old: Frozen | None) -> list[str]:
    """Warnings about a template that is new or has changed."""
    template = spec_of(obj).get("template") or {}
    unchanged = old is not None and template == spec_of(old).get("template")
    return [] if unchanged else warn_of_pod_template(template, "spec.template")


def warnings(obj: Frozen, old: Frozen | None) -> list[str]:
    return name_warnings(obj, old) + template_warnings(obj, old)


# --- printing --------------------------------------------------------------------------------------------------------


def template_cells(template: Frozen | None) -> list[object]:
    """The cells under CONTAINERS and IMAGES."""
    containers = ((template or {}).get("spec") or {}).get("containers") or []
    return [",".join(container.get(key, "") for container in containers) for key in ("name", "image")]


def selector_text(selector: Frozen | None) -> str:
    """A LabelSelector as text, `<none>` for an empty one."""
    return str(of_object(selector)) or NONE
