"""The Pod Security Standards as tables: what a pod may not ask for at a level, in each version of the policies.

`evaluate` is all that others call. A check is its id, its level and the minor version of Kubernetes from which each of its tests holds; a
test looks at a pod's metadata and spec and says in a reason and a detail what it found, or None. Restricted adds its checks to those of
baseline, but for the ones that it replaces. Sources: "Pod Security Standards" of the Kubernetes documentation, KEP-2579, KEP-127 (user
namespaces); the words are upstream's, since people look for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from minik8s.api.kind import Frozen
from minik8s.apiserver.admission.podsecurity import PRIVILEGED, RESTRICTED

HOST_IMAGE = "minik8s.local/host"
"""The image that is the node's own file system: to hold it is to hold a hostPath."""

Finding = tuple[str, str] | None
"""(reason, detail)"""
Test = Callable[[Frozen, Frozen], Finding]


def evaluate(level: str, minor: int | None, metadata: Frozen, spec: Frozen) -> list[tuple[str, str]]:
    """What speaks against a pod at a level, by the policies of Kubernetes 1.`minor`, the latest where that is None."""
    if level == PRIVILEGED:
        return []
    newest = _NEWEST if minor is None else min(minor, _NEWEST)
    return [found for test in _tests(level, newest) if (found := test(metadata, spec)) is not None]


def in_words(findings: Iterable[tuple[str, str]]) -> str:
    """What was found, as messages and warnings tell it."""
    return ", ".join(f"{reason} ({detail})" for reason, detail in findings)


# --- what tests are made of ------------------------------------------------------------------------------------------


def _containers(spec: Frozen) -> Iterator[Frozen]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def _security(holder: Frozen) -> Frozen:
    return holder.get("securityContext") or {}


def _plural(word: str, items: Sequence[Any]) -> str:
    return word if len(items) == 1 else f"{word}s"


def _uses(items: Sequence[Any]) -> str:
    return "uses" if len(items) == 1 else "use"


def _quoted(items: Iterable[str]) -> str:
    return ", ".join(f'"{item}"' for item in items)


def _named(containers: Sequence[str]) -> str:
    return f"{_plural('container', containers)} {_quoted(containers)}"


def _offenders(spec: Frozen, bad: Callable[[Frozen], bool]) -> list[str]:
    """The names of containers whose security context is bad."""
    return [container["name"] for container in _containers(spec) if bad(_security(container))]


def _setters(spec: Frozen, bad: Callable[[Frozen], bool]) -> list[str]:
    """Who has a bad security context: the pod, and its containers in one."""
    containers = _offenders(spec, bad)
    return ["pod"] * bad(_security(spec)) + ([_named(containers)] if containers else [])


def _bad_values(spec: Frozen, bad: Callable[[Frozen], Iterable[str]]) -> tuple[list[str], list[str]]:
    """(containers whose values are bad, those values)"""
    found = [(container["name"], values) for container in _containers(spec) if (values := list(bad(container)))]
    return [name for name, _ in found], sorted({value for _, values in found for value in values})


def _own_user_namespace(spec: Frozen) -> bool:
    return spec.get("hostUsers") is False


def _unless(excused: Callable[[Frozen], bool], test: Test) -> Test:
    return lambda metadata, spec: None if excused(spec) else test(metadata, spec)


def _windows(spec: Frozen) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


# --- baseline --------------------------------------------------------------------------------------------------------


def _app_armor(metadata: Frozen, spec: Frozen) -> Finding:
    setters, values = _bad_profiles(spec, "appArmorProfile")
    annotations = sorted(
        f'{key}="{value}"'
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith("container.apparmor.security.beta.kubernetes.io/")
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    )
    if annotations:
        setters.append(_plural("annotation", annotations))
    if not setters:
        return None
    shown = values + annotations
    return (
        _plural("forbidden AppArmor profile", shown),
        f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(shown)}",
    )


def _bad_profiles(spec: Frozen, field: str) -> tuple[list[str], list[str]]:
    """(who sets a profile that is neither the runtime's nor a local one, the types)"""
    values: set[str] = set()

    def bad(security: Frozen) -> bool:
        profile = security.get(field)
        if profile is None or profile.get("type") in ("RuntimeDefault", "Localhost"):
            return False
        values.add(profile.get("type", ""))
        return True

    return _setters(spec, bad), sorted(values)


def _added_capabilities(allowed: Sequence[str], container: Frozen) -> list[str]:
    added = (_security(container).get("capabilities") or {}).get("add") or ()
    return [capability for capability in added if capability not in allowed]


def _default_capabilities(_: Frozen, spec: Frozen) -> Finding:
    containers, added = _bad_values(spec, partial(_added_capabilities, _DEFAULT_CAPABILITIES))
    if not containers:
        return None
    return (
        "non-default capabilities",
        f"{_named(containers)} must not include {_quoted(added)} in securityContext.capabilities.add",
    )


_DEFAULT_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)


def _host_namespaces(_: Frozen, spec: Frozen) -> Finding:
    shared = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    return ("host namespaces", ", ".join(shared)) if shared else None


def _host_paths(_: Frozen, spec: Frozen) -> Finding:
    volumes = [volume["name"] for volume in spec.get("volumes") or () if "hostPath" in volume]
    return ("hostPath volumes", f"{_plural('volume', volumes)} {_quoted(volumes)}") if volumes else None


def _host_image(_: Frozen, spec: Frozen) -> Finding:
    """Ours alone: no other Kubernetes has such an image."""
    names = [container["name"] for container in _containers(spec) if _is_host_image(container.get("image", ""))]
    names += [
        volume["name"]
        for volume in spec.get("volumes") or ()
        if _is_host_image((volume.get("image") or {}).get("reference", ""))
    ]
    return ("host image", f'{_quoted(names)} must not use image "{HOST_IMAGE}"') if names else None


def _is_host_image(image: str) -> bool:
    return image.partition("@")[0].partition(":")[0] == HOST_IMAGE


def _host_ports(_: Frozen, spec: Frozen) -> Finding:
    containers, ports = _bad_values(
        spec, lambda container: (str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort"))
    )
    if not containers:
        return None
    return "hostPort", f"{_named(containers)} {_uses(containers)} {_plural('hostPort', ports)} {', '.join(ports)}"


def _hosts_of_probes(_: Frozen, spec: Frozen) -> Finding:
    containers, hosts = _bad_values(spec, _hosts)
    if not containers:
        return None
    what = _plural("probe or lifecycle host", hosts)
    return "probe or lifecycle host", f"{_named(sorted(set(containers)))} {_uses(containers)} {what} {_quoted(hosts)}"


def _hosts(container: Frozen) -> Iterator[str]:
    lifecycle = container.get("lifecycle") or {}
    handlers = [container.get(probe) for probe in ("livenessProbe", "readinessProbe", "startupProbe")]
    for handler in (*handlers, lifecycle.get("postStart"), lifecycle.get("preStop")):
        for action in ("httpGet", "tcpSocket"):
            if host := ((handler or {}).get(action) or {}).get("host"):
                yield host


def _privileged(_: Frozen, spec: Frozen) -> Finding:
    containers = _offenders(spec, lambda security: bool(security.get("privileged")))
    return ("privileged", f"{_named(containers)} must not set securityContext.privileged=true") if containers else None


def _proc_mount(_: Frozen, spec: Frozen) -> Finding:
    def bad(container: Frozen) -> list[str]:
        mount = _security(container).get("procMount", "Default")
        return [mount] if mount != "Default" else []

    containers, mounts = _bad_values(spec, bad)
    if not containers:
        return None
    return "procMount", f"{_named(containers)} must not set securityContext.procMount to {_quoted(mounts)}"


def _selinux(allowed: Sequence[str], _: Frozen, spec: Frozen) -> Finding:
    types: set[str] = set()
    fields: set[str] = set()

    def bad(security: Frozen) -> bool:
        options = security.get("seLinuxOptions") or {}
        wrong = {field for field in ("user", "role") if options.get(field)}
        fields.update(wrong)
        if (kind := options.get("type", "")) and kind not in allowed:
            types.add(kind)
            return True
        return bool(wrong)

    setters = _setters(spec, bad)
    if not setters:
        return None
    data = [f"{_plural('type', sorted(types))} {_quoted(sorted(types))}"] if types else []
    data += [f"{field} may not be set" for field in ("user", "role") if field in fields]
    return "seLinuxOptions", f"{' and '.join(setters)} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}"


_SELINUX_TYPES = ("container_t", "container_init_t", "container_kvm_t")


def _seccomp_annotations(metadata: Frozen, spec: Frozen) -> Finding:
    annotations = metadata.get("annotations") or {}
    keys = ["seccomp.security.alpha.kubernetes.io/pod"]
    keys += [f"container.seccomp.security.alpha.kubernetes.io/{container['name']}" for container in _containers(spec)]
    wrong = sorted(
        f'{key}="{value}"'
        for key in dict.fromkeys(keys)
        if (value := annotations.get(key)) is not None
        and value not in ("runtime/default", "docker/default")
        and not value.startswith("localhost/")
    )
    return ("seccompProfile", f"forbidden {_plural('annotation', wrong)} {', '.join(wrong)}") if wrong else None


def _seccomp(_: Frozen, spec: Frozen) -> Finding:
    setters, values = _bad_profiles(spec, "seccompProfile")
    if not setters:
        return None
    return "seccompProfile", f"{' and '.join(setters)} must not set securityContext.seccompProfile.type to {_quoted(values)}"


def _sysctls(allowed: Sequence[str], _: Frozen, spec: Frozen) -> Finding:
    names = [sysctl["name"] for sysctl in _security(spec).get("sysctls") or () if sysctl["name"] not in allowed]
    return ("forbidden sysctls", ", ".join(names)) if names else None


_SYSCTLS_0 = (
    "kernel.shm_rmid_forced",
    *(
        f"net.ipv4.{name}"
        for name in ("ip_local_port_range", "tcp_syncookies", "ping_group_range", "ip_unprivileged_port_start")
    ),
)
_SYSCTLS_27 = (*_SYSCTLS_0, "net.ipv4.ip_local_reserved_ports")
_SYSCTLS_29 = (
    *_SYSCTLS_27,
    *(f"net.ipv4.tcp_{name}" for name in ("keepalive_time", "fin_timeout", "keepalive_intvl", "keepalive_probes")),
)
_SYSCTLS_32 = (*_SYSCTLS_29, "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem")


def _host_process(_: Frozen, spec: Frozen) -> Finding:
    setters = _setters(spec, lambda security: bool((security.get("windowsOptions") or {}).get("hostProcess")))
    if not setters:
        return None
    return "hostProcess", f"{' and '.join(setters)} must not set securityContext.windowsOptions.hostProcess=true"


# --- restricted ------------------------------------------------------------------------------------------------------


def _privilege_escalation(_: Frozen, spec: Frozen) -> Finding:
    containers = _offenders(spec, lambda security: security.get("allowPrivilegeEscalation") is not False)
    if not containers:
        return None
    return "allowPrivilegeEscalation != false", f"{_named(containers)} must set securityContext.allowPrivilegeEscalation=false"


def _dropped_capabilities(_: Frozen, spec: Frozen) -> Finding:
    keeping = _offenders(spec, lambda security: "ALL" not in ((security.get("capabilities") or {}).get("drop") or ()))
    adding, added = _bad_values(spec, partial(_added_capabilities, ("NET_BIND_SERVICE",)))
    details = []
    if keeping:
        details.append(f'{_named(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        details.append(f"{_named(adding)} must not include {_quoted(added)} in securityContext.capabilities.add")
    return ("unrestricted capabilities", "; ".join(details)) if details else None


def _volume_types(_: Frozen, spec: Frozen) -> Finding:
    bad = [
        (volume["name"], next((field for field in volume if field != "name"), "unknown"))
        for volume in spec.get("volumes") or ()
        if not any(field in volume for field in _VOLUMES)
    ]
    if not bad:
        return None
    names, types = [name for name, _ in bad], sorted({kind for _, kind in bad})
    what = f"{_plural('restricted volume type', types)} {_quoted(types)}"
    return "restricted volume types", f"{_plural('volume', names)} {_quoted(names)} {_uses(names)} {what}"


_VOLUMES = (
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"),
)


def _non_root(_: Frozen, spec: Frozen) -> Finding:
    if setters := _setters(spec, lambda security: security.get("runAsNonRoot") is False):
        return "runAsNonRoot != true", f"{' and '.join(setters)} must not set securityContext.runAsNonRoot=false"
    if _security(spec).get("runAsNonRoot"):
        return None
    silent = _offenders(spec, lambda security: "runAsNonRoot" not in security)
    if not silent:
        return None
    return "runAsNonRoot != true", f"pod or {_named(silent)} must set securityContext.runAsNonRoot=true"


def _root_user(_: Frozen, spec: Frozen) -> Finding:
    setters = _setters(spec, lambda security: security.get("runAsUser") == 0)
    return ("runAsUser=0", f"{' and '.join(setters)} must not set runAsUser=0") if setters else None


def _seccomp_set(metadata: Frozen, spec: Frozen) -> Finding:
    if (found := _seccomp(metadata, spec)) or "seccompProfile" in _security(spec):
        return found
    silent = _offenders(spec, lambda security: "seccompProfile" not in security)
    if not silent:
        return None
    allowed = 'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return "seccompProfile", f"pod or {_named(silent)} must set {allowed}"


# --- the tables ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """`since` holds each test with the minor version from which it counts, in rising order."""

    id: str
    since: Sequence[tuple[int, Test]]
    replaces: str = ""


_BASELINE = (
    Check("appArmorProfile", [(0, _app_armor)]),
    Check("capabilities_baseline", [(0, _default_capabilities)]),
    Check("hostNamespaces", [(0, _host_namespaces)]),
    Check("hostPathImages", [(0, _host_image)]),
    Check("hostPathVolumes", [(0, _host_paths)]),
    Check("hostPorts", [(0, _host_ports)]),
    Check("hostProbesAndHostLifecycle", [(34, _hosts_of_probes)]),
    Check("privileged", [(0, _privileged)]),
    Check("procMount", [(0, _proc_mount), (35, _unless(_own_user_namespace, _proc_mount))]),
    Check(
        "seLinuxOptions",
        [(0, partial(_selinux, _SELINUX_TYPES)), (31, partial(_selinux, (*_SELINUX_TYPES, "container_engine_t")))],
    ),
    Check("seccompProfile_baseline", [(0, _seccomp_annotations), (19, _seccomp)]),
    Check(
        "sysctls",
        [
            (0, partial(_sysctls, _SYSCTLS_0)),
            (27, partial(_sysctls, _SYSCTLS_27)),
            (29, partial(_sysctls, _SYSCTLS_29)),
            (32, partial(_sysctls, _SYSCTLS_32)),
        ],
    ),
    Check("windowsHostProcess", [(0, _host_process)]),
)
_RESTRICTED = (
    Check("allowPrivilegeEscalation", [(8, _privilege_escalation), (25, _unless(_windows, _privilege_escalation))]),
    Check(
        "capabilities_restricted",
        [(22, _dropped_capabilities), (25, _unless(_windows, _dropped_capabilities))],
        "capabilities_baseline",
    ),
    Check("procMount_restricted", [(35, _proc_mount)], "procMount"),
    Check("restrictedVolumes", [(0, _volume_types)], "hostPathVolumes"),
    Check("runAsNonRoot", [(0, _non_root), (35, _unless(_own_user_namespace, _non_root))]),
    Check("runAsUser", [(23, _root_user), (35, _unless(_own_user_namespace, _root_user))]),
    Check(
        "seccompProfile_restricted",
        [(19, _seccomp_set), (25, _unless(_windows, _seccomp_set))],
        "seccompProfile_baseline",
    ),
)
_NEWEST = max(check.since[-1][0] for check in (*_BASELINE, *_RESTRICTED))


@cache
def _tests(level: str, minor: int) -> tuple[Test, ...]:
    """In upstream's order: baseline's first, each level's by their ids (as the tables above stand)."""
    chosen = {check.id: test for check in _BASELINE if (test := _test_at(check, minor))}
    if level == RESTRICTED:
        for check in _RESTRICTED:
            if test := _test_at(check, minor):
                chosen.pop(check.replaces, None)
                chosen[check.id] = test
    return tuple(chosen.values())


def _test_at(check: Check, minor: int) -> Test | None:
    return next((test for since, test in reversed(check.since) if since <= minor), None)
