"""What may be a name, a label, an annotation, a finalizer, an owner: the rules of metadata, in upstream's words.

Checks of one string give a list of what is wrong with it, empty if nothing is. Checks of a field give `FieldError`s.
Sources: RFC 1123, RFC 1035, "Object Names and IDs" and "Labels and Selectors" of the Kubernetes documentation, ObjectMeta of
the API. Knows `errors`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from minik8s.api.errors import FieldError, forbidden, invalid, required, too_long

MAX_ANNOTATIONS = 256 * 1024
MUST_BE_NON_NEGATIVE = "must be greater than or equal to 0"
IMMUTABLE = "field is immutable"

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_KEY})?"
_KEY_RULE = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"


def pattern_error(rule: str, pattern: str, *examples: str) -> str:
    """`rule (e.g. 'a',  or 'b', regex used for validation is 'pattern')`."""
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{rule} ({'e.g. ' + shown if shown else ''}regex used for validation is '{pattern}')"


def too_many_characters(maximum: int) -> str:
    return f"must be no more than {maximum} characters"


def dns_subdomain(value: str) -> list[str]:
    """RFC 1123 subdomain: most names."""
    return _pattern(_SUBDOMAIN_RE, value, 253, _SUBDOMAIN_ERROR)


def dns_label(value: str) -> list[str]:
    """RFC 1123 label: namespaces, Services, ports of containers."""
    errors = [too_many_characters(63)] if _size(value) > 63 else []
    if not _LABEL_RE.fullmatch(value):
        errors.append("must not contain dots" if _SUBDOMAIN_RE.fullmatch(value) else _LABEL_ERROR)
    return errors


def dns_label_1035(value: str) -> list[str]:
    """RFC 1035 label: begins with a letter."""
    return _pattern(_LABEL_1035_RE, value, 63, _LABEL_1035_ERROR)


def path_segment(value: str) -> list[str]:
    """What can stand in a URL's path as one part: names of RBAC kinds."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{character}'" for character in "/%" if character in value]


NAME_RULES: dict[str, Callable[[str], list[str]]] = {
    "subdomain": dns_subdomain,
    "label": dns_label,
    "label1035": dns_label_1035,
    "path": path_segment,
}
"""By `Kind.name_rule`."""


def name_prefix(rule: str, value: str) -> list[str]:
    """As NAME_RULES[rule], for a name that gets something appended: it may end with a dash."""
    if rule != "path" and len(value) > 1 and value.endswith("-"):
        value = value[:-2] + "a"
    return NAME_RULES[rule](value)


def label_key(value: str) -> list[str]:
    """A qualified name: `name` or `dns.prefix/name`."""
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        return [f"a valid label key {_KEY_ERROR} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    errors = []
    if slash and not prefix:
        errors.append("prefix part must be non-empty")
    elif slash:
        if _size(prefix) > 253:
            errors.append("prefix part must be no more than 253 bytes")
        if not _SUBDOMAIN_RE.fullmatch(prefix):
            errors.append(f"prefix part {_SUBDOMAIN_ERROR}")
    if not name:
        errors.append("name part must be non-empty")
    elif _size(name) > 63:
        errors.append("name part must be no more than 63 bytes")
    if not _KEY_RE.fullmatch(name):
        errors.append(f"name part {_KEY_ERROR}")
    return errors


qualified_name = label_key


def label_value(value: str) -> list[str]:
    errors = ["must be no more than 63 bytes"] if _size(value) > 63 else []
    if not _VALUE_RE.fullmatch(value):
        errors.append(_VALUE_ERROR)
    return errors


def config_key(value: str) -> list[str]:
    """A key of a ConfigMap's or Secret's data."""
    errors = _pattern(_CONFIG_KEY_RE, value, 253, _CONFIG_KEY_ERROR)
    if value in (".", ".."):
        errors.append(f"must not be '{value}'")
    elif value.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def env_name(value: str) -> list[str]:
    """An environment variable's name: printable ASCII without `=`."""
    errors = [] if value else ["environment variable name must be non-empty"]
    if any(not " " <= character <= "~" or character == "=" for character in value):
        errors.append("a valid environment variable name must consist only of printable ASCII characters other than '='")
    return errors


def port_name(value: str) -> list[str]:
    """RFC 6335 service name, lower case."""
    errors = [too_many_characters(15)] if _size(value) > 15 else []
    if not re.fullmatch("[-a-z0-9]+", value):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value[:1] == "-" or value[-1:] == "-":
        errors.append("must not begin or end with a hyphen")
    return errors


def port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else ["must be between 1 and 65535, inclusive"]


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as clients prefer them; names that are no versions come last, by name."""
    match = re.fullmatch(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?", version)
    if match is None:
        return 3, 0, 0, version
    major, stage, minor = match.groups()
    return {None: 0, "beta": 1, "alpha": 2}[stage], -int(major), -int(minor or 0), version


# --- metadata ----------------------------------------------------------------------------------------------------------


def validate_metadata(
    obj: Mapping[str, Any], name_rule: str, namespaced: bool, prefix: str = "metadata", *, builtin: bool = True
) -> list[FieldError]:
    """What is wrong with an object's metadata at its creation, generateName already used. `builtin` kinds also want
    finalizers to be standard ones or qualified.
    """
    meta = obj.get("metadata") or {}
    errors = []
    generate = meta.get("generateName", "")
    if generate:
        errors += [invalid(f"{prefix}.generateName", generate, text) for text in name_prefix(name_rule, generate)]
    name = meta.get("name", "")
    if name:
        errors += [invalid(f"{prefix}.name", name, text) for text in NAME_RULES[name_rule](name)]
    else:
        errors.append(required(f"{prefix}.name", "name or generateName is required"))
    namespace = meta.get("namespace", "")
    if not namespaced:
        errors += [forbidden(f"{prefix}.namespace", "not allowed on this type")] if namespace else []
    elif namespace:
        errors += [invalid(f"{prefix}.namespace", namespace, text) for text in dns_label(namespace)]
    else:
        errors.append(required(f"{prefix}.namespace"))
    generation = meta.get("generation", 0)
    if generation < 0:
        errors.append(invalid(f"{prefix}.generation", generation, MUST_BE_NON_NEGATIVE))
    errors += _validate_attachments(meta, prefix)
    errors += _validate_finalizers(meta.get("finalizers") or (), f"{prefix}.finalizers")
    errors += _validate_managed_fields(meta.get("managedFields") or (), f"{prefix}.managedFields")
    return errors + (_validate_standard_finalizers(meta, prefix) if builtin else [])


def validate_metadata_update(new: Mapping[str, Any], old: Mapping[str, Any], *, builtin: bool = True) -> list[FieldError]:
    """What is wrong with the metadata of an update. It has a resourceVersion by then."""
    meta, before = new.get("metadata") or {}, old.get("metadata") or {}
    errors = []
    if before.get("deletionTimestamp"):
        added = sorted(set(meta.get("finalizers") or ()) - set(before.get("finalizers") or ()))
        if added:
            shown = "[]string{" + ", ".join(f'"{finalizer}"' for finalizer in added) + "}"
            message = f"no new finalizers can be added if the object is being deleted, found new finalizers {shown}"
            errors.append(forbidden("metadata.finalizers", message))
    if not meta.get("resourceVersion"):
        errors.append(invalid("metadata.resourceVersion", "", "must be specified for an update"))
    if meta.get("generation", 0) < before.get("generation", 0):
        errors.append(invalid("metadata.generation", meta.get("generation", 0), "must not be decremented"))
    errors += [
        invalid(f"metadata.{field}", meta.get(field, empty), IMMUTABLE)
        for field, empty in _IMMUTABLE_FIELDS.items()
        if meta.get(field, empty) != before.get(field, empty)
    ]
    errors += _validate_attachments(meta, "metadata")
    errors += _validate_managed_fields(meta.get("managedFields") or (), "metadata.managedFields")
    return errors + (_validate_standard_finalizers(meta, "metadata") if builtin else [])


def validate_labels(labels: Mapping[str, str] | None, path: str) -> list[FieldError]:
    errors = []
    for key, value in (labels or {}).items():
        errors += [invalid(path, key, text) for text in label_key(key)]
        errors += [invalid(path, value, text) for text in label_value(value)]
    return errors


def validate_annotations(annotations: Mapping[str, str] | None, path: str) -> list[FieldError]:
    """Keys as labels have them, in any case; 256 kB in all."""
    annotations = annotations or {}
    errors = [invalid(path, key, text) for key in annotations for text in label_key(key.lower())]
    if sum(_size(key) + _size(value) for key, value in annotations.items()) > MAX_ANNOTATIONS:
        errors.append(too_long(path, MAX_ANNOTATIONS))
    return errors


def validate_finalizer_names(finalizers: Iterable[str], path: str) -> list[FieldError]:
    """Standard names or qualified ones (also a Namespace's `spec.finalizers`)."""
    return [invalid(path, finalizer, text) for finalizer in finalizers for text in label_key(finalizer)]


_IMMUTABLE_FIELDS: dict[str, str | None] = {
    "name": "",
    "namespace": "",
    "uid": "",
    "creationTimestamp": None,
    "deletionTimestamp": None,
    "deletionGracePeriodSeconds": None,
}
_OWNER_FIELDS = ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")
_STANDARD_FINALIZERS = {"kubernetes", "orphan", "foregroundDeletion"}


def _validate_attachments(meta: Mapping[str, Any], prefix: str) -> list[FieldError]:
    return [
        *validate_labels(meta.get("labels"), f"{prefix}.labels"),
        *validate_annotations(meta.get("annotations"), f"{prefix}.annotations"),
        *_validate_owners(meta.get("ownerReferences") or (), f"{prefix}.ownerReferences"),
    ]


def _validate_owners(owners: Sequence[Mapping[str, Any]], path: str) -> list[FieldError]:
    errors = []
    controller = ""
    for owner in owners:
        api_version, kind = owner.get("apiVersion", ""), owner.get("kind", "")
        if not api_version.rpartition("/")[2] or api_version.count("/") > 1:
            errors.append(invalid(f"{path}.apiVersion", api_version, "version must not be empty"))
        errors += [invalid(f"{path}.{key}", "", "must not be empty") for key in ("kind", "name", "uid") if not owner.get(key)]
        if (api_version, kind) == ("v1", "Event"):
            errors.append(invalid(path, _ordered(owner), "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            this = f"{kind}/{owner.get('name', '')}"
            if controller:
                shown = [_ordered(each) for each in owners]
                message = (
                    "Only one reference can have Controller set to true."
                    f' Found "true" in references for {controller} and {this}'
                )
                errors.append(invalid(path, shown, message))
            else:
                controller = this
    return errors


def _ordered(owner: Mapping[str, Any]) -> dict[str, Any]:
    """An owner reference with its fields in the API's order, as messages show it."""
    return {key: owner.get(key, "") for key in _OWNER_FIELDS if key in owner or key in _OWNER_FIELDS[:4]}


def _validate_finalizers(finalizers: Sequence[str], path: str) -> list[FieldError]:
    errors = validate_finalizer_names(finalizers, path)
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        errors.append(invalid(path, list(finalizers), "finalizer orphan and foregroundDeletion cannot be both set"))
    return errors


def _validate_standard_finalizers(meta: Mapping[str, Any], prefix: str) -> list[FieldError]:
    return [
        invalid(f"{prefix}.finalizers[{i}]", finalizer, "name is neither a standard finalizer name nor is it fully qualified")
        for i, finalizer in enumerate(meta.get("finalizers") or ())
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS
    ]


def _validate_managed_fields(entries: Sequence[Mapping[str, Any]], path: str) -> list[FieldError]:
    errors = []
    for i, entry in enumerate(entries):
        if entry.get("operation") not in ("Apply", "Update"):
            errors.append(invalid(f"{path}[{i}].operation", entry.get("operation", ""), "must be `Apply` or `Update`"))
        if entry.get("fieldsType", "FieldsV1") not in ("", "FieldsV1"):
            errors.append(invalid(f"{path}[{i}].fieldsType", entry["fieldsType"], "must be `FieldsV1`"))
        errors += validate_field_manager(entry.get("manager", ""), f"{path}[{i}].manager")
        if _size(entry.get("subresource", "")) > 256:
            errors.append(too_long(f"{path}[{i}].subresource", 256))
    return errors


def validate_field_manager(manager: str, path: str = "fieldManager") -> list[FieldError]:
    """At most 128 bytes, all printable."""
    if len(manager) <= 128 and manager.isascii() and manager.isprintable():
        return []
    errors = [too_long(path, 128)] if _size(manager) > 128 else []
    for position, character in enumerate(manager):
        if not character.isprintable() or (character.isspace() and character != " "):
            at = f"U+{ord(character):04X} (at position {len(manager[:position].encode())})"
            errors.append(invalid(path, manager, f"invalid character {at}"))
    return errors


# --- patterns ------------------------------------------------------------------------------------------------------------


_LABEL_RE = re.compile(_LABEL)
_LABEL_1035_RE = re.compile(_LABEL_1035)
_SUBDOMAIN_RE = re.compile(_SUBDOMAIN)
_KEY_RE = re.compile(_KEY)
_VALUE_RE = re.compile(_VALUE)
_CONFIG_KEY_RE = re.compile("[-._a-zA-Z0-9]+")

_LABEL_ERROR = pattern_error(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an"
    " alphanumeric character",
    _LABEL,
    "my-name",
    "123-abc",
)
_SUBDOMAIN_ERROR = pattern_error(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end"
    " with an alphanumeric character",
    _SUBDOMAIN,
    "example.com",
)
_LABEL_1035_ERROR = pattern_error(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end"
    " with an alphanumeric character",
    _LABEL_1035,
    "my-name",
    "abc-123",
)
_KEY_ERROR = pattern_error(_KEY_RULE, _KEY, "MyName", "my.name", "123-abc")
_VALUE_ERROR = pattern_error(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end"
    " with an alphanumeric character",
    _VALUE,
    "MyValue",
    "my_value",
    "12345",
)
_CONFIG_KEY_ERROR = pattern_error(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    "[-._a-zA-Z0-9]+",
    "key.name",
    "KEY_NAME",
    "key-name",
)


def _pattern(pattern: re.Pattern[str], value: str, maximum: int, error: str) -> list[str]:
    errors = [too_many_characters(maximum)] if maximum and _size(value) > maximum else []
    return errors if pattern.fullmatch(value) else [*errors, error]


def _size(text: str) -> int:
    """In bytes of UTF-8, as the API counts."""
    return len(text) if text.isascii() else len(text.encode())
