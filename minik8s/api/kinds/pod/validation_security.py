"""Security contexts of containers and pods, and what they allow together; what may not be said of Windows and of Linux pods."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from minik8s.api import names
from minik8s.api.errors import duplicate, forbidden, invalid, required, too_long
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.pod.paths import local_path

MAX_ID = 2**31 - 1


def all_containers(spec: Frozen, path: str) -> Iterator[tuple[Frozen, str]]:
    """Every container with its path: init containers first."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(spec.get(key) or ()):
            yield container, f"{path}.{key}[{i}]"


def validate_security_context(context: Frozen, path: str, *, host_users: bool) -> Errors:
    """A container's securityContext."""
    for key in ("runAsUser", "runAsGroup"):
        if context.get(key) is not None:
            yield from checks.between(context[key], 0, MAX_ID, f"{path}.{key}")
    if (mount := context.get("procMount")) is not None:
        yield from checks.one_of(mount, f"{path}.procMount", ("Default", "Unmasked"))
        if mount == "Unmasked" and host_users:
            yield invalid(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`")
    yield from _profiles(context, path, ("seccompProfile",))
    if context.get("allowPrivilegeEscalation") is False:
        text = "cannot set `allowPrivilegeEscalation` to false and "
        if context.get("privileged"):
            yield invalid(path, dict(context), text + "`privileged` to true")
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            yield invalid(path, dict(context), text + "`capabilities.Add` CAP_SYS_ADMIN")
    yield from _profiles(context, path, ("windowsOptions", "appArmorProfile"))


def validate_pod_security_context(spec: Frozen, path: str) -> Errors:
    """A pod's securityContext, and `shareProcessNamespace`, which upstream reports in it."""
    context = spec.get("securityContext") or {}
    for key in ("fsGroup", "runAsUser", "runAsGroup"):
        if context.get(key) is not None:
            yield from checks.between(context[key], 0, MAX_ID, f"{path}.{key}")
    for i, group in enumerate(context.get("supplementalGroups") or ()):
        yield from checks.between(group, 0, MAX_ID, f"{path}.supplementalGroups[{i}]")
    if spec.get("hostPID") and spec.get("shareProcessNamespace"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield invalid(f"{path}.shareProcessNamespace", True, text)
    yield from _sysctls(context.get("sysctls") or (), f"{path}.sysctls", spec)
    if (policy := context.get("fsGroupChangePolicy")) is not None:
        yield from checks.one_of(policy, f"{path}.fsGroupChangePolicy", ("Always", "OnRootMismatch"))
    yield from _profiles(context, path, ("seccompProfile", "windowsOptions", "appArmorProfile"))
    if (policy := context.get("supplementalGroupsPolicy")) is not None:
        yield from checks.one_of(policy, f"{path}.supplementalGroupsPolicy", ("Merge", "Strict"))
    if (policy := context.get("seLinuxChangePolicy")) is not None:
        yield from checks.one_of(policy, f"{path}.seLinuxChangePolicy", ("Recursive",))


def validate_host_users(spec: Frozen, path: str) -> Errors:
    """A pod with users of its own (`hostUsers: false`) shares no namespace of the host."""
    for key, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
        if spec.get(key):
            yield forbidden(f"{path}.{shown}", "when `hostUsers` is false")
    for container, here in all_containers(spec, path):
        if container.get("volumeDevices"):
            yield forbidden(f"{here}.volumeDevices", "when `hostUsers` is false")


# --- profiles --------------------------------------------------------------------------------------------------------


def _profiles(context: Frozen, path: str, keys: Sequence[str]) -> Errors:
    for key in keys:
        if (profile := context.get(key)) is not None:
            yield from _PROFILES[key](profile, f"{path}.{key}")


def _seccomp(profile: Frozen, path: str) -> Errors:
    kind, local = profile.get("type", ""), profile.get("localhostProfile")
    if not kind:
        yield required(f"{path}.type", "type is required when seccompProfile is set")
    else:
        yield from checks.one_of(kind, f"{path}.type", ("Localhost", "RuntimeDefault", "Unconfined"))
    if kind != "Localhost":
        if local is not None:
            yield invalid(f"{path}.localhostProfile", dict(profile), "can only be set when seccomp type is Localhost")
    elif local is None:
        yield required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")
    else:
        yield from local_path(local, f"{path}.localhostProfile")


def _app_armor(profile: Frozen, path: str) -> Errors:
    kind, local = profile.get("type", ""), profile.get("localhostProfile")
    if not kind:
        yield required(f"{path}.type", "type is required when appArmorProfile is set")
    elif kind == "Localhost":
        if not local:
            yield required(f"{path}.localhostProfile", "must be set when AppArmor type is Localhost")
        elif local != local.strip():
            yield invalid(f"{path}.localhostProfile", local, "must not be padded with whitespace")
        if local and len(local) > 4095:
            yield too_long(f"{path}.localhostProfile", 4095)
    elif kind in ("RuntimeDefault", "Unconfined"):
        if local is not None:
            yield invalid(f"{path}.localhostProfile", local, "can only be set when AppArmor type is Localhost")
    else:
        yield from checks.one_of(kind, f"{path}.type", ("Localhost", "RuntimeDefault", "Unconfined"))


# --- sysctls ---------------------------------------------------------------------------------------------------------

_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL_FORM = rf"({_SEGMENT}[\./])*{_SEGMENT}"
_SYSCTL = re.compile(_SYSCTL_FORM)
_IPC_SYSCTLS = ("kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced")


def _sysctls(sysctls: Sequence[Frozen], path: str, spec: Frozen) -> Errors:
    seen: set[str] = set()
    for i, sysctl in enumerate(sysctls):
        name, here = sysctl.get("name", ""), f"{path}[{i}].name"
        if not name:
            yield required(here)
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            yield invalid(here, name, f"must have at most 253 characters and match regex ^{_SYSCTL_FORM}$")
        elif name in seen:
            yield duplicate(here, name)
        seen.add(name)
        plain = _dotted(name)
        if spec.get("hostNetwork") and plain.startswith("net."):
            yield invalid(here, name, "may not be specified when 'hostNetwork' is true")
        elif spec.get("hostIPC") and (plain in _IPC_SYSCTLS or plain.startswith(("kernel.msg", "fs.mqueue."))):
            yield invalid(here, name, "may not be specified when 'hostIPC' is true")


def _dotted(name: str) -> str:
    """The name with dots between its parts: where a slash comes first, dots and slashes have changed places."""
    first = min((name.find(c) for c in "./" if c in name), default=-1)
    return name.translate(str.maketrans("./", "/.")) if first >= 0 and name[first] == "/" else name


# --- operating systems -----------------------------------------------------------------------------------------------

_NOT_WINDOWS_POD = (  # in upstream's order: (field, whether it stands in the securityContext)
    ("appArmorProfile", True),
    ("seLinuxOptions", True),
    ("hostUsers", False),
    ("hostPID", False),
    ("hostIPC", False),
    ("seccompProfile", True),
    ("fsGroup", True),
    ("fsGroupChangePolicy", True),
    ("sysctls", True),
    ("shareProcessNamespace", False),
    ("runAsUser", True),
    ("runAsGroup", True),
    ("supplementalGroups", True),
    ("supplementalGroupsPolicy", True),
    ("seLinuxChangePolicy", True),
)
_NOT_WINDOWS_CONTAINER = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)


def validate_os(spec: Frozen, path: str) -> Errors:
    """`spec.os`, and what the system that it names doesn't have."""
    if (system := spec.get("os")) is None:
        return
    name = system.get("name", "")
    if not name:
        yield required(f"{path}.os.name")
    elif name == "linux":
        yield from _linux(spec, path)
    elif name == "windows":
        yield from _windows(spec, path)
    else:
        yield from checks.one_of(name, f"{path}.os", ("linux", "windows"))


def _linux(spec: Frozen, path: str) -> Errors:
    holders: list[tuple[Frozen, str]] = [(spec, path), *all_containers(spec, path)]
    for holder, here in holders:
        if (holder.get("securityContext") or {}).get("windowsOptions") is not None:
            yield forbidden(f"{here}.securityContext.windowsOptions", "windows options cannot be set for a linux pod")


def _windows(spec: Frozen, path: str) -> Errors:
    context = spec.get("securityContext") or {}
    for key, inside in _NOT_WINDOWS_POD:
        value = (context if inside else spec).get(key)
        if value not in (None, False, []) or (value is False and key in ("hostUsers", "shareProcessNamespace")):
            yield forbidden(f"{path}.securityContext.{key}" if inside else f"{path}.{key}", "cannot be set for a windows pod")
    for container, here in all_containers(spec, path):
        inner: Mapping[str, object] = container.get("securityContext") or {}
        for key in _NOT_WINDOWS_CONTAINER:
            if inner.get(key) is not None:
                yield forbidden(f"{here}.securityContext.{key}", "cannot be set for a windows pod")


def validate_host_process(spec: Frozen, path: str) -> Errors:
    """Windows host processes: all containers of a pod, or none."""
    contexts = [(c.get("securityContext") or {}, here) for c, here in all_containers(spec, path)]
    of_pod = ((spec.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess")
    if of_pod is None and not any("windowsOptions" in context for context, _ in contexts):
        return
    count = 0
    for context, here in contexts:
        own = (context.get("windowsOptions") or {}).get("hostProcess")
        if None not in (of_pod, own) and own != of_pod:
            text = f"pod hostProcess value must be identical if both are specified, was {str(of_pod).lower()}"
            yield invalid(f"{here}.securityContext.windowsOptions.hostProcess", own, text)
        count += bool(of_pod if own is None else own)
    if count and count != len(contexts):
        text = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        yield invalid(path, "", text)
    if count and not spec.get("hostNetwork"):
        text = "hostNetwork must be true if pod contains any hostProcess containers"
        yield invalid(f"{path}.hostNetwork", False, text)


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NETBIOS = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}')
_DOMAIN_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*")
_USER_FORBIDDEN = re.compile(r'["/\\:;|=,+*?<>@\[\]]')


def _windows_options(options: Frozen, path: str) -> Errors:
    if (name := options.get("gmsaCredentialSpecName")) is not None:
        yield from checks.name(name, f"{path}.gmsaCredentialSpecName", names.dns_subdomain)
    if (credential := options.get("gmsaCredentialSpec")) is not None:
        if not credential:
            yield invalid(f"{path}.gmsaCredentialSpec", credential, "gmsaCredentialSpec cannot be an empty string")
        elif len(credential) > 64 * 1024:
            yield invalid(f"{path}.gmsaCredentialSpec", credential, "gmsaCredentialSpec size must be under 64 KiB")
    if (user := options.get("runAsUserName")) is not None:
        for problem in _user_name_problems(user):
            yield invalid(f"{path}.runAsUserName", user, f"runAsUserName{problem}")


def _user_name_problems(value: str) -> Iterator[str]:
    if not value:
        yield " cannot be an empty string"
    elif _CONTROL.search(value):
        yield " cannot contain control characters"
    elif value.count("\\") > 1:
        yield " cannot contain more than one backslash"
    else:
        domain, backslash, user = value.rpartition("\\")
        if len(domain) >= 256:
            yield "'s Domain length must be under 256 characters"
        if backslash and not _NETBIOS.fullmatch(domain) and not _DOMAIN.fullmatch(domain):
            yield "'s Domain doesn't match the NetBios nor the DNS format"
        if not user:
            yield "'s User cannot be empty"
        elif len(user) > 104:
            yield "'s User length must not be longer than 104 characters"
        if user and not user.strip(". "):
            yield "'s User cannot contain only periods or spaces"
        if _USER_FORBIDDEN.search(user):
            yield "'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"


_PROFILES = {"seccompProfile": _seccomp, "windowsOptions": _windows_options, "appArmorProfile": _app_armor}
