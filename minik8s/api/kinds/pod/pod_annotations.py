"""Annotations with a meaning for pods: mirror pods, deletion costs, and what once said seccomp and AppArmor profiles."""

from __future__ import annotations

import re
from typing import Any

from minik8s.api.errors import forbidden, invalid
from minik8s.api.kind import Frozen
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.pod.paths import local_path
from minik8s.api.kinds.pod.validation_security import all_containers

MIRROR = "kubernetes.io/config.mirror"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_LOCAL = "localhost/"
_COST = re.compile(r"0|-?[1-9][0-9]*")


def validate_annotations(notes: Frozen, spec: Frozen, path: str) -> Errors:
    """Annotations of a pod, or of a template, with its spec."""
    if MIRROR in notes and not spec.get("nodeName"):
        yield invalid(f"{path}[{MIRROR}]", notes[MIRROR], "must set spec.nodeName if mirror pod annotation is set")
    if (cost := notes.get(DELETION_COST)) is not None and not (_COST.fullmatch(cost) and -(2**31) <= int(cost) < 2**31):
        yield invalid(f"{path}[{DELETION_COST}]", cost, "must be a 32bit integer")
    for key, value in notes.items():
        if key == SECCOMP_POD or key.startswith(SECCOMP_CONTAINER):
            yield from _seccomp(value, f"{path}.{key}")
        elif key.startswith(APP_ARMOR):
            yield from _app_armor(key, value, spec, f"{path}[{key}]")


def validate_profiles(notes: Frozen, spec: Frozen, path: str) -> Errors:
    """Where an annotation and a field both name a profile, they agree (creation and templates)."""
    of_pod = (spec.get("securityContext") or {}).get("seccompProfile")
    if of_pod is not None and SECCOMP_POD in notes:
        here = f"{path}.securityContext.seccompProfile"
        yield from _agree("seccomp", notes[SECCOMP_POD], of_pod, here, ("runtime/default", "docker/default"))
    for container, at in all_containers(spec, path):
        profile = (container.get("securityContext") or {}).get("seccompProfile")
        note = notes.get(SECCOMP_CONTAINER + container.get("name", ""))
        if profile is not None and note is not None:
            here = f"{at}.securityContext.seccompProfile"
            yield from _agree("seccomp", note, profile, here, ("runtime/default", "docker/default"))
    if (spec.get("os") or {}).get("name") == "windows":
        return
    default = (spec.get("securityContext") or {}).get("appArmorProfile")
    for container, at in all_containers(spec, path):
        profile = (container.get("securityContext") or {}).get("appArmorProfile") or default
        note = notes.get(APP_ARMOR + container.get("name", ""))
        if profile is not None and note is not None:
            here = f"{at}.securityContext.appArmorProfile"
            yield from _agree("apparmor", note, profile, here, ("runtime/default",))


def validate_annotation_update(new: Frozen, old: Frozen, path: str) -> Errors:
    """A pod's AppArmor and mirror annotations stay as they are."""
    for key, value in old.items():
        if new.get(key) != value and (what := _fixed(key)):
            yield forbidden(f"{path}[{key}]", f"may not remove or update {what}")
    for key in new:
        if key not in old and (what := _fixed(key)):
            yield forbidden(f"{path}[{key}]", f"may not add {what}")


def app_armor_profile(note: str) -> dict[str, Any] | None:
    """The AppArmorProfile that the annotation's value stands for, None where it stands for none."""
    if note == "unconfined":
        return {"type": "Unconfined"}
    if note == "runtime/default":
        return {"type": "RuntimeDefault"}
    if note.startswith(_LOCAL) and (local := note.removeprefix(_LOCAL)) and local == local.strip():
        return {"type": "Localhost", "localhostProfile": local}
    return None


def _fixed(key: str) -> str:
    if key.startswith(APP_ARMOR):
        return "AppArmor annotations"
    return "mirror pod annotation" if key == MIRROR else ""


def _seccomp(value: str, path: str) -> Errors:
    if value in ("runtime/default", "docker/default", "unconfined"):
        return
    if value.startswith(_LOCAL):
        yield from local_path(value.removeprefix(_LOCAL), path)
    else:
        yield invalid(path, value, "must be a valid seccomp profile")


def _app_armor(key: str, value: str, spec: Frozen, path: str) -> Errors:
    name = key.removeprefix(APP_ARMOR)
    if not any(container.get("name") == name for container, _ in all_containers(spec, "")):
        yield invalid(path, name, "container not found")
    if value not in ("", "runtime/default", "unconfined") and not value.startswith(_LOCAL):
        yield invalid(path, value, f'invalid AppArmor profile name: "{value}"')


def _agree(what: str, note: str, profile: Frozen, path: str, defaults: tuple[str, ...]) -> Errors:
    kind = profile.get("type")
    expected = {"Unconfined": ("unconfined",), "RuntimeDefault": defaults}.get(str(kind))
    if (expected and note not in expected) or (kind == "Localhost" and not note.startswith(_LOCAL)):
        yield forbidden(f"{path}.type", f"{what} type in annotation and field must match")
    elif kind == "Localhost" and note.removeprefix(_LOCAL) != profile.get("localhostProfile"):
        yield forbidden(f"{path}.localhostProfile", f"{what} profile in annotation and field must match")
