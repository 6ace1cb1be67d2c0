"""Image archives: what `docker save`, `podman save`, `skopeo` and `ctr export` write, plain or compressed by gzip or zstd.

`extract` turns any of them into content-addressed blobs and the names that point to them, which is what both the embedded store and a
containerd want. Synchronous and slow: run it in a worker process (worker.py).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import posixpath
import sys
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from minik8s.runtime.images.manifests import (
    LONGEST_DOCUMENT,
    OCI_INDEX,
    BadImage,
    Descriptor,
    descriptor,
    digest_of,
    docker_manifest,
    document,
)
from minik8s.runtime.images.reference import InvalidReference, normalise

_CHUNK = 1 << 20
_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, slots=True)
class Named:
    """One image of an archive: its normalised name (empty: it has none) and its manifest or index among the blobs."""

    name: str
    target: Descriptor


def extract(archive: Path, blobs: Path) -> list[Named]:
    """Writes every file of `archive` to `blobs`/sha256/HEX (blobs that no image needs included; the caller tidies).

    Raises BadImage, OSError.
    """
    files = _spill(archive, blobs)
    if "index.json" in files:
        return _oci_images(files, blobs)
    if "manifest.json" in files:
        return _docker_images(files, blobs)
    raise BadImage(f"{archive.name} is neither a docker archive nor an OCI layout (no manifest.json or index.json)")


def open_decompressed(path: Path) -> IO[bytes]:
    """The file's content, uncompressed where its first bytes say gzip or zstd."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic.startswith(_GZIP):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if magic == _ZSTD:
        return cast(IO[bytes], _zstd().open(path, "rb"))
    return path.open("rb")


def unreadable() -> tuple[type[Exception], ...]:
    """What reading a damaged file raises, for `except`."""
    return (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, _zstd().ZstdError)


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _spill(archive: Path, blobs: Path) -> dict[str, Descriptor]:
    """Every regular file by its name in the archive (links too, as older docker versions make for equal layers)."""
    target = blobs / "sha256"
    target.mkdir(parents=True, exist_ok=True)
    files: dict[str, Descriptor] = {}
    links: dict[str, str] = {}
    try:
        with open_decompressed(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                name = posixpath.normpath(member.name)
                if member.issym():
                    links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                elif member.islnk():
                    links[name] = posixpath.normpath(member.linkname)
                elif member.isfile() and (content := tar.extractfile(member)):
                    files[name] = _store(content, target)
    except unreadable() as error:
        raise BadImage(f"{archive.name} is not a readable tar archive: {error}") from None
    for name, linked in links.items():
        if linked in files:
            files[name] = files[linked]
    return files


def _store(content: IO[bytes], target: Path) -> Descriptor:
    fresh = target / f"incoming-{os.getpid()}"
    digest, size, first = hashlib.sha256(), 0, b""
    with fresh.open("wb") as file:
        while chunk := content.read(_CHUNK):
            first = first or chunk[:4]
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    fresh.replace(target / digest.hexdigest())
    suffix = ".gzip" if first.startswith(_GZIP) else ".zstd" if first == _ZSTD else ""
    return Descriptor(_DOCKER_LAYER + suffix, f"sha256:{digest.hexdigest()}", size)


def _oci_images(files: Mapping[str, Descriptor], blobs: Path) -> list[Named]:
    index = _read(files["index.json"], blobs, "index.json")
    images = []
    for entry in index.get("manifests") or ():
        annotations = entry.get("annotations") or {}
        name = next((annotations[key] for key in _NAMES if annotations.get(key)), "")
        target = descriptor(entry)
        if not (blobs / "sha256" / target.digest.removeprefix("sha256:")).exists():
            raise BadImage(f"the archive lacks {target.digest}, which its index names")
        images.append(Named(_name(name), target if target.media_type else Descriptor(OCI_INDEX, target.digest, target.size)))
    if not any(image.name for image in images) and "manifest.json" in files:
        return _docker_images(files, blobs)  # docker's own archives name images there alone
    return images


def _docker_images(files: Mapping[str, Descriptor], blobs: Path) -> list[Named]:
    listed = _read({"": files["manifest.json"]}[""], blobs, "manifest.json", wrap=True)["images"]
    images = []
    for entry in listed:
        try:
            config, layers = (
                files[posixpath.normpath(entry["Config"])],
                [files[posixpath.normpath(name)] for name in entry["Layers"]],
            )
        except (KeyError, TypeError) as error:
            raise BadImage(f"the archive lacks {error}, which its manifest.json names") from None
        manifest = docker_manifest(Descriptor(_DOCKER_CONFIG, config.digest, config.size), layers)
        digest = digest_of(manifest)
        (blobs / "sha256" / digest.removeprefix("sha256:")).write_bytes(manifest)
        target = Descriptor(str(document(manifest, "manifest")["mediaType"]), digest, len(manifest))
        images += [Named(_name(tag), target) for tag in entry.get("RepoTags") or [""]]
    return images


def _read(target: Descriptor, blobs: Path, what: str, *, wrap: bool = False) -> Mapping[str, Any]:
    if target.size > LONGEST_DOCUMENT:
        raise BadImage(f"{what} is larger than {LONGEST_DOCUMENT} bytes")
    data = (blobs / "sha256" / target.digest.removeprefix("sha256:")).read_bytes()
    return document(b'{"images":' + data + b"}" if wrap else data, what)


def _name(text: str) -> str:
    """Normalised; a bare tag, as some tools annotate, names nothing."""
    if not text or ("/" not in text and ":" not in text and "." in text):
        return ""
    try:
        return normalise(text)
    except InvalidReference as error:
        raise BadImage(f"the archive names an image {text!r}: {error}") from None
