"""What may stand in a CustomResourceDefinition. Its schemas are judged in `structural/declared`.

Upstream's messages name the fields of an older form, in which what all versions have in common stands beside them (`spec.validation`,
`spec.subresources`, ...); so do these.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from minik8s.api import names
from minik8s.api.conditions import is_true
from minik8s.api.errors import FieldError, duplicate, forbidden, invalid, required, too_many, unsupported
from minik8s.api.kind import Frozen
from minik8s.api.kinds import webhook
from minik8s.api.structural import declared, fieldpath, formats
from minik8s.api.structural.nodes import Node, ordered, shown
from minik8s.api.structural.spine import walk

Errors = Iterator[FieldError]
MOST_SELECTABLE = 8
LONGEST_WARNING = 256
COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
REVIEW_VERSIONS = ("v1", "v1beta1")
APPROVAL = "api-approved.kubernetes.io"
PROTECTED = ("k8s.io", "kubernetes.io")
_APPROVE = f'protected groups must have approval annotation "{APPROVAL}"'
_SEE = "see https://github.com/kubernetes/enhancements/pull/1111"
_SCALAR = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."


def validate_create(crd: Frozen) -> list[FieldError]:
    return [*_name(crd), *_spec(crd["spec"], None), *_common(crd), *_approval(crd, None), *_preserves(crd, None)]


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    spec, before = new["spec"], old["spec"]
    established = is_true(old, "Established")
    errors = [*_spec(spec, before, established=established)]
    fixed = [("scope",), ("names", "kind")] if established else []
    for keys in (*fixed, ("group",), ("names", "plural")):
        value, was = _at(spec, keys), _at(before, keys)
        errors += [] if value == was else [invalid(f"spec.{'.'.join(keys)}", value, names.IMMUTABLE)]
    return [*errors, *_common(new), *_approval(new, old), *_preserves(new, old)]


def validate_status(new: Frozen, old: Frozen) -> list[FieldError]:
    return [*_names(new["status"].get("acceptedNames") or {}, "status.acceptedNames")]


def odd_formats(crd: Frozen) -> Iterator[str]:
    """The formats in the schemas of a definition that mean nothing."""
    for version in crd["spec"].get("versions") or ():
        yield from (node["format"] for node in walk(_schema(version) or {}) if not formats.is_recognized(node))


def _schema(version: Frozen) -> Node | None:
    return (version.get("schema") or {}).get("openAPIV3Schema")


def _at(value: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        value = value.get(key) or ""
    return value


# --- what is told once -----------------------------------------------------------------------------------------------


def _name(crd: Frozen) -> Errors:
    plural, group, name = crd["spec"]["names"].get("plural", ""), crd["spec"].get("group", ""), crd["metadata"].get("name", "")
    if name and name != f"{plural}.{group}":
        yield invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')


def _common(crd: Frozen) -> Errors:
    yield from validate_status(crd, crd)
    stored, path = crd["status"].get("storedVersions") or None, "status.storedVersions"
    if stored is None:
        yield invalid(path, stored, "must have at least one stored version")
        return
    known = [version["name"] for version in crd["spec"].get("versions") or ()]
    for version in crd["spec"].get("versions") or ():
        if version.get("storage") and version["name"] not in stored:
            yield invalid(path, stored, f"must have the storage version {version['name']}")
    for i, name in enumerate(stored):
        if name not in known:
            detail = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage"
                f" migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            )
            yield invalid(f"{path}[{i}]", name, detail)


def _approval(crd: Frozen, old: Frozen | None) -> Errors:
    """Groups of the Kubernetes community want an annotation; who had none or a bad one may go on without."""
    group, path = crd["spec"].get("group", ""), f"metadata.annotations[{APPROVAL}]"
    if not any(group == each or group.endswith("." + each) for each in PROTECTED):
        return
    state = _approval_state(crd)
    if state in ("approved", "bypassed") or (old is not None and _approval_state(old) == state):
        return
    if state == "missing":
        yield required(path, f"{_APPROVE}, {_SEE}")
    else:
        found = crd["metadata"]["annotations"][APPROVAL]
        yield invalid(path, found, f'{_APPROVE} with either a URL or a reason starting with "unapproved", {_SEE}')


def _approval_state(crd: Frozen) -> str:
    value = (crd["metadata"].get("annotations") or {}).get(APPROVAL, "")
    if not value:
        return "missing"
    if value.startswith("unapproved"):
        return "bypassed"
    try:
        parts = urlsplit(value)
    except ValueError:
        return "invalid"
    return "approved" if parts.scheme and parts.netloc else "invalid"


def _preserves(crd: Frozen, old: Frozen | None) -> Errors:
    if crd["spec"].get("preserveUnknownFields") and not (old and old["spec"].get("preserveUnknownFields")):
        detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        yield invalid("spec.preserveUnknownFields", True, detail)


# --- the spec --------------------------------------------------------------------------------------------------------


def _spec(spec: Frozen, old: Frozen | None, *, established: bool = False) -> Errors:
    versions = spec.get("versions") or []
    yield from _group(spec.get("group", ""))
    yield from _choice(spec.get("scope", ""), "spec.scope", ("Cluster", "Namespaced"))
    for i, version in enumerate(versions):
        if _schema(version) is None:
            yield required(f"spec.versions[{i}].schema.openAPIV3Schema")
    for i, version in enumerate(versions):
        yield from _joined(version["name"], f"spec.versions[{i}].name", names.dns_label_1035)
        yield from _deprecation(version, f"spec.versions[{i}].deprecationWarning")
    if len({version["name"] for version in versions}) < len(versions):
        yield invalid("spec.versions", _shown_versions(spec), "must contain unique version names")
    if sum(bool(version.get("storage")) for version in versions) != 1:
        yield invalid("spec.versions", _shown_versions(spec), "must have exactly one version marked as storage version")
    if versions and versions[0]["name"]:
        yield from _joined(versions[0]["name"], "spec.version", names.dns_label_1035)
    for key in ("plural", "singular", "kind", "listKind"):
        if not spec["names"].get(key):
            yield required(f"spec.names.{key}")
    yield from _names(spec["names"], "spec.names")
    yield from _parts(versions, old)
    yield from _conversion(spec, old, established=established)


def _parts(versions: Sequence[Frozen], old: Frozen | None) -> Errors:
    before = {version["name"]: version for version in (old or {}).get("versions") or ()}
    for path, those in _places(versions, "schema", "validation"):
        known = all(version["name"] in before and _schema(before[version["name"]]) == _schema(version) for version in those)
        schema = _schema(those[0])
        status = any((version.get("subresources") or {}).get("status") is not None for version in those)
        if schema is not None:
            yield from declared.errors_of(schema, f"{path}.openAPIV3Schema", status=status, known=known)
    for path, those in _places(versions, "subresources", "subresources"):
        yield from _scale((those[0]["subresources"]).get("scale"), f"{path}.scale")
    for path, those in _places(versions, "additionalPrinterColumns", "additionalPrinterColumns"):
        for i, column in enumerate(those[0]["additionalPrinterColumns"]):
            yield from _column(column, f"{path}[{i}]")
    for path, those in _places(versions, "selectableFields", "selectableFields"):
        first = those[0]
        kept = first["name"] in before and before[first["name"]].get("selectableFields") == first["selectableFields"]
        yield from _selectable(first["selectableFields"], _schema(first) or {}, path, unlimited=kept)


def _places(versions: Sequence[Frozen], key: str, common: str) -> Iterator[tuple[str, Sequence[Frozen]]]:
    """Where this part of the versions is judged, and whose it is: all versions' at once where they have the same."""
    if _same(versions, key):
        if versions and versions[0].get(key) is not None:
            yield f"spec.{common}", versions
        return
    for i, version in enumerate(versions):
        if version.get(key) is not None:
            yield f"spec.versions[{i}].{key}", (version,)


def _same(versions: Sequence[Frozen], key: str) -> bool:
    return all(version.get(key) == versions[0].get(key) for version in versions)


def _shown_versions(spec: Frozen) -> Any:
    """The versions as upstream shows them: by the names that Go has for their fields, without what they have in common."""
    versions = spec.get("versions")
    if versions is None:
        return None
    common = {
        key: None for key in ("schema", "subresources", "additionalPrinterColumns", "selectableFields") if _same(versions, key)
    }
    facts = {"name": "", "served": False, "storage": False, "deprecated": False, "deprecationWarning": None, "schema": None}
    facts |= {"subresources": None, "additionalPrinterColumns": None, "selectableFields": None}
    return [
        {key[0].upper() + key[1:]: ordered((version | common).get(key, empty)) for key, empty in facts.items()}
        for version in map(dict, versions)
    ]


def _group(group: str) -> Errors:
    if not group:
        yield required("spec.group")
    elif problems := names.dns_subdomain(group):
        yield invalid("spec.group", group, ",".join(problems))
    elif "." not in group:
        yield invalid("spec.group", group, "should be a domain with at least one dot")


def _choice(value: str, path: str, allowed: Sequence[str]) -> Errors:
    if not value:
        yield required(path)
    elif value not in allowed:
        yield unsupported(path, value, allowed)


def _joined(value: str, path: str, rule: Any, prefix: str = "") -> Errors:
    if problems := rule(value):
        yield invalid(path, value, prefix + ",".join(problems))


def _names(given: Mapping[str, Any], path: str) -> Errors:
    for key in ("plural", "singular"):
        if given.get(key):
            yield from _joined(given[key], f"{path}.{key}", names.dns_label_1035)
    for key in ("kind", "listKind"):
        if problems := given.get(key) and names.dns_label_1035(given[key].lower()):
            yield invalid(f"{path}.{key}", given[key], "may have mixed case, but should otherwise match: " + ",".join(problems))
    for i, name in enumerate(given.get("shortNames") or ()):
        yield from _joined(name, f"{path}.shortNames[{i}]", names.dns_label_1035)
    if given.get("kind") and given["kind"] == given.get("listKind"):
        yield invalid(f"{path}.listKind", given["listKind"], "kind and listKind may not be the same")
    for i, name in enumerate(given.get("categories") or ()):
        yield from _joined(name, f"{path}.categories[{i}]", names.dns_label_1035)


def _deprecation(version: Frozen, path: str) -> Errors:
    text = version.get("deprecationWarning")
    if text is None:
        return
    if not version.get("deprecated"):
        yield invalid(path, text, "can only be set for deprecated versions")
        return
    if len(text.encode()) > LONGEST_WARNING:
        yield invalid(path, text, "must be <= 256 characters long")
    if not text:
        yield invalid(path, text, "must not be an empty string")
    bad = next((i for i, character in enumerate(text) if not character.isprintable()), None)
    if bad is not None:
        index = len(text[:bad].encode())
        yield invalid(
            path, text, f"must only contain printable UTF-8 characters; non-printable character found at index {index}"
        )


# --- what versions may have ------------------------------------------------------------------------------------------


def _scale(scale: Frozen | None, path: str) -> Errors:
    if scale is None:
        return
    for key, part in (("specReplicasPath", "spec"), ("statusReplicasPath", "status")):
        value = scale.get(key, "")
        if not value:
            yield required(f"{path}.{key}")
        else:
            yield from _json_path(value, f"{path}.{key}") if value[0] != "." else _inside(value, f"{path}.{key}", part)
    selector, here = scale.get("labelSelectorPath"), f"{path}.labelSelectorPath"
    if selector and selector[0] != ".":
        yield from _json_path(selector, here)
    elif selector and not selector.startswith((".spec.", ".status.")):
        yield invalid(here, selector, "should be a json path under either .spec or .status")


def _inside(value: str, path: str, part: str) -> Errors:
    if not value.startswith(f".{part}."):
        yield invalid(path, value, f"should be a json path under .{part}")


def _json_path(value: str, path: str) -> Errors:
    if value[0] != ".":
        yield invalid(path, value, "must be a simple json path starting with .")


def _column(column: Frozen, path: str) -> Errors:
    kind, form, json_path = column.get("type", ""), column.get("format", ""), column.get("jsonPath", "")
    if not column.get("name"):
        yield required(f"{path}.name")
    if not kind:
        yield required(f"{path}.type", f"must be one of {','.join(COLUMN_TYPES)}")
    elif kind not in COLUMN_TYPES:
        yield invalid(f"{path}.type", kind, f"must be one of {','.join(COLUMN_TYPES)}")
    if form and form not in COLUMN_FORMATS:
        yield invalid(f"{path}.format", form, f"must be one of {','.join(COLUMN_FORMATS)}")
    if not json_path:
        yield required(f"{path}.JSONPath")
    else:
        yield from _json_path(json_path, f"{path}.JSONPath")


def _selectable(selectable: Sequence[Frozen], schema: Node, path: str, *, unlimited: bool) -> Errors:
    seen: set[str] = set()
    for i, each in enumerate(selectable):
        text, here = each.get("jsonPath", ""), f"{path}[{i}].jsonPath"
        if not text:
            yield required(here)
            continue
        try:
            found, node = fieldpath.resolve(text, schema, arrays=False)
        except fieldpath.FieldPathError as error:
            yield invalid(here, text, f"is an invalid path: {error}")
            continue
        name = shown(found)
        if name.split(".")[0] == "metadata":
            yield invalid(here, text, "must not point to fields in metadata")
        if node.get("type") not in ("string", "boolean", "integer"):
            yield invalid(here, text, _SCALAR)
        if name in seen:
            yield duplicate(here, text)
        seen.add(name)
    if len(seen) > MOST_SELECTABLE and not unlimited:
        yield too_many(path, len(seen), MOST_SELECTABLE)


# --- conversion ------------------------------------------------------------------------------------------------------


def _conversion(spec: Frozen, old: Frozen | None, *, established: bool) -> Errors:
    conversion = spec.get("conversion") or {}
    strategy, path = conversion.get("strategy", ""), "spec.conversion"
    hook = conversion.get("webhook") or {}
    config, reviews = hook.get("clientConfig"), hook.get("conversionReviewVersions") or []
    if strategy != "None" and spec.get("preserveUnknownFields"):
        yield invalid(f"{path}.strategy", strategy, "must be None if spec.preserveUnknownFields is true")
    yield from _choice(strategy, f"{path}.strategy", ("None", "Webhook"))
    if strategy == "Webhook":
        if config is None:
            yield required(f"{path}.webhookClientConfig", "required when strategy is set to Webhook")
        else:
            yield from webhook.client_config(config, f"{path}.webhookClientConfig")
            if established and not _bundle_problem(_bundle((old or {}).get("conversion") or {})):
                bundle = _bundle(conversion)
                if problem := _bundle_problem(bundle):
                    yield invalid(f"{path}.webhookClientConfig.caBundle", bundle, problem)
        yield from _reviews(reviews, f"{path}.conversionReviewVersions", old)
        return
    detail = "should not be set when strategy is not set to Webhook"
    if config is not None:
        yield forbidden(f"{path}.webhookClientConfig", detail)
    if reviews:
        yield forbidden(f"{path}.conversionReviewVersions", detail)


def _bundle(conversion: Frozen) -> str:
    return ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("caBundle") or ""


def _bundle_problem(bundle: str) -> str:
    """What is wrong with a bundle of certificates (base64). It may be bad until the definition is established: then it is needed."""
    if not bundle:
        return ""
    try:
        found = _CERTIFICATE.findall(base64.b64decode(bundle))
    except ValueError:
        found = []
    return "" if found else "unable to load root certificates: unable to parse bytes as PEM block"


_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


def _reviews(reviews: Sequence[str], path: str, old: Frozen | None) -> Errors:
    if not reviews:
        yield required(path)
        return
    for i, version in enumerate(reviews):
        if version in reviews[:i]:
            yield invalid(f"{path}[{i}]", version, "duplicate version")
        else:
            yield from (invalid(f"{path}[{i}]", version, problem) for problem in names.dns_label_1035(version))
    before = (((old or {}).get("conversion") or {}).get("webhook") or {}).get("conversionReviewVersions") or []
    if not set(reviews) & set(REVIEW_VERSIONS) and (not before or set(before) & set(REVIEW_VERSIONS)):
        yield invalid(path, list(reviews), f"must include at least one of {', '.join(REVIEW_VERSIONS)}")
