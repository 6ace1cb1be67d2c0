"""The embedded runtime's images on disk: what is known of each, and their unpacked layers for overlayfs.

Layout: `images.json` (all that is known, replaced whole), `blobs/sha256/HEX` (manifests and configurations), `layers/HEX24` (a
layer by its diff id, named short since overlayfs takes a page of options), `incoming/` (what a pull or an import brings, gone at
the next start). A layer appears whole or not at all, and goes when neither an image nor a container needs it. The host's own file
system is always there as `minik8s.local/host`. An image's id is its configuration's digest, as the CRI runtimes say it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from minik8s.runtime.images import worker
from minik8s.runtime.images.manifests import (
    BadImage,
    Descriptor,
    choose,
    diff_ids,
    digest_of,
    document,
    is_index,
    parse_manifest,
)
from minik8s.runtime.images.reference import HOST_IMAGE, InvalidReference, is_digest, parse

_LAYER_NAME = 24
_EMPTY = "empty"  # what an image without layers mounts


@dataclass(frozen=True, slots=True)
class StoredImage:
    """`layers` are directory names in the store's `layers`, the lowest first; `config` is the `config` object of its configuration."""

    id: str
    manifest: str
    size: int
    layers: Sequence[str]
    tags: Sequence[str] = ()
    digests: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_host(self) -> bool:
        return self.id == HOST.id


HOST = StoredImage(
    digest_of(HOST_IMAGE.encode()), "", 0, (), (f"{HOST_IMAGE}:latest",), (),
    {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
)  # fmt: skip


class ImageStore:
    """Reads are from memory. `root` is the store's directory; one process at a time may use it."""

    def __init__(self, root: Path) -> None:
        self.root, self.layers = root, root / "layers"
        self._blobs = root / "blobs" / "sha256"
        self._images: dict[str, StoredImage] = {}
        self._layer_bytes: dict[str, int] = {}
        self._unpacking = asyncio.Lock()
        self._numbers = count()
        shutil.rmtree(root / "incoming", ignore_errors=True)
        for directory in (self.layers / _EMPTY, self._blobs, root / "incoming"):
            directory.mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)
        self._load()

    def images(self) -> list[StoredImage]:
        return [*self._images.values(), HOST]

    def find(self, reference: str) -> StoredImage | None:
        """By id, tag or name@digest; InvalidReference where it is none of them."""
        if is_digest(reference) or is_digest(f"sha256:{reference}"):
            wanted = f"sha256:{reference.removeprefix('sha256:')}"
            return next((image for image in self.images() if image.id == wanted), None)
        name = parse(reference)
        if name.digest:
            return next((image for image in self.images() if f"{name.name}@{name.digest}" in image.digests), None)
        return next((image for image in self.images() if str(name) in image.tags), None)

    def has_layer(self, diff_id: str) -> bool:
        return (self.layers / layer_name(diff_id)).is_dir()

    def document(self, digest: str) -> bytes | None:
        """A manifest, index or configuration of an image that is there."""
        path = self._blobs / digest.removeprefix("sha256:")
        return path.read_bytes() if is_digest(digest) and path.is_file() else None

    def incoming(self) -> Path:
        """A fresh directory for one pull's or import's blobs (below it `sha256/HEX`); the caller ends it with `discard`."""
        path = self.root / "incoming" / str(next(self._numbers))
        (path / "sha256").mkdir(parents=True)
        return path

    async def discard(self, incoming: Path) -> None:
        await asyncio.to_thread(shutil.rmtree, incoming)

    async def import_archive(self, archive: Path) -> list[str]:
        """All images of a docker or OCI archive; the names that it gives them. BadImage."""
        incoming = self.incoming()
        try:
            found = await worker.run("extract", archive=str(archive), blobs=str(incoming))
            for entry in found:
                target = Descriptor(entry["media_type"], entry["digest"], entry["size"])
                await self.add(entry["name"], target, incoming)
            return [entry["name"] for entry in found if entry["name"]]
        finally:
            await self.discard(incoming)

    async def add(self, name: str, target: Descriptor, incoming: Path) -> str:
        """Takes in the image whose manifest (or index) `target` and blobs lie in `incoming`; its id.

        `name` (normalised; empty for none) points to it from now on, and no longer to another.
        """
        top = data = _blob(incoming, target.digest)
        content = document(data, "the manifest")
        if is_index(content):
            data = _blob(incoming, choose(content).digest)
            content = document(data, "the manifest")
        manifest = parse_manifest(content)
        config_data = _blob(incoming, manifest.config.digest)
        config = document(config_data, "the image's configuration")
        if config.get("os", "linux") != "linux":
            raise BadImage(f"the image is for {config['os']}, not for linux")
        ids = diff_ids(config, len(manifest.layers))
        await self._unpack(incoming, [(layer.digest, diff_id) for layer, diff_id in zip(manifest.layers, ids, strict=True)])
        for document_data in (top, data, config_data):
            _write(self._blobs / digest_of(document_data).removeprefix("sha256:"), document_data)
        size = manifest.config.size + sum(layer.size for layer in manifest.layers)
        names = [layer_name(diff_id) for diff_id in ids]
        self._record(
            StoredImage(manifest.config.digest, digest_of(data), size, names, config=config.get("config") or {}),
            name,
            target.digest,
        )
        return manifest.config.digest

    def remove(self, reference: str) -> None:
        """By a tag: that tag, and the image with its last one. By id or digest: the image. What isn't there is removed."""
        found = self.find(reference)
        if found is None or found.is_host:
            return
        left = (
            ()
            if is_digest(f"sha256:{reference.removeprefix('sha256:')}") or "@" in reference
            else _without(found.tags, reference)
        )
        if left:
            self._images[found.id] = _with(found, tags=left)
        else:
            del self._images[found.id]
        self._save()

    async def collect(self, in_use: Collection[str]) -> None:
        """Deletes layers and blobs that no image needs and no container (`in_use`: names of layers) has mounted."""
        async with self._unpacking:
            needed = {layer for image in self._images.values() for layer in image.layers} | {_EMPTY, *in_use}
            images = self._images.values()
            digests = [digest for image in images for digest in (image.id, image.manifest, *image.digests)]
            documents = {digest.rpartition("sha256:")[2] for digest in digests}
            idle = [layer for layer in self.layers.iterdir() if layer.name not in needed]
            for blob in self._blobs.iterdir():
                if blob.name not in documents:
                    blob.unlink()
            if idle:
                trash = self.incoming()
                for layer in idle:
                    layer.rename(trash / layer.name)
                    self._layer_bytes.pop(layer.name, None)
                self._save()
                await self.discard(trash)

    def bytes_used(self) -> int:
        return sum(self._layer_bytes.values())

    async def _unpack(self, incoming: Path, layers: Sequence[tuple[str, str]]) -> None:
        async with self._unpacking:
            if all(self.has_layer(diff_id) for _, diff_id in layers):
                return
            jobs = [
                {"blob": str(_blob_path(incoming, digest)), "layer": str(self.layers / layer_name(diff_id)), "diff_id": diff_id}
                for digest, diff_id in layers
            ]
            self._layer_bytes.update(await worker.run("unpack", layers=jobs, scratch=str(incoming / "layers")))

    def _record(self, image: StoredImage, name: str, digest: str) -> None:
        known = self._images.get(image.id, image)
        tags, digests = list(known.tags), list(known.digests)
        if name:
            reference = parse(name)
            tag = f"{reference.name}:{reference.tag}" if reference.tag else ""
            for other in list(self._images.values()):
                if tag in other.tags and other.id != image.id:
                    self._images[other.id] = _with(other, tags=_without(other.tags, tag))
            tags += [tag] if tag and tag not in tags else []
            digests += [f"{reference.name}@{digest}"] if f"{reference.name}@{digest}" not in digests else []
        self._images[image.id] = _with(image, tags=tags, digests=digests)
        self._save()

    def _load(self) -> None:
        path = self.root / "images.json"
        if not path.exists():
            return
        content = orjson.loads(path.read_bytes())
        self._layer_bytes = content["layers"]
        for entry in content["images"]:
            image = StoredImage(**entry)
            if all((self.layers / layer).is_dir() for layer in image.layers):
                config = orjson.loads((self._blobs / image.id.removeprefix("sha256:")).read_bytes())
                self._images[image.id] = _with(image, config=config.get("config") or {})

    def _save(self) -> None:
        names = ("id", "manifest", "size", "layers", "tags", "digests")
        images = [{name: getattr(image, name) for name in names} for image in self._images.values()]
        _write(self.root / "images.json", orjson.dumps({"images": images, "layers": self._layer_bytes}))


def layer_name(diff_id: str) -> str:
    return diff_id.removeprefix("sha256:")[:_LAYER_NAME]


def _blob_path(incoming: Path, digest: str) -> Path:
    return incoming / "sha256" / digest.removeprefix("sha256:")


def _blob(incoming: Path, digest: str) -> bytes:
    try:
        return _blob_path(incoming, digest).read_bytes()
    except FileNotFoundError:
        raise BadImage(f"the image lacks {digest}") from None


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(data)
    fresh.replace(path)


def _with(image: StoredImage, **changes: Any) -> StoredImage:
    fields = {name: getattr(image, name) for name in StoredImage.__slots__}
    return StoredImage(**{**fields, **changes})


def _without(tags: Sequence[str], reference: str) -> tuple[str, ...]:
    try:
        name = str(parse(reference))
    except InvalidReference:
        return tuple(tags)
    return tuple(tag for tag in tags if tag != name)
