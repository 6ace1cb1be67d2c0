"""Where a container mounts the pod's volumes: `volumeMounts` and `volumeDevices`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from minik8s.api.errors import forbidden, invalid, not_found, required
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.pod.paths import local_path, no_backsteps


def validate_mounts(container: Frozen, volumes: Mapping[str, Frozen], path: str) -> Errors:
    """`volumes` are the pod's usable ones, by name."""
    mounts: Sequence[Frozen] = container.get("volumeMounts") or ()
    devices: Sequence[Frozen] = container.get("volumeDevices") or ()
    device_paths = {d.get("name", ""): d.get("devicePath", "") for d in devices}
    seen: set[str] = set()
    for i, mount in enumerate(mounts):
        yield from _mount(mount, i, f"{path}.volumeMounts", volumes, device_paths, seen)
        if mount.get("mountPropagation") is not None:
            yield from _propagation(mount["mountPropagation"], f"{path}.volumeMounts.mountPropagation", container)
        if mount.get("recursiveReadOnly") is not None:
            yield from _recursive(mount, f"{path}.volumeMounts.recursiveReadOnly")
    if devices:
        mount_paths = {m.get("name", ""): m.get("mountPath", "") for m in mounts}
        yield from _devices(devices, f"{path}.volumeDevices", volumes, mount_paths)


def _mount(
    mount: Frozen, i: int, path: str, volumes: Mapping[str, Frozen], device_paths: Mapping[str, str], seen: set[str]
) -> Errors:
    name, target = mount.get("name", ""), mount.get("mountPath", "")
    if not name:
        yield required(f"{path}[{i}].name")
    if name not in volumes:
        yield not_found(f"{path}[{i}].name", name)
    if not target:
        yield required(f"{path}[{i}].mountPath")
    if target in seen:
        yield invalid(f"{path}[{i}].mountPath", target, "must be unique")
    seen.add(target)
    if name in device_paths:
        yield invalid(f"{path}[{i}].name", name, "must not already exist in volumeDevices")
    if target in device_paths.values():
        yield invalid(f"{path}[{i}].mountPath", target, "must not already exist as a path in volumeDevices")
    if sub_path := mount.get("subPath"):
        yield from local_path(sub_path, f"{path}.subPath")
    if expression := mount.get("subPathExpr"):
        if sub_path:
            yield invalid(f"{path}[{i}].subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
        yield from local_path(expression, f"{path}.subPathExpr")


def _propagation(value: str, path: str, container: Frozen) -> Errors:
    yield from checks.one_of(value, path, ("Bidirectional", "HostToContainer", "None"))
    if value == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
        yield forbidden(path, "Bidirectional mount propagation is available only to privileged containers")


def _recursive(mount: Frozen, path: str) -> Errors:
    value = mount["recursiveReadOnly"]
    if value in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            yield forbidden(path, "may only be specified when readOnly is true")
        if mount.get("mountPropagation", "None") != "None":
            yield forbidden(path, "may only be specified when mountPropagation is None or not specified")
    else:
        yield from checks.one_of(value, path, ("Disabled", "Enabled", "IfPossible"))


def _devices(devices: Sequence[Frozen], path: str, volumes: Mapping[str, Frozen], mount_paths: Mapping[str, str]) -> Errors:
    seen_names: set[str] = set()
    seen_paths: set[str] = set()
    for i, device in enumerate(devices):
        here, name, target = f"{path}[{i}]", device.get("name", ""), device.get("devicePath", "")
        if not name:
            yield required(f"{here}.name")
        if name in seen_names:
            yield invalid(f"{here}.name", name, "must be unique")
        if name not in volumes:
            yield not_found(f"{here}.name", name)
        elif not volumes[name].keys() & {"persistentVolumeClaim", "ephemeral"}:
            text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            yield invalid(f"{here}.name", name, text)
        if not target:
            yield required(f"{here}.devicePath")
        if target in seen_paths:
            yield invalid(f"{here}.devicePath", target, "must be unique")
        if any(no_backsteps(target, here)):
            yield invalid(f"{here}.devicePath", target, "can not contain backsteps ('..')")
        else:
            seen_paths.add(target)
        if name in mount_paths:
            yield invalid(f"{here}.name", name, "must not already exist in volumeMounts")
        if target in mount_paths.values():
            yield invalid(f"{here}.devicePath", target, "must not already exist as a path in volumeMounts")
        if name:
            seen_names.add(name)
