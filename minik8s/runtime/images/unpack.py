"""A layer's tar into a directory that overlayfs can stack: whiteouts become character devices 0/0, opaque directories an attribute.

Ownership, modes (setuid bits too), times, devices, hard links and the attributes that a container may have are kept. A name that is
absolute, climbs with `..` or goes through a symbolic link is refused: nothing is ever written outside the layer. Needs root.
Synchronous and slow: run it in a worker process (worker.py).
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from minik8s.runtime.images.archive import open_decompressed, unreadable
from minik8s.runtime.images.manifests import BadImage

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_OPAQUE_ATTRIBUTE = "trusted.overlay.opaque"
_ATTRIBUTE = "SCHILY.xattr."
_KEPT_ATTRIBUTES = ("user.", "security.capability")
_CHUNK = 1 << 20


def unpack(blob: Path, layer: Path, diff_id: str, below: Sequence[Path]) -> None:
    """Fills the empty directory `layer` from the tar (compressed or not) `blob`, whose uncompressed digest must be `diff_id`.

    `below` are the layers under it, the nearest first: a directory that the tar implies without naming it looks as it does there.
    Raises BadImage, OSError.
    """
    with open_decompressed(blob) as raw:
        stream = _Hashing(raw)
        try:
            with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
                _Unpacker(layer, below).take(tar)
            while stream.read(_CHUNK):
                pass
        except unreadable() as error:
            raise BadImage(f"layer {diff_id} is not a readable tar: {error}") from None
    if f"sha256:{stream.digest.hexdigest()}" != diff_id:
        raise BadImage(
            f"layer's content has digest sha256:{stream.digest.hexdigest()}, the image's configuration says {diff_id}"
        )


class _Hashing:
    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self.digest = raw, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        self.digest.update(data)
        return data


class _Unpacker:
    def __init__(self, root: Path, below: Sequence[Path]) -> None:
        self._root, self._below = root, below
        self._real: set[str] = {""}  # directories of this layer known to be no links
        self._times: dict[str, float] = {}

    def take(self, tar: tarfile.TarFile) -> None:
        for member in tar:
            self._member(tar, member)
        for name in sorted(self._times, key=len, reverse=True):
            os.utime(self._root / name, (self._times[name],) * 2, follow_symlinks=False)

    def _member(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = self._checked(member.name)
        parent, base = posixpath.split(name)
        self._ensure_parents(parent)
        if base.startswith(_WHITEOUT):
            self._whiteout(parent, base)
            return
        path = self._root / name
        if member.isdir():
            self._directory(path, name)
        else:
            self._clear(path, name)
            self._make(tar, member, path)
            if member.islnk():
                return
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
        if not member.issym():
            path.chmod(member.mode & 0o7777)
        self._attributes(member, path)
        self._times[name] = member.mtime
        if not member.isdir():
            os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)
            del self._times[name]

    def _make(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        if member.isfile():
            content = tar.extractfile(member)
            with path.open("xb") as file:
                if content:
                    shutil.copyfileobj(content, file, _CHUNK)
        elif member.issym():
            path.symlink_to(member.linkname)
        elif member.islnk():
            target = self._checked(member.linkname)
            self._ensure_parents(posixpath.dirname(target))
            os.link(self._root / target, path, follow_symlinks=False)
        elif member.ischr() or member.isblk():
            kind = 0o020000 if member.ischr() else 0o060000
            os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
        elif member.isfifo():
            os.mkfifo(path, 0o600)
        else:
            raise BadImage(f"{member.name}: unknown kind of entry {member.type!r}")

    def _checked(self, name: str) -> str:
        if name.startswith("/") or ".." in name.split("/"):
            raise BadImage(f"{name!r} leads out of the layer")
        normal = posixpath.normpath(name)
        return "" if normal == "." else normal

    def _ensure_parents(self, parent: str) -> None:
        if parent in self._real:
            return
        current = ""
        for part in parent.split("/"):
            current = f"{current}/{part}" if current else part
            if current in self._real:
                continue
            path = self._root / current
            if path.is_symlink():
                raise BadImage(f"{parent!r} goes through the symbolic link {current!r}")
            if not path.is_dir():
                path.mkdir(0o755)
                self._look_as_below(path, current)
            self._real.add(current)

    def _look_as_below(self, path: Path, name: str) -> None:
        for layer in self._below:
            try:
                found = (layer / name).lstat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            os.chown(path, found.st_uid, found.st_gid)
            path.chmod(found.st_mode & 0o7777)
            return

    def _directory(self, path: Path, name: str) -> None:
        if path.is_symlink() or not path.is_dir():
            self._clear(path, name)
            path.mkdir(0o755)
        self._real.add(name)

    def _clear(self, path: Path, name: str) -> None:
        """A later entry of the same name replaces an earlier one."""
        if not name:
            raise BadImage("the layer's root must be a directory")
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            self._real = {known for known in self._real if known != name and not known.startswith(f"{name}/")}
            self._times = {known: at for known, at in self._times.items() if known != name and not known.startswith(f"{name}/")}
        elif os.path.lexists(path):
            path.unlink()

    def _whiteout(self, parent: str, base: str) -> None:
        if base == _OPAQUE:
            os.setxattr(self._root / parent, _OPAQUE_ATTRIBUTE, b"y")
        elif not base.startswith(_WHITEOUT * 2):
            removed = base.removeprefix(_WHITEOUT)
            if removed in ("", ".", ".."):
                raise BadImage(f"bad whiteout {base!r}")
            path = self._root / parent / removed
            if not os.path.lexists(path):  # an entry of this same layer stands
                os.mknod(path, 0o020000, os.makedev(0, 0))

    def _attributes(self, member: tarfile.TarInfo, path: Path) -> None:
        for key, value in member.pax_headers.items():
            name = key.removeprefix(_ATTRIBUTE)
            if name != key and name.startswith(_KEPT_ATTRIBUTES) and not member.issym():
                os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
