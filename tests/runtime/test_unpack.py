"""Layers on disk: image-spec/layer.md (whiteouts), overlayfs.rst (how it says the same), and what a hostile layer may try."""

from __future__ import annotations

import gzip
import json
import os
import stat
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runtime_bench import Entry, config_of, directory, docker_archive, link, sha, tar

from minik8s.runtime.images.archive import extract
from minik8s.runtime.images.manifests import BadImage
from minik8s.runtime.images.store import HOST, ImageStore, layer_name
from minik8s.runtime.images.unpack import unpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

needs_root = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners and devices are made")]


def unpacked(tmp_path: Path, entries: list[Entry], below: list[Path] | None = None) -> Path:
    data = tar(entries)
    (tmp_path / "blob").write_bytes(data)
    layer = tmp_path / "layer"
    layer.mkdir()
    unpack(tmp_path / "blob", layer, sha(data), below or [])
    return layer


class TestUnpack:
    pytestmark = needs_root

    @pytest.mark.parametrize("compress", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
    def test_a_compressed_layer(self, tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
        data = tar([("file", b"content" * 1000, {})])
        (tmp_path / "blob").write_bytes(compress(data))
        (tmp_path / "layer").mkdir()
        unpack(tmp_path / "blob", tmp_path / "layer", sha(data), [])
        assert (tmp_path / "layer/file").read_bytes() == b"content" * 1000
        for damaged in (compress(data)[:60], compress(data)[:30] + b"nonsense" + compress(data)[38:]):
            (tmp_path / "blob").write_bytes(damaged)
            with pytest.raises(BadImage):
                unpack(tmp_path / "blob", tmp_path / "layer", sha(data), [])

    def test_what_is_kept(self, tmp_path: Path) -> None:
        layer = unpacked(
            tmp_path,
            [
                directory("./d", 0o2750, uid=5, gid=6, mtime=1000),
                ("./d/su", b"x", {"mode": 0o4755, "uid": 7, "gid": 8, "mtime": 2000}),
                link("d/abs", "/etc/passwd"),
                ("d/hard", None, {"type": tarfile.LNKTYPE, "linkname": "d/su"}),
                ("d/null", None, {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3, "mode": 0o666}),
                ("d/pipe", None, {"type": tarfile.FIFOTYPE}),
            ],
        )
        found = (layer / "d/su").lstat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime, found.st_nlink) == (
            0o4755,
            7,
            8,
            2000,
            2,
        )
        found = (layer / "d").lstat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime) == (0o2750, 5, 6, 1000)
        assert os.readlink(layer / "d/abs") == "/etc/passwd"
        assert (layer / "d/null").lstat().st_rdev == os.makedev(1, 3)
        assert stat.S_ISFIFO((layer / "d/pipe").lstat().st_mode)

    def test_attributes_of_the_layer_alone_are_kept(self, tmp_path: Path) -> None:
        """`trusted.overlay.*` steers overlayfs and is never a layer's to say."""
        headers = {"SCHILY.xattr.user.note": "hello", "SCHILY.xattr.trusted.overlay.redirect": "/etc"}
        layer = unpacked(tmp_path, [directory("d"), ("f", b"", {"pax_headers": headers})])
        assert os.listxattr(layer / "f") == ["user.note"]
        assert os.getxattr(layer / "f", "user.note") == b"hello"

    def test_whiteouts(self, tmp_path: Path) -> None:
        layer = unpacked(
            tmp_path, [("a/.wh.gone", b"", {}), ("b/.wh..wh..opq", b"", {}), ("b/new", b"", {}), (".wh..wh.aufs", b"", {})]
        )
        found = (layer / "a/gone").lstat()
        assert stat.S_ISCHR(found.st_mode)
        assert found.st_rdev == 0
        assert os.getxattr(layer / "b", "trusted.overlay.opaque") == b"y"
        assert sorted(path.name for path in layer.iterdir()) == ["a", "b"]

    def test_implied_directories_look_as_below(self, tmp_path: Path) -> None:
        below = tmp_path / "below"
        (below / "tmp").mkdir(parents=True)
        (below / "tmp").chmod(0o1777)
        layer = unpacked(tmp_path, [("tmp/x", b"", {}), ("srv/x", b"", {})], [below])
        assert stat.S_IMODE((layer / "tmp").stat().st_mode) == 0o1777
        assert stat.S_IMODE((layer / "srv").stat().st_mode) == 0o755

    def test_later_entries_replace_earlier_ones(self, tmp_path: Path) -> None:
        layer = unpacked(tmp_path, [directory("a"), ("a/x", b"1", {}), ("a", b"file", {}), link("l", "a"), ("l", b"2", {})])
        assert (layer / "a").read_bytes() == b"file"
        assert not (layer / "l").is_symlink()

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ([("/etc/x", b"", {})], "'/etc/x' leads out of the layer"),
            ([("a/../../x", b"", {})], "'a/../../x' leads out of the layer"),
            ([link("out", "/tmp"), ("out/x", b"", {})], "'out' goes through the symbolic link 'out'"),
            ([link("up", ".."), ("up/x", b"", {})], "'up' goes through the symbolic link 'up'"),
            ([directory("d"), link("d/l", "/"), ("d/l/etc/x", b"", {})], "'d/l/etc' goes through the symbolic link 'd/l'"),
            (
                [link("l", "/etc"), ("x", None, {"type": tarfile.LNKTYPE, "linkname": "l/passwd"})],
                "goes through the symbolic link 'l'",
            ),
            (
                [("x", None, {"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd"})],
                "'../../etc/passwd' leads out of the layer",
            ),
            ([link("l", "/etc"), ("l/.wh.passwd", b"", {})], "'l' goes through the symbolic link 'l'"),
            ([directory("d"), ("d/.wh...", b"", {})], "bad whiteout"),
            ([(".", b"", {})], "the layer's root must be a directory"),
        ],
    )
    def test_tricks_are_refused(self, tmp_path: Path, entries: list[Entry], message: str) -> None:
        with pytest.raises(BadImage) as refused:
            unpacked(tmp_path, entries)
        assert message in str(refused.value)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"nonsense" * 100, "is not a readable tar"),
            (gzip.compress(b"x" * 100_000)[:50], "is not a readable tar"),
            (tar([]), "has digest"),
        ],
        ids=["nonsense", "cut off", "another digest"],
    )
    def test_damaged_layers(self, tmp_path: Path, data: bytes, message: str) -> None:
        (tmp_path / "blob").write_bytes(data)
        (tmp_path / "layer").mkdir()
        with pytest.raises(BadImage, match=message):
            unpack(tmp_path / "blob", tmp_path / "layer", "sha256:" + "0" * 64, [])


LAYERS = [tar([("a", b"1", {}), ("b", b"1", {})]), tar([("b", b"2", {}), (".wh.a", b"", {})])]


def oci_archive(name: str, layers: list[bytes], media: str = "application/vnd.oci.image.layer.v1.tar") -> bytes:
    config, blobs = config_of(LAYERS), dict[str, bytes]()

    def put(data: bytes, kind: str) -> dict[str, Any]:
        blobs[f"blobs/sha256/{sha(data)[7:]}"] = data
        return {"mediaType": kind, "digest": sha(data), "size": len(data)}

    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": put(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [put(layer, media) for layer in layers],
        }
    ).encode()
    entry = {**put(manifest, "application/vnd.oci.image.manifest.v1+json"), "annotations": {"io.containerd.image.name": name}}
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
    }
    return tar([(file, data, {}) for file, data in {**blobs, **files}.items()])


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (docker_archive("app:1", LAYERS), "docker.io/library/app:1"),
        (gzip.compress(docker_archive("q.io/app:1", LAYERS)), "q.io/app:1"),
        (zstd.compress(oci_archive("q.io/app:2", LAYERS)), "q.io/app:2"),
        (oci_archive("q.io/app:3", [gzip.compress(layer) for layer in LAYERS]), "q.io/app:3"),
        (oci_archive("q.io/app:4", [zstd.compress(layer) for layer in LAYERS]), "q.io/app:4"),
    ],
    ids=["docker", "docker.gz", "oci.zst", "oci, layers gz", "oci, layers zst"],
)
class TestArchives:
    def test_extract(self, tmp_path: Path, data: bytes, name: str) -> None:
        (tmp_path / "x.tar").write_bytes(data)
        [found] = extract(tmp_path / "x.tar", tmp_path / "blobs")
        assert found.name == name
        manifest = (tmp_path / "blobs" / "sha256" / found.target.digest[7:]).read_bytes()
        assert (sha(manifest), len(manifest)) == (found.target.digest, found.target.size)

    @pytest.mark.root
    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners and devices are made")
    async def test_import(self, tmp_path: Path, data: bytes, name: str) -> None:
        (tmp_path / "x.tar").write_bytes(data)
        store = ImageStore(tmp_path / "store")
        assert await store.import_archive(tmp_path / "x.tar") == [name]
        image = store.find(name)
        assert image
        assert image.layers == [layer_name(sha(layer)) for layer in LAYERS]
        assert store.find(image.id) == image == store.find(image.digests[0])
        again = ImageStore(tmp_path / "store")
        assert again.images() == store.images() == [image, HOST]
        assert again.bytes_used() > 0
        assert not list((tmp_path / "store" / "incoming").iterdir())
        again.remove(name)
        assert again.images() == [HOST]
        await again.collect([layer_name(sha(LAYERS[0]))])
        assert sorted(path.name for path in again.layers.iterdir()) == sorted(["empty", layer_name(sha(LAYERS[0]))])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"nonsense", "is not a readable tar archive"),
        *(
            (made(docker_archive("app:1", LAYERS))[:200], "is not a readable tar archive")
            for made in (gzip.compress, zstd.compress)
        ),
        *((made(b"")[:4] + b"nonsense", "is not a readable tar archive") for made in (gzip.compress, zstd.compress)),
        (tar([("x", b"", {})]), "is neither a docker archive nor an OCI layout"),
        (tar([("manifest.json", b"[{}]", {})]), "the archive lacks 'Config'"),
        (tar([("manifest.json", b"[]]", {})]), "manifest.json is not JSON"),
        (docker_archive("Bad:1", LAYERS), "must be lowercase"),
    ],
)
def test_bad_archives(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(BadImage) as refused:
        extract(tmp_path / "x.tar", tmp_path / "blobs")
    assert message in str(refused.value)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners and devices are made")
async def test_a_name_moves_to_a_newer_image(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "store")
    for layers in (LAYERS, LAYERS[:1]):
        (tmp_path / "x.tar").write_bytes(docker_archive("app:1", layers))
        await store.import_archive(tmp_path / "x.tar")
    newer = store.find("app:1")
    assert newer
    assert len(newer.layers) == 1
    [older] = [image for image in store.images() if image.id not in (newer.id, HOST.id)]
    assert older.tags == ()
