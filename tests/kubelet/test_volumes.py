"""What containers find in their volumes. Answers: golden/node/volumes and security; CVE-2017-1002101 for subPath."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from minik8s.api.resources import CONFIGMAPS, SECRETS, Resource
from minik8s.kubelet.downward import Surroundings
from minik8s.kubelet.env import ConfigError
from minik8s.kubelet.layout import Layout
from minik8s.kubelet.site import Site
from minik8s.kubelet.volumes import MountFailed, Volumes, atomic, hostpath, subpath
from minik8s.kubelet.volumes.atomic import File
from minik8s.kubelet.volumes.payload import Found, Missing, TokenWanted, files
from minik8s.kubelet.volumes.tokens import Token
from minik8s.runtime.base import Mount
from minik8s.runtime.embedded import linux
from minik8s.testing.clock import VirtualClock

from .pods import container, pod

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and owners need root")

OBJECTS: dict[tuple[Resource, str], dict[str, Any]] = {
    (CONFIGMAPS, "conf"): {"data": {"a": "one", "b": "two"}, "binaryData": {"bin": "AAEC/w=="}},
    (SECRETS, "sec"): {"data": {"s": base64.b64encode(b"two").decode()}},
}


def payload(volume: dict[str, Any], one: Mapping[str, Any] | None = None) -> dict[str, File]:
    tokens = {TokenWanted("", 3600): "t0ken", TokenWanted("vault.example", 600): "other"}
    return files(one or pod(), volume, Found(lambda r, n: OBJECTS.get((r, n)), tokens, Surroundings()))


# --- which files ---


def test_a_config_map() -> None:
    assert payload({"name": "v", "configMap": {"name": "conf"}}) == {
        "a": File(b"one"),
        "b": File(b"two"),
        "bin": File(b"\x00\x01\x02\xff"),
    }
    items = [{"key": "a", "path": "dir/aa"}, {"key": "b", "path": "bb", "mode": 0o755}]
    found = payload({"name": "v", "configMap": {"name": "conf", "defaultMode": 0o440, "items": items}})
    assert found == {"dir/aa": File(b"one", 0o440), "bb": File(b"two", 0o755)}


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
        (
            {"configMap": {"name": "conf", "items": [{"key": "other", "path": "x"}]}},
            "configmap references non-existent config key: other",
        ),
        ({"secret": {"secretName": "no"}}, 'secret "no" not found'),
        ({"secret": {"secretName": "sec", "items": [{"key": "x", "path": "x"}]}}, "references non-existent secret key: x"),
        ({"projected": {"sources": [{"configMap": {"name": "conf"}}, {"secret": {"name": "no"}}]}}, 'secret "no" not found'),
    ],
)
def test_what_is_missing(volume: dict[str, Any], message: str) -> None:  # golden ne-vol-*
    with pytest.raises(Missing) as error:
        payload({"name": "v", **volume})
    assert str(error.value) == message


def test_optional_parts_may_be_missing() -> None:
    assert payload({"name": "v", "configMap": {"name": "no", "optional": True}}) == {}
    items = [{"key": "a", "path": "a"}, {"key": "no", "path": "no"}]
    assert payload({"name": "v", "configMap": {"name": "conf", "optional": True, "items": items}}) == {"a": File(b"one")}


def test_projected() -> None:  # golden nl-projected
    sources = [
        {"configMap": {"name": "conf", "items": [{"key": "a", "path": "a"}]}},
        {"secret": {"name": "sec", "items": [{"key": "s", "path": "sub/s", "mode": 0o600}]}},
        {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"serviceAccountToken": {"path": "t", "audience": "vault.example", "expirationSeconds": 600}},
    ]
    assert payload({"name": "v", "projected": {"defaultMode": 0o640, "sources": sources}}) == {
        "a": File(b"one", 0o640),
        "sub/s": File(b"two", 0o600),
        "n": File(b"a", 0o640),
        "t": File(b"other", 0o640),
    }


@pytest.mark.parametrize(
    ("security", "mode", "owner"),
    [({}, 0o644, None), ({"runAsUser": 1000}, 0o600, 1000), ({"runAsUser": 1000, "fsGroup": 3000}, 0o600, 1000)],
)
def test_who_may_read_a_token(security: dict[str, int], mode: int, owner: int | None) -> None:  # golden nl-token*
    volume = {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    assert payload(volume, pod(securityContext=security))["token"] == File(b"t0ken", mode, owner)


# --- on disk ---


RNG = Random(1)


def put(volume: Path, contents: dict[str, File]) -> bool:
    return atomic.write(volume, contents, 1767323045, RNG, None)


def test_atomic_writes(tmp_path: Path) -> None:
    assert put(tmp_path, {"a": File(b"1"), "dir/b": File(b"2", 0o400)})
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..2")) == ["..data", "a", "dir"]
    assert (tmp_path / "a").readlink() == Path("..data/a")
    assert len(str((tmp_path / "..data").readlink())) == 32
    assert stat.S_IMODE((tmp_path / "dir/b").stat().st_mode) == 0o400
    assert not put(tmp_path, {"a": File(b"1"), "dir/b": File(b"2", 0o400)})
    before = (tmp_path / "..data").readlink()
    assert put(tmp_path, {"a": File(b"changed"), "c": File(b"3")})
    assert (tmp_path / "a").read_bytes() == b"changed"
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..2")) == ["..data", "a", "c"]
    assert not (tmp_path / before).exists()


def test_what_a_crash_left_goes_with_the_next_write(tmp_path: Path) -> None:
    put(tmp_path, {"a": File(b"1")})
    (tmp_path / "..2026_01_01_00_00_00.1111111111").mkdir()
    put(tmp_path, {"a": File(b"2")})
    assert len([p for p in tmp_path.iterdir() if p.name.startswith("..2")]) == 1


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "..data", ""])
def test_paths_stay_inside(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="invalid path"):
        put(tmp_path, {path: File(b"x")})


@pytest.mark.parametrize(
    ("kind", "there", "message"),
    [
        ("Directory", "", "is not a directory"),
        ("Directory", "file", "is not a directory"),
        ("File", "dir", "is not a file"),
        ("Socket", "file", "is not a socket file"),
        ("CharDevice", "file", "is not a character device"),
    ],
)
def test_host_paths_that_are_not_what_they_should_be(tmp_path: Path, kind: str, there: str, message: str) -> None:
    path = tmp_path / "x"
    if there == "file":
        path.touch()
    elif there == "dir":
        path.mkdir()
    with pytest.raises(Missing, match=f"hostPath type check failed: {path} {message}"):
        hostpath.prepare(path, kind)


def test_host_paths_that_are_made(tmp_path: Path) -> None:
    hostpath.prepare(tmp_path / "d/e", "DirectoryOrCreate")
    hostpath.prepare(tmp_path / "f", "FileOrCreate")
    hostpath.prepare(tmp_path / "none", "")
    hostpath.prepare(Path("/dev/null"), "CharDevice")
    assert (tmp_path / "d/e").is_dir()
    assert (tmp_path / "f").is_file()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("sub", ["up", "up/etc", "../outside", "deep/up"])
def test_sub_paths_that_lead_out(tmp_path: Path, sub: str) -> None:
    volume = tmp_path / "volume"
    (volume / "deep").mkdir(parents=True)
    (volume / "up").symlink_to("/")
    (volume / "deep/up").symlink_to("../../..")
    with pytest.raises(PermissionError):
        subpath.locate(volume, sub)


def test_sub_paths_are_made(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    (volume / "link").symlink_to("deep")
    assert subpath.locate(volume, "deep/er") == volume / "deep/er"
    assert stat.S_IMODE((volume / "deep").stat().st_mode) == 0o777
    assert subpath.locate(volume, "link/er") == volume / "deep/er"


# --- the manager ---


class NoSources:
    async def get(self, pod_uid: str, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        return OBJECTS.get((resource, name))

    def release(self, pod_uid: str) -> None:
        pass


class NoTokens:
    async def get(self, pod: object, wanted: TokenWanted) -> Token:
        return Token("t0ken", 99.0, 100.0)

    def forget(self, pod_uid: str) -> None:
        pass


class NoDrivers:
    async def unpublish(self, pod_uid: str) -> None:
        pass


def volumes(tmp_path: Path, clock: VirtualClock, *, root: bool) -> Volumes:
    site = Site("n1", Layout(tmp_path / "kubelet", tmp_path / "logs", tmp_path / "storage"), root=root)
    return Volumes(site, clock, Random(1), NoSources(), NoTokens(), NoDrivers())  # type: ignore[arg-type]  # stand-ins


def mounting_pod(**spec: Any) -> dict[str, Any]:
    mounts = [
        {"name": "conf", "mountPath": "/conf"},
        {"name": "sec", "mountPath": "/sec"},
        {"name": "d", "mountPath": "/d"},
        {"name": "d", "mountPath": "/part", "subPathExpr": "logs/$(POD)"},
        {"name": "host", "mountPath": "/host", "readOnly": True, "mountPropagation": "HostToContainer"},
    ]
    return pod(
        container(volumeMounts=mounts),
        volumes=[
            {"name": "conf", "configMap": {"name": "conf"}},
            {"name": "sec", "projected": {"sources": [{"secret": {"name": "sec"}}, {"serviceAccountToken": {"path": "t"}}]}},
            {"name": "d", "emptyDir": {}},
            {"name": "host", "hostPath": {"path": "/etc"}},
            {"name": "unused", "configMap": {"name": "no"}},
        ],
        **spec,
    )


async def test_mounts_without_root(tmp_path: Path, clock: VirtualClock) -> None:
    manager, one = volumes(tmp_path, clock, root=False), mounting_pod()
    assert await manager.mount(one, Surroundings()) == 99.0
    mounts = await manager.mounts(one, one["spec"]["containers"][0], {"POD": "a"}, {})
    base = tmp_path / "kubelet/pods/uid-a/volumes"
    assert [(m.container_path, m.host_path, m.readonly) for m in mounts] == [
        ("/conf", str(base / "kubernetes.io~configmap/conf"), True),
        ("/sec", str(base / "kubernetes.io~projected/sec"), True),
        ("/d", str(base / "kubernetes.io~empty-dir/d"), False),
        ("/part", str(base / "kubernetes.io~empty-dir/d/logs/a"), False),
        ("/host", "/etc", True),
    ]
    assert mounts[4].propagation == "rslave"
    assert (base / "kubernetes.io~projected/sec/t").read_text() == "t0ken"
    (base / "kubernetes.io~empty-dir/d/e.env").write_text("A=1")
    assert manager.read(one, "d", "e.env") == "A=1"
    assert manager.read(one, "d", "../../kubernetes.io~configmap/conf/a") is None
    with pytest.raises(ConfigError, match="missing value for POD"):
        await manager.mounts(one, one["spec"]["containers"][0], {}, {})
    await manager.unmount("uid-a")
    assert not base.exists()


async def test_an_image_s_volume_is_the_runtime_s(tmp_path: Path, clock: VirtualClock) -> None:
    """KEP-4639: by the image's id, read-only; a part of it too."""
    mounts = [{"name": "i", "mountPath": "/i"}, {"name": "i", "mountPath": "part", "subPathExpr": "$(POD)/b"}]
    one = pod(container(volumeMounts=mounts), volumes=[{"name": "i", "image": {"reference": "x:1"}}])
    manager = volumes(tmp_path, clock, root=False)
    await manager.mount(one, Surroundings())
    assert await manager.mounts(one, one["spec"]["containers"][0], {"POD": "a"}, {"i": "id"}) == [
        Mount("/i", "", readonly=True, image="id"),
        Mount("/part", "", readonly=True, image="id", image_sub_path="a/b"),
    ]


@pytest.mark.root
@needs_root
async def test_mounts_with_root(tmp_path: Path, clock: VirtualClock) -> None:  # golden ns-fsgroup*, nl-secret
    manager, one = volumes(tmp_path, clock, root=True), mounting_pod(securityContext={"runAsUser": 1000, "fsGroup": 3000})
    await manager.mount(one, Surroundings())
    try:
        await manager.mount(one, Surroundings())  # again: nothing changes
        base = tmp_path / "kubelet/pods/uid-a"
        mounts = await manager.mounts(one, one["spec"]["containers"][0], {"POD": "a"}, {})
        assert mounts == await manager.mounts(one, one["spec"]["containers"][0], {"POD": "a"}, {})
        part = Path(mounts[3].host_path)
        assert part.is_relative_to(base / "volume-subpaths")
        (part / "f").touch()
        assert (base / "volumes/kubernetes.io~empty-dir/d/logs/a/f").exists()
        assert (base / "volumes/kubernetes.io~projected/sec").is_mount()
        shown = {
            name: f"{stat.S_IMODE((base / 'volumes' / name).stat().st_mode):o} {(base / 'volumes' / name).stat().st_uid}:"
            f"{(base / 'volumes' / name).stat().st_gid}"
            for name in (
                "kubernetes.io~configmap/conf",
                "kubernetes.io~configmap/conf/a",
                "kubernetes.io~projected/sec",
                "kubernetes.io~projected/sec/t",
                "kubernetes.io~empty-dir/d",
            )
        }
        assert shown == {
            "kubernetes.io~configmap/conf": "2777 0:3000",
            "kubernetes.io~configmap/conf/a": "644 0:3000",
            "kubernetes.io~projected/sec": "3777 0:3000",
            "kubernetes.io~projected/sec/t": "640 1000:3000",
            "kubernetes.io~empty-dir/d": "2777 0:3000",
        }
    finally:
        await manager.unmount("uid-a")
    assert linux.mounts_below(tmp_path) == []
    assert not (base / "volumes").exists()


async def test_kinds_that_are_not_supported(tmp_path: Path, clock: VirtualClock) -> None:
    spec = container(volumeMounts=[{"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/w"}])
    one = pod(
        spec, volumes=[{"name": "v", "rbd": {"image": "i", "monitors": ["m"]}}, {"name": "w", "configMap": {"name": "no"}}]
    )
    with pytest.raises(MountFailed) as error:
        await volumes(tmp_path, clock, root=False).mount(one, Surroundings())
    assert error.value.failures == [
        'MountVolume.SetUp failed for volume "v" : volumes of kind rbd are not supported by this node',
        'MountVolume.SetUp failed for volume "w" : configmap "no" not found',
    ]


def test_no_name_leads_out_of_the_data_directory(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path, tmp_path / "storage")
    for name in ("", ".", "..", "a/b", "a\0"):
        with pytest.raises(ValueError, match="not a file name"):
            layout.pod(name)


async def test_a_file_of_variables_is_a_plain_one_inside_and_short(tmp_path: Path) -> None:  # KEP-3721
    volume, secret = tmp_path / "v", tmp_path / "secret"
    volume.mkdir()
    secret.write_text("s")
    (volume / "a").write_text("x" * 100)
    (volume / "out").symlink_to(secret)
    (volume / "in").symlink_to("a")
    os.mkfifo(volume / "fifo")
    assert subpath.read(volume, "a", 10) == b"x" * 10
    assert subpath.read(volume, "in", 10) == b"x" * 10
    assert [subpath.read(volume, name, 10) for name in ("out", "fifo", "../secret", "none", ".")] == [None] * 5
