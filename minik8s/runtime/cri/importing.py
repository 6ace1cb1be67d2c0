"""Images into a containerd, over its own API on the CRI socket: CRI itself has no import. From archives, and from registries that the
agent has to ask itself (hosts.py says which).

What `ctr images import` does, without the program: blobs into the content store (under a lease, so that none is collected meanwhile;
then held by labels on the manifests), then a name for each image. containerd's CRI part hears of the name and unpacks at first use.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from minik8s.base.clock import Clock, rfc3339
from minik8s.runtime.base import Auth, RuntimeFailed
from minik8s.runtime.cri.client import NAMESPACE, TIMEOUT, Client, NotImplementedThere, failure
from minik8s.runtime.cri.wire import CONTAINERD
from minik8s.runtime.images import worker
from minik8s.runtime.images.manifests import (
    BadImage,
    Descriptor,
    choose,
    descriptor,
    document,
    is_index,
    parse_manifest,
)
from minik8s.runtime.images.reference import Reference
from minik8s.runtime.images.registry import Registries

_WRITE, _COMMIT = 1, 2
_CHUNK = 1 << 20
_LEASE = 3600.0
_REFERENCE = "containerd.io/gc.ref.content"


async def import_archive(client: Client, archive: Path, clock: Clock) -> list[str]:
    """The names that the archive gives its images. Raises RuntimeFailed."""
    blobs = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="minik8s-import-"))
    try:
        found = await worker.run("extract", archive=str(archive), blobs=str(blobs))
        named = {
            entry["name"]: Descriptor(entry["media_type"], entry["digest"], entry["size"]) for entry in found if entry["name"]
        }
        if not named:
            raise BadImage("it names no image")
        await _push(client, blobs, named, clock)
    except BadImage as error:
        raise RuntimeFailed(f"failed to import {archive}: {error}") from None
    finally:
        await asyncio.to_thread(shutil.rmtree, blobs)
    return list(named)


async def pull(client: Client, registries: Registries, reference: Reference, auth: Auth | None, clock: Clock) -> list[str]:
    """The names that the image then has: as it was asked for, and by its digest. Raises RuntimeFailed, as a runtime's pull does."""
    blobs = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="minik8s-pull-"))
    try:
        (blobs / "sha256").mkdir()
        target = await registries.pull(reference, auth, blobs, _Nothing())
        names = list(dict.fromkeys([str(reference), f"{reference.name}@{target.digest}"]))
        await _push(client, blobs, dict.fromkeys(names, target), clock)
    except BadImage as error:
        raise RuntimeFailed(f'failed to pull and unpack image "{reference}": {error}', "ErrImagePull") from None
    finally:
        await asyncio.to_thread(shutil.rmtree, blobs)
    return names


class _Nothing:
    """What is in stock (registry.py: Stock)."""

    def has_layer(self, diff_id: str) -> bool:
        return False

    def document(self, digest: str) -> bytes | None:
        return None


async def _push(client: Client, blobs: Path, named: Mapping[str, Descriptor], clock: Clock) -> None:
    lease = f"minik8s-{secrets.token_hex(8)}"
    leased = (*NAMESPACE, ("containerd-lease", lease))
    try:
        async with clock.hold():
            expires = {"containerd.io/gc.expire": rfc3339(clock.now() + _LEASE)}
            await client.leases["Create"](
                CONTAINERD["CreateLease"](id=lease, labels=expires), metadata=NAMESPACE, timeout=TIMEOUT
            )
            try:
                for name, target in named.items():
                    for blob, labels in blobs_of(blobs, target):
                        await _write(client, blobs, blob, labels, leased)
                    await _name(client, name, target, leased)
            finally:
                await client.leases["Delete"](CONTAINERD["DeleteLease"](id=lease), metadata=NAMESPACE, timeout=TIMEOUT)
    except grpc.aio.AioRpcError as error:
        failed = failure(error)
        if isinstance(failed, NotImplementedThere):
            raise RuntimeFailed(
                "this runtime takes no image archives over its socket (only containerd does): load the image with the runtime's own "
                "tools, or pull it from a registry"
            ) from error
        raise failed from error


def blobs_of(blobs: Path, target: Descriptor) -> Iterator[tuple[Descriptor, Mapping[str, str]]]:
    """Every blob of an image that runs here, what is referred to before what refers, with the labels that hold the former."""
    data = (blobs / "sha256" / target.digest[7:]).read_bytes()
    content = document(data, "the manifest")
    if is_index(content):
        chosen = choose(content)
        if not (blobs / "sha256" / chosen.digest[7:]).exists():
            raise BadImage(f"the archive lacks {chosen.digest}, the image for this machine")
        yield from blobs_of(blobs, chosen)
        entries = [descriptor(entry) for entry in content.get("manifests") or ()]
        yield target, {f"{_REFERENCE}.m.{place}": entry.digest for place, entry in enumerate(entries)}
        return
    manifest = parse_manifest(content)
    for blob in (manifest.config, *manifest.layers):
        if not (blobs / "sha256" / blob.digest[7:]).exists():
            raise BadImage(f"the archive lacks {blob.digest}")
        yield blob, {}
    layers = {f"{_REFERENCE}.l.{place}": layer.digest for place, layer in enumerate(manifest.layers)}
    yield target, {f"{_REFERENCE}.config": manifest.config.digest, **layers}


async def _write(client: Client, blobs: Path, blob: Descriptor, labels: Mapping[str, str], metadata: Any) -> None:
    path = blobs / "sha256" / blob.digest[7:]
    size = path.stat().st_size
    common = {"ref": f"minik8s-{blob.digest}", "total": size, "expected": blob.digest}
    call = client.content["Write"](metadata=metadata)
    try:
        for offset, chunk in _chunks(path):
            await call.write(CONTAINERD["WriteContentRequest"](action=_WRITE, offset=offset, data=chunk, **common))
            await call.read()
        await call.write(CONTAINERD["WriteContentRequest"](action=_COMMIT, offset=size, labels=labels, **common))
        await call.read()
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
        # A write to a call that ended raises less than the call itself tells.
        if await call.code() is not grpc.StatusCode.ALREADY_EXISTS:
            raise grpc.aio.AioRpcError(
                await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
            ) from error
    finally:
        call.cancel()


async def _name(client: Client, name: str, target: Descriptor, metadata: Any) -> None:
    pointed = CONTAINERD["Descriptor"](media_type=target.media_type, digest=target.digest, size=target.size)
    request = CONTAINERD["SaveImage"](image=CONTAINERD["Image"](name=name, target=pointed))
    try:
        await client.names["Create"](request, metadata=metadata, timeout=TIMEOUT)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
            raise
        await client.names["Update"](request, metadata=metadata, timeout=TIMEOUT)


def _chunks(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        offset = 0
        while chunk := file.read(_CHUNK):
            yield offset, chunk
            offset += len(chunk)
