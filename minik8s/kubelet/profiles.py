"""Which seccomp and AppArmor profile a container runs under, out of its pod. Pure.

The container's own field goes first, then (AppArmor, in pods that no API server has brought up to date: static ones) the annotation of
old, then the pod's field. Sources: v1.SeccompProfile, v1.AppArmorProfile, KEP-24.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.kubelet.env import ConfigError
from minik8s.kubelet.pod import ContainerSpec, Pod, all_containers
from minik8s.kubelet.site import Site

APPARMOR_NOTE = "container.apparmor.security.beta.kubernetes.io/"

Profile = Mapping[str, Any]


def seccomp(pod: Pod, container: ContainerSpec, site: Site) -> str:
    """As `runtime.base.Security` has it. ConfigError where a local one isn't named."""
    profile = _own(container, "seccompProfile") or _own(pod["spec"], "seccompProfile")
    if profile is None:
        return "RuntimeDefault" if site.seccomp_default else "Unconfined"
    if profile["type"] != "Localhost":
        return str(profile["type"])
    if not profile.get("localhostProfile"):
        raise ConfigError("localhostProfile must be set if seccompProfile type is Localhost.")
    return str(site.layout.seccomp / profile["localhostProfile"])


def apparmor(pod: Pod, container: ContainerSpec) -> str:
    """As `runtime.base.Security` has it."""
    note = _noted(pod, container["name"])
    profile = _own(container, "appArmorProfile") or note or _own(pod["spec"], "appArmorProfile")
    if profile is None:
        return ""
    return f"localhost/{profile['localhostProfile']}" if profile["type"] == "Localhost" else str(profile["type"])


def wants_apparmor(pod: Pod) -> bool:
    """Whether any profile but Unconfined is asked for."""
    everybody = (pod["spec"], *(container for _, container in all_containers(pod)))
    asked = [profile["type"] for one in everybody if (profile := _own(one, "appArmorProfile"))]
    notes = (pod["metadata"].get("annotations") or {}).items()
    asked += [note for key, note in notes if key.startswith(APPARMOR_NOTE)]
    return any(kind not in ("Unconfined", "unconfined") for kind in asked)


def _own(spec: Mapping[str, Any], field: str) -> Profile | None:
    return (spec.get("securityContext") or {}).get(field)


def _noted(pod: Pod, name: str) -> Profile | None:
    if note := (pod["metadata"].get("annotations") or {}).get(APPARMOR_NOTE + name):
        from minik8s.api.kinds.pod.pod_annotations import app_armor_profile  # late: few pods have one

        return app_armor_profile(note)
    return None
