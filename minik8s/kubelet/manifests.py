"""Static pods: manifests in a directory of the node, one pod a file, that run whether there is a server or not.

`pod_of` makes a pod of a file, purely: its uid is a hash of what it says and where, so that another text is another pod. `Manifests`
reads the directory and hears of its changes. A file that begins with a dot is none; one that can't be used is said in the log.
Source: kubernetes.io "Create static Pods"; the kubelet's config/file.go and common.go.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from minik8s.base import inotify
from minik8s.base.clock import Clock, rfc3339_micro
from minik8s.kubelet.pod import HASH, SEEN, SOURCE, Pod, key, uid

log = logging.getLogger(__name__)

LONGEST = 10 << 20
"""Bytes of a manifest."""
NO_EXECUTE = {"operator": "Exists", "effect": "NoExecute"}
CHANGES = (
    inotify.CLOSE_WRITE
    | inotify.CREATE
    | inotify.MOVED_TO
    | inotify.MOVED_FROM
    | inotify.DELETE
    | inotify.ATTRIB
    | inotify.DELETE_SELF
    | inotify.MOVE_SELF
)


class BadManifest(Exception):
    """A file that makes no pod; the text says why."""


class Manifests:
    """Of one node. `on_change` is given all its static pods, by namespace and name, whenever they may be others."""

    def __init__(
        self, directory: Path, node: str, clock: Clock, on_change: Callable[[Mapping[tuple[str, str], Pod]], None]
    ) -> None:
        self.directory, self._node, self._clock, self._on_change = directory, node, clock, on_change
        self._seen: dict[str, str] = {}
        self._bad: dict[Path, str] = {}

    async def look(self) -> None:
        """Reads the directory once. OSError where it can't be."""
        self._on_change(await asyncio.to_thread(self._read))

    async def run(self) -> None:
        """Looks again whenever something changes, for ever. The directory is made anew if it goes."""
        with closing(inotify.Watch()) as watch:
            while True:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                watch.add(self.directory, CHANGES)
                await self.look()
                await watch.changed()

    def _read(self) -> dict[tuple[str, str], Pod]:
        found: dict[tuple[str, str], Pod] = {}
        files = sorted(f for f in self.directory.iterdir() if not f.name.startswith(".")) if self.directory.is_dir() else []
        bad: dict[Path, str] = {}
        for file in files:
            try:
                pod = self._pod(file)
            except FileNotFoundError:
                continue
            except (BadManifest, OSError) as error:
                bad[file] = str(error)
            else:
                found[key(pod)] = pod
        for file, text in bad.items():
            if self._bad.get(file) != text:
                log.error("static pod: %s: %s", file, text)
        self._bad = bad
        self._seen = {uid(pod): pod["metadata"]["annotations"][SEEN] for pod in found.values()}
        return found

    def _pod(self, file: Path) -> Pod:
        if not file.is_file():
            raise BadManifest("it is no regular file")
        with file.open("rb") as opened:
            data = opened.read(LONGEST + 1)
        if len(data) > LONGEST:
            raise BadManifest(f"it is longer than {LONGEST} bytes")
        pod = pod_of(data, str(file), self._node)
        pod["metadata"]["annotations"][SEEN] = self._seen.get(uid(pod)) or rfc3339_micro(self._clock.now())
        return pod


def pod_of(data: bytes, file: str, node: str) -> dict[str, Any]:
    """The static pod that a manifest (YAML or JSON, its first document) makes on `node`. Raises BadManifest."""
    from minik8s.api import decode, errors, names  # late: a node without static pods needs no rules of pods
    from minik8s.api.kinds.pod import POD
    from minik8s.api.kinds.pod.apirefs import api_reference

    try:
        body, _ = decode.parse(data, decode.YAML)
        if not isinstance(body, Mapping) or not body.get("kind") or not body.get("apiVersion"):
            raise BadManifest("it names no kind and apiVersion")
        pod, _ = decode.decode(orjson.dumps(body), decode.JSON, "", "v1", "Pod", decode.IGNORE)
    except (ValueError, errors.ApiError) as error:
        raise BadManifest(f"it is no Pod: {error}") from None
    meta = pod.setdefault("metadata", {})
    if not meta.get("name"):
        raise BadManifest("invalid pod: name is needed for the pod")
    POD.default(pod)
    _place(pod, file, node)
    POD.prepare_create(pod)
    found = names.validate_metadata(pod, POD.name_rule, True) + POD.validate(pod) + POD.validate_create(pod)
    if found:
        raise BadManifest(f"invalid pod: {', '.join(str(error) for error in found)}")
    if reference := api_reference(pod["spec"]):
        raise BadManifest(f"static pods may not reference {reference}")
    return pod


def _place(pod: dict[str, Any], file: str, node: str) -> None:
    """Names, uid and what else says that it is this node's own."""
    meta, spec = pod["metadata"], pod["spec"]
    told = orjson.dumps([pod, f"host:{node}", f"file:{file}"], option=orjson.OPT_SORT_KEYS)
    meta["uid"] = meta.get("uid") or hashlib.sha256(told).hexdigest()[:32]
    meta["name"] = f"{meta['name']}-{node.lower()}"
    meta["namespace"] = meta.get("namespace") or "default"
    meta["annotations"] = {**(meta.get("annotations") or {}), HASH: meta["uid"], SOURCE: "file"}
    spec["nodeName"] = node
    tolerations = [t for t in spec.get("tolerations") or () if {k: v for k, v in t.items() if v} != NO_EXECUTE]
    spec["tolerations"] = [*tolerations, dict(NO_EXECUTE)]
