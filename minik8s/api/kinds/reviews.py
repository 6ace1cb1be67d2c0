"""Questions to the API server that are never stored: who is this, may they do that. And requests for tokens.

Errors of access reviews name an empty kind, as upstream's do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api.errors import FieldError, invalid, required
from minik8s.api.kind import Frozen, Kind, Object
from minik8s.api.selectors import validate_selector

MIN_SECONDS, MAX_SECONDS = 600, 1 << 32
OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def validate_access_review(review: Frozen) -> list[FieldError]:
    return _subject(review) + _attributes(review) + _no_metadata(review, "must be empty")


def validate_self_access_review(review: Frozen) -> list[FieldError]:
    return _attributes(review) + _no_metadata(review, "must be empty")


def validate_local_access_review(review: Frozen) -> list[FieldError]:
    spec, namespace = review.get("spec") or {}, (review.get("metadata") or {}).get("namespace", "")
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    errors = _subject(review) + _attributes(review) + _no_metadata(review, "must be empty except for namespace", "namespace")
    if resource is not None and resource.get("namespace", "") != namespace:
        path = "spec.resourceAttributes.namespace"
        errors.append(invalid(path, resource.get("namespace", ""), "must match metadata.namespace"))
    if other is not None:
        errors.append(invalid("spec.nonResourceAttributes", _shown(other), "disallowed on this kind of request"))
    return errors


def default_token_request(request: Object) -> None:
    spec = request["spec"] = request.get("spec") or {}
    if spec.get("expirationSeconds") is None:
        spec["expirationSeconds"] = 3600


def validate_token_request(request: Frozen) -> list[FieldError]:
    seconds, path = (request.get("spec") or {}).get("expirationSeconds", 0), "spec.expirationSeconds"
    if seconds < MIN_SECONDS:
        return [invalid(path, seconds, "may not specify a duration less than 10 minutes")]
    if seconds > MAX_SECONDS:
        return [invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")]
    return []


def _subject(review: Frozen) -> list[FieldError]:
    spec = review.get("spec") or {}
    if spec.get("user") or spec.get("groups"):
        return []
    return [invalid("spec.user", "", "at least one of user or group must be specified")]


def _attributes(review: Frozen) -> list[FieldError]:
    spec = review.get("spec") or {}
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is None and other is None:
        detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [invalid("spec.resourceAttributes", None, detail)]
    errors: list[FieldError] = []
    if resource is not None and other is not None:
        detail = "cannot be specified in combination with resourceAttributes"
        errors.append(invalid("spec.nonResourceAttributes", _shown(other), detail))
    for key in ("fieldSelector", "labelSelector"):
        selector = (resource or {}).get(key)
        if selector is not None:
            errors += _selector(selector, f"spec.resourceAttributes.{key}")
    return errors


def _shown(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {"Path": attributes.get("path", ""), "Verb": attributes.get("verb", "")}


def _selector(selector: Mapping[str, Any], path: str) -> list[FieldError]:
    """Operators that are not known are let through: a newer client may know them."""
    raw, requirements = selector.get("rawSelector", ""), selector.get("requirements") or []
    errors: list[FieldError] = []
    if raw and requirements:
        errors.append(invalid(f"{path}.rawSelector", raw, "may not specified at the same time as requirements"))
    if not raw and not requirements:
        detail = f"when {path} is specified, requirements or rawSelector is required"
        errors.append(required(f"{path}.requirements", detail))
    for i, requirement in enumerate(requirements):
        if requirement.get("operator") in OPERATORS:
            found = validate_selector({"matchExpressions": [requirement]}, "@")
            errors += [
                FieldError(e.type, e.field.replace("@.matchExpressions[0]", f"{path}.requirements[{i}]"), e.message)
                for e in found
            ]
    return errors


def _no_metadata(review: Frozen, detail: str, *allowed: str) -> list[FieldError]:
    metadata = review.get("metadata") or {}
    extra = {key: value for key, value in metadata.items() if value and key not in (*allowed, "managedFields")}
    return [invalid("metadata", metadata, detail)] if extra else []


ACCESS_REVIEW = Kind(validate=validate_access_review)
SELF_ACCESS_REVIEW = Kind(validate=validate_self_access_review)
LOCAL_ACCESS_REVIEW = Kind(validate=validate_local_access_review)
TOKEN_REQUEST = Kind(default=default_token_request, validate=validate_token_request)
