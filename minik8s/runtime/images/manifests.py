"""What registries and archives hold: OCI and docker manifests, multi-platform indexes, image configurations. Plain functions on JSON."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPTED = (OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST)

LONGEST_DOCUMENT = 4 << 20
"""Of a manifest, index or configuration, as registries bound them."""

_MACHINES = {  # uname's word: (Go's word, variant)
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "riscv64": ("riscv64", ""),
    "s390x": ("s390x", ""),
    "ppc64le": ("ppc64le", ""),
}


class BadImage(Exception):
    """What a registry or archive gave is no image that can be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob by what it is: `digest` is sha256 of its bytes."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    config: Descriptor
    layers: Sequence[Descriptor]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def document(data: bytes, what: str) -> Mapping[str, Any]:
    """Decoded JSON that must be an object."""
    if len(data) > LONGEST_DOCUMENT:
        raise BadImage(f"{what} is larger than {LONGEST_DOCUMENT} bytes")
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadImage(f"{what} is not JSON") from None
    if not isinstance(found, dict):
        raise BadImage(f"{what} is not a JSON object")
    return found


def is_index(found: Mapping[str, Any]) -> bool:
    return found.get("mediaType") in (OCI_INDEX, DOCKER_INDEX) or ("manifests" in found and "layers" not in found)


def parse_manifest(found: Mapping[str, Any]) -> Manifest:
    if found.get("schemaVersion") != 2 or "config" not in found:
        raise BadImage("the manifest is not of schema version 2")
    return Manifest(descriptor(found["config"]), tuple(descriptor(layer) for layer in found.get("layers") or ()))


def descriptor(found: Mapping[str, Any]) -> Descriptor:
    digest, size = found.get("digest"), found.get("size")
    hexadecimal = digest.removeprefix("sha256:") if isinstance(digest, str) and digest.startswith("sha256:") else ""
    if len(hexadecimal) != 64 or set(hexadecimal) - set("0123456789abcdef") or not isinstance(size, int) or size < 0:
        raise BadImage(f"bad descriptor: digest {digest!r}, size {size!r}")
    return Descriptor(str(found.get("mediaType", "")), str(digest), size)


def choose(index: Mapping[str, Any], machine: str = "") -> Descriptor:
    """The index's manifest for this machine (Linux); BadImage where there is none."""
    architecture, variant = _MACHINES.get(machine or platform.machine(), (machine or platform.machine(), ""))
    fitting = [
        entry
        for entry in index.get("manifests") or ()
        if _fits(entry.get("platform") or {}, architecture) and entry.get("mediaType", OCI_MANIFEST) in ACCEPTED
    ]
    exact = [entry for entry in fitting if (entry.get("platform") or {}).get("variant", "") in ("", variant)]
    for entry in exact or fitting:
        return descriptor(entry)
    raise BadImage(f"no match for platform in manifest: linux/{architecture}")


def diff_ids(config: Mapping[str, Any], layers: int) -> list[str]:
    found = (config.get("rootfs") or {}).get("diff_ids") or []
    if len(found) != layers or not all(isinstance(entry, str) and entry.startswith("sha256:") for entry in found):
        raise BadImage("the image's configuration does not name its layers")
    return list(found)


def docker_manifest(config: Descriptor, layers: Iterable[Descriptor]) -> bytes:
    """The manifest that a `docker save` archive lacks."""

    def plain(one: Descriptor) -> dict[str, Any]:
        return {"mediaType": one.media_type, "size": one.size, "digest": one.digest}

    return orjson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": plain(config),
            "layers": [plain(layer) for layer in layers],
        }
    )


def _fits(wanted: Mapping[str, Any], architecture: str) -> bool:
    return bool(wanted.get("os", "linux") == "linux" and wanted.get("architecture", architecture) == architecture)
