"""What a pod's volumes may say: one source each, and what that source needs.

`validate_volumes` is the public face. The sources stand in one table, in the order in which they are looked for; those that bring
the pod's own data (configMap, secret, downwardAPI, projected) stand in `validation_projected`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import orjson

from minik8s.api import names, quantity
from minik8s.api.errors import duplicate, forbidden, invalid, required, too_long, unsupported
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks, claimspec
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.pod import validation_projected as projected
from minik8s.api.kinds.pod.paths import local_path, no_backsteps

PULL_POLICIES = ("Always", "IfNotPresent", "Never")


def validate_volumes(volumes: Sequence[Frozen], path: str, pod_name: str | None) -> Errors:
    """`pod_name` is None in a template, whose pods are not known yet."""
    seen: set[str] = set()
    own_claims = {f"{pod_name}-{v.get('name', '')}" for v in volumes if "ephemeral" in v} if pod_name else ()
    for i, volume in enumerate(volumes):
        here, name = f"{path}[{i}]", volume.get("name", "")
        source = () if _is_faultless(volume) else _source(volume, here, name, pod_name)
        errors = [*source, *_name(name, f"{here}.name", seen)]
        if errors:
            yield from errors
        else:
            seen.add(name)
        claim = volume.get("persistentVolumeClaim")
        if own_claims and claim and claim.get("claimName") in own_claims:
            yield invalid(
                f"{here}.persistentVolumeClaim.claimName",
                claim["claimName"],
                "must not reference a PVC that gets created for an ephemeral volume",
            )


def usable_volumes(volumes: Sequence[Frozen], path: str, pod_name: str | None) -> Mapping[str, Frozen]:
    """The volumes that containers may mount, by name: those without an error of their own."""
    usable: dict[str, Frozen] = {}
    for volume in volumes:
        name = volume.get("name", "")
        if not any(_source(volume, path, name, pod_name)) and not any(_name(name, path, usable)):
            usable[name] = volume
    return usable


def _name(name: str, path: str, seen: Mapping[str, Frozen] | set[str]) -> Errors:
    errors = checks.dns_label(name, path) if name else (required(path),)
    return [*errors, duplicate(path, name)] if name in seen else errors


def _is_faultless(volume: Frozen) -> bool:
    """Whether the volume has one source and nothing is wrong with it, remembered by content as a template's containers are."""
    if len(volume) != 2:
        return False
    (key,) = volume.keys() - {"name"}
    if key not in SOURCES or key in ("ephemeral", "image", "iscsi"):  # these look at the names of volume and pod
        return False
    raw = orjson.dumps(volume[key])
    return len(raw) <= _REMEMBERED and _looks_faultless(key, raw)


_REMEMBERED = 4096  # bytes of one source: 1,024 of them are remembered


@lru_cache(maxsize=1024)
def _looks_faultless(key: str, raw: bytes) -> bool:
    source = orjson.loads(raw)
    return source is not None and not any(SOURCES[key](source, ""))


def _source(volume: Frozen, path: str, name: str, pod_name: str | None) -> Errors:
    sources = [key for key in volume if key in SOURCES and volume[key] is not None]
    if not sources:
        yield required(path, "must specify a volume type")
        return
    if len(sources) > 1:
        sources.sort(key=_ORDER.__getitem__)
    for position, key in enumerate(sources):
        source, here = volume[key], f"{path}.{_PATHS.get(key, key)}"
        if position:
            yield forbidden(f"{path}.{_SECOND_PATHS.get(key, key)}", "may not specify more than 1 volume type")
        else:
            if key == "image" and pod_name is not None and not source.get("reference"):
                yield required(f"{here}.reference")
            yield from SOURCES[key](source, here)
        if key == "iscsi" and "initiatorName" in source and len(f"{name}:{source.get('targetPortal', '')}") > 64:
            text = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."
            yield invalid(f"{path}.name", name, text)
        if key == "ephemeral" and not position and pod_name and name:
            claim = f"{pod_name}-{name}"
            for message in names.dns_subdomain(claim):
                yield invalid(f"{path}.name", name, f'PVC name "{claim}": {message}')


# --- one function a source -------------------------------------------------------------------------------------------


def _needs(*keys: str) -> Callable[[Frozen, str], Errors]:
    def validate(source: Frozen, path: str) -> Errors:
        return checks.needed(source, keys, path)

    return validate


def _empty_dir(source: Frozen, path: str) -> Errors:
    limit = source.get("sizeLimit")
    if limit is not None and quantity.parse(limit) < 0:
        yield forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


_HOST_PATHS = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")


def _host_path(source: Frozen, path: str) -> Errors:
    if not source.get("path"):
        yield required(f"{path}.path")
        return
    yield from no_backsteps(source["path"], f"{path}.path")
    yield from checks.one_of(source.get("type", ""), f"{path}.type", _HOST_PATHS)


def _git_repo(source: Frozen, path: str) -> Errors:
    yield from checks.needed(source, ("repository",), path)
    yield from local_path(source.get("directory", ""), f"{path}.directory")


def _disk(name: str) -> Callable[[Frozen, str], Errors]:
    def validate(source: Frozen, path: str) -> Errors:
        yield from checks.needed(source, (name,), path)
        partition = source.get("partition", 0)
        if not 0 <= partition <= 255:
            yield invalid(f"{path}.partition", partition, "must be between 1 and 255, inclusive")

    return validate


def _nfs(source: Frozen, path: str) -> Errors:
    yield from checks.needed(source, ("server", "path"), path)
    if not source.get("path", "").startswith("/"):
        yield invalid(f"{path}.path", source.get("path", ""), "must be an absolute path")


_INITIATORS = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.([A-Za-z0-9\-.]+)(:[^,;*&$|\s]+)$"),
    "eui": re.compile(r"^eui.[A-Za-z0-9]{16}$"),
    "naa": re.compile(r"^naa.[A-Za-z0-9]{32}$"),
}


def _iscsi(source: Frozen, path: str) -> Errors:
    yield from checks.needed(source, ("targetPortal",), path)
    if not source.get("iqn"):
        yield required(f"{path}.iqn")
    else:
        yield from _iscsi_name(source["iqn"], f"{path}.iqn")
    yield from checks.between(source.get("lun", 0), 0, 255, f"{path}.lun")
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
        yield required(f"{path}.secretRef")
    if "initiatorName" in source:
        yield from _iscsi_name(source["initiatorName"], f"{path}.initiatorname")


def _iscsi_name(name: str, path: str) -> Errors:
    form = _INITIATORS.get(name[:3])
    if form is None:
        yield invalid(path, name, "must be valid format starting with iqn, eui, or naa")
    elif not form.search(name):
        yield invalid(path, name, "must be valid format")


def _flocker(source: Frozen, path: str) -> Errors:
    name = source.get("datasetName", "")
    if not name and not source.get("datasetUUID"):
        yield required(path, "one of datasetName and datasetUUID is required")
    if name and source.get("datasetUUID"):
        yield invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously")
    if "/" in name:
        yield invalid(f"{path}.datasetName", name, "must not contain '/'")


def _cinder(source: Frozen, path: str) -> Errors:
    yield from checks.needed(source, ("volumeID",), path)
    yield from _secret_ref(source, path)


def _secret_ref(source: Frozen, path: str) -> Errors:
    ref = source.get("secretRef")
    if ref is not None and not ref.get("name"):
        yield required(f"{path}.secretRef.name")


_PAIRS = "must be a host:port pair or multiple pairs separated by commas"


def _quobyte(source: Frozen, path: str) -> Errors:
    registry = source.get("registry", "")
    if not registry:
        yield required(f"{path}.registry", _PAIRS)
    elif len(source.get("tenant", "")) >= 65:
        yield required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters")
    else:
        for pair in registry.split(","):
            if not re.fullmatch(r"(\[.*\]|[^:\[\]]*):[^:]*", pair):
                yield invalid(f"{path}.registry", registry, _PAIRS)
    yield from checks.needed(source, ("volume",), path)


def _fibre_channel(source: Frozen, path: str) -> Errors:
    names_, ids = source.get("targetWWNs") or (), source.get("wwids") or ()
    if not names_ and not ids:
        yield required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both")
    if names_ and ids:
        yield invalid(f"{path}.targetWWNs", names_, "targetWWNs and wwids can not be specified simultaneously")
    if names_:
        if source.get("lun") is None:
            yield required(f"{path}.lun", "lun is required if targetWWNs is specified")
        else:
            yield from checks.between(source["lun"], 0, 255, f"{path}.lun")


def _flex(source: Frozen, path: str) -> Errors:
    yield from checks.needed(source, ("driver",), path)
    for key in source.get("options") or ():
        namespace = "." + key.partition("/")[0].lower()
        if namespace.endswith((".kubernetes.io", ".k8s.io")):
            yield invalid(f"{path}.options[{key}]", key, "kubernetes.io and k8s.io namespaces are reserved")


_MANAGED = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_BLOB = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"


def _azure_disk(source: Frozen, path: str) -> Errors:
    yield from checks.needed(source, ("diskName", "diskURI"), path)
    if "cachingMode" in source:
        yield from checks.one_of(source["cachingMode"], f"{path}.cachingMode", ("None", "ReadOnly", "ReadWrite"))
    kind = source.get("kind")
    if kind is None:
        return
    yield from checks.one_of(kind, f"{path}.kind", ("Dedicated", "Managed", "Shared"))
    uri = source.get("diskURI", "")
    start, form = ("/subscriptions/", _MANAGED) if kind == "Managed" else ("https://", _BLOB)
    if not uri.startswith(start):
        yield unsupported(f"{path}.diskURI", uri, [form])


def _storage_os(source: Frozen, path: str) -> Errors:
    if not source.get("volumeName"):
        yield required(f"{path}.volumeName")
    else:
        yield from checks.dns_label(source["volumeName"], f"{path}.volumeName")
    if source.get("volumeNamespace"):
        yield from checks.dns_label(source["volumeNamespace"], f"{path}.volumeNamespace")
    yield from _secret_ref(source, path)


def _csi(source: Frozen, path: str) -> Errors:
    driver = source.get("driver", "")
    if not driver:
        yield required(f"{path}.driver")
    else:
        if len(driver) > 63:
            yield too_long(f"{path}.driver", 63)
        for message in names.dns_subdomain(driver.lower()):
            yield invalid(f"{path}.driver", driver, message)
    ref = source.get("nodePublishSecretRef")
    if ref is not None:
        if not ref.get("name"):
            yield required(f"{path}.nodePublishSecretRef.name")
        else:
            yield from checks.dns_subdomain(ref["name"], f"{path}.name")


def _ephemeral(source: Frozen, path: str) -> Errors:
    template, here = source.get("volumeClaimTemplate"), f"{path}.volumeClaimTemplate"
    if template is None:
        yield required(here)
    else:
        yield from claimspec.validate_claim_template(template, here)


def _image(source: Frozen, path: str) -> Errors:
    yield from checks.chosen(source.get("pullPolicy", ""), f"{path}.pullPolicy", PULL_POLICIES)


SOURCES: dict[str, Callable[[Frozen, str], Errors]] = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "gitRepo": _git_repo,
    "gcePersistentDisk": _disk("pdName"),
    "awsElasticBlockStore": _disk("volumeID"),
    "secret": projected.secret_volume,
    "nfs": _nfs,
    "iscsi": _iscsi,
    "glusterfs": _needs("endpoints", "path"),
    "flocker": _flocker,
    "persistentVolumeClaim": _needs("claimName"),
    "rbd": _needs("monitors", "image"),
    "cinder": _cinder,
    "cephfs": _needs("monitors"),
    "quobyte": _quobyte,
    "downwardAPI": projected.downward_api_volume,
    "fc": _fibre_channel,
    "flexVolume": _flex,
    "configMap": projected.config_map_volume,
    "azureFile": _needs("secretName", "shareName"),
    "vsphereVolume": _needs("volumePath"),
    "photonPersistentDisk": _needs("pdID"),
    "portworxVolume": _needs("volumeID"),
    "azureDisk": _azure_disk,
    "storageos": _storage_os,
    "projected": projected.projected_volume,
    "scaleIO": _needs("gateway", "system", "volumeName"),
    "csi": _csi,
    "ephemeral": _ephemeral,
    "image": _image,
}
_ORDER = {key: i for i, key in enumerate(SOURCES)}
_PATHS = {"gcePersistentDisk": "persistentDisk"}  # where upstream's errors name a source otherwise than its field
_SECOND_PATHS = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}
