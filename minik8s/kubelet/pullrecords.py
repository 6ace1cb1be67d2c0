"""Who may use an image that was pulled with credentials: pods that have the same ones. Others have to pull it themselves (KEP-2535).

Promise: `may_use` is told by what `pulled` recorded, also after a restart of the agent; an image of which nothing is recorded was there
before anybody pulled it (imported), and is for all. A credential counts when its content is the same, or its Secret is.
Limits: an agent that ends between a pull and its record leaves an image for all.
Source: the kubelet's image_pull_manager.go, with its policy NeverVerifyPreloadedImages.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path

import orjson

from minik8s.runtime.images.reference import split_tag

log = logging.getLogger(__name__)

Credential = tuple[str, str, str, str]
"""The uid, namespace and name of a Secret, and a hash of what it says for the image."""
EVERYONE: Credential = ("", "", "", "")
"""No credential was needed."""
MOST = 100  # credentials kept for an image


class PullRecords:
    """`file` keeps them; None: they are kept in memory alone."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._records: dict[str, dict[str, list[Credential]]] = {}  # by image id and by the name without its tag
        if file is not None and file.exists():
            try:
                for image, names in orjson.loads(file.read_bytes()).items():
                    self._records[image] = {name: [_credential(c) for c in found] for name, found in names.items()}
            except (ValueError, TypeError, AttributeError) as error:
                log.warning("%s can't be read, who may use which image is not known any more: %s", file, error)

    def may_use(self, image: str, reference: str, credentials: Iterable[Credential]) -> bool:
        """Whether a pod with these credentials for it may use the image without a pull."""
        names = self._records.get(image)
        if names is None:
            return True
        recorded = names.get(_untagged(reference), ())
        if EVERYONE in recorded:
            return True
        for one in credentials:
            if any(one[3] == known[3] or one[:3] == known[:3] for known in recorded):
                self.pulled(image, reference, one)
                return True
        return False

    def pulled(self, image: str, reference: str, credential: Credential) -> None:
        """The image was pulled, or could have been, with this credential."""
        recorded = self._records.setdefault(image, {}).setdefault(_untagged(reference), [])
        if EVERYONE in recorded or credential in recorded:
            return
        if credential == EVERYONE:
            recorded.clear()
        others = [known for known in recorded if known[:3] != credential[:3]]
        recorded[:] = [*others[-MOST + 1 :], credential]
        self._write()

    def forget_others(self, images: Collection[str]) -> None:
        """Only these images are there."""
        if gone := self._records.keys() - set(images):
            for image in gone:
                del self._records[image]
            self._write()

    def _write(self) -> None:
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            new = self._file.with_suffix(".new")
            with open(new, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(orjson.dumps(self._records))
            new.replace(self._file)
        except OSError as error:
            log.warning("who may use which image is not kept over a restart: %s", error)


def _credential(found: list[str]) -> Credential:
    uid, namespace, name, digest = map(str, found)
    return uid, namespace, name, digest


def _untagged(reference: str) -> str:
    return split_tag(reference.partition("@")[0])[0]
