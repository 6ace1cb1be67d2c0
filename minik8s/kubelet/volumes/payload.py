"""Which files a volume of ConfigMaps, Secrets, tokens and downward API consists of. Pure: objects and tokens are handed in.

Sources: v1.ConfigMapVolumeSource, SecretVolumeSource, DownwardAPIVolumeSource, ProjectedVolumeSource; golden/node/volumes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.api.resources import CONFIGMAPS, SECRETS, Resource
from minik8s.kubelet.configs import run_as
from minik8s.kubelet.downward import Surroundings, field_value, resource_value
from minik8s.kubelet.pod import Pod, all_containers, find_container
from minik8s.kubelet.volumes.atomic import File

Source = Mapping[str, Any]
DEFAULT_MODE = 0o644
KINDS = ("configMap", "secret", "downwardAPI", "projected")


class Missing(Exception):
    """The volume names something that there is not; upstream's words."""

    def told(self, volume: str) -> str:
        """The whole sentence of the event, of a pod's volume of that name."""
        return f'MountVolume.SetUp failed for volume "{volume}" : {self}'


@dataclass(frozen=True, slots=True)
class TokenWanted:
    """A service-account token: for the API server where `audience` is empty."""

    audience: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Found:
    """What the volume's parts refer to."""

    objects: Callable[[Resource, str], Mapping[str, Any] | None]
    tokens: Mapping[TokenWanted, str]
    surroundings: Surroundings


def sources_of(volume: Source) -> Iterator[tuple[str, Source]]:
    """The parts of a volume, each with its kind and, for projected ones, the mode for all."""
    kind = next((k for k in KINDS if volume.get(k) is not None), "")
    if kind != "projected":
        yield kind, volume[kind]
        return
    mode = volume["projected"].get("defaultMode")
    for part in volume["projected"].get("sources") or ():
        for name, source in part.items():
            yield name, {"defaultMode": mode, **(source or {})}


def references(volume: Source) -> set[tuple[Resource, str]]:
    """The ConfigMaps and Secrets that the volume needs."""
    found = set()
    for kind, source in sources_of(volume):
        if kind == "configMap":
            found.add((CONFIGMAPS, source["name"]))
        elif kind == "secret":
            found.add((SECRETS, _secret_name(source)))
    return found


def tokens(volume: Source) -> list[TokenWanted]:
    return [_wanted(source) for kind, source in sources_of(volume) if kind == "serviceAccountToken"]


def files(pod: Pod, volume: Source, found: Found) -> dict[str, File]:
    """By relative path; of two sources with the same path the later one wins. Raises Missing."""
    result: dict[str, File] = {}
    for kind, source in sources_of(volume):
        if kind not in _MAKERS:
            raise Missing(f"sources of kind {kind} are not supported")
        result |= _MAKERS[kind](pod, source, found)
    return result


def _of_config_map(_: Pod, source: Source, found: Found) -> dict[str, File]:
    obj = found.objects(CONFIGMAPS, source["name"])
    if obj is None:
        return _absent(source, f'configmap "{source["name"]}" not found')
    data = {name: text.encode() for name, text in (obj.get("data") or {}).items()}
    data |= {name: base64.b64decode(text) for name, text in (obj.get("binaryData") or {}).items()}
    return _select(source, data, "configmap references non-existent config key: {}")


def _of_secret(_: Pod, source: Source, found: Found) -> dict[str, File]:
    name = _secret_name(source)
    obj = found.objects(SECRETS, name)
    if obj is None:
        return _absent(source, f'secret "{name}" not found')
    data = {key: base64.b64decode(text) for key, text in (obj.get("data") or {}).items()}
    return _select(source, data, "references non-existent secret key: {}")


def _of_downward(pod: Pod, source: Source, found: Found) -> dict[str, File]:
    result = {}
    for item in source.get("items") or ():
        try:
            if item.get("fieldRef"):
                text = field_value(pod, item["fieldRef"]["fieldPath"], found.surroundings)
            else:
                ref = item["resourceFieldRef"]
                container = find_container(pod, ref["containerName"])
                text = resource_value(pod, container[1] if container else {}, ref, found.surroundings)
        except ValueError as error:
            raise Missing(str(error)) from error
        result[item["path"]] = File(text.encode(), _mode(item, source))
    return result


def _of_token(pod: Pod, source: Source, found: Found) -> dict[str, File]:
    """For root readable by all; where the pod names one user or a group, only by them."""
    owner = common_user(pod)
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    mode = _mode({}, source) if owner is None and group is None else 0o600
    return {source["path"]: File(found.tokens[_wanted(source)].encode(), mode, owner)}


_MAKERS: dict[str, Callable[[Pod, Source, Found], dict[str, File]]] = {
    "configMap": _of_config_map,
    "secret": _of_secret,
    "downwardAPI": _of_downward,
    "serviceAccountToken": _of_token,
}


def common_user(pod: Pod) -> int | None:
    """The user that all containers run as, where the pod says so."""
    users = {run_as(pod, container, "runAsUser") for _, container in all_containers(pod)}
    return users.pop() if len(users) == 1 else None


def _secret_name(source: Source) -> str:
    return str(source.get("secretName") or source.get("name"))


def _wanted(source: Source) -> TokenWanted:
    return TokenWanted(source.get("audience", ""), int(source.get("expirationSeconds") or 3600))


def _absent(source: Source, message: str) -> dict[str, File]:
    if source.get("optional"):
        return {}
    raise Missing(message)


def _select(source: Source, data: Mapping[str, bytes], missing: str) -> dict[str, File]:
    items: Sequence[Mapping[str, Any]] | None = source.get("items")
    if not items:
        return {name: File(content, _mode({}, source)) for name, content in data.items()}
    result = {}
    for item in items:
        if item["key"] in data:
            result[item["path"]] = File(data[item["key"]], _mode(item, source))
        elif not source.get("optional"):
            raise Missing(missing.format(item["key"]))
    return result


def _mode(item: Mapping[str, Any], source: Source) -> int:
    for given in (item.get("mode"), source.get("defaultMode")):
        if given is not None:
            return int(given)
    return DEFAULT_MODE
