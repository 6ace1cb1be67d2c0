"""What is behind a claim on a node, or why nothing is (yet). Messages: upstream's desired_state_of_world_populator.go,
operation_generator.go and local.go."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from random import Random
from typing import Any

import pytest

from minik8s.api import storage
from minik8s.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, Resource
from minik8s.kubelet.downward import Surroundings
from minik8s.kubelet.layout import Layout
from minik8s.kubelet.pod import uid
from minik8s.kubelet.site import Site
from minik8s.kubelet.volumes import MountFailed, Volumes
from minik8s.testing.clock import VirtualClock

from .pods import container, pod
from .test_volumes import NoDrivers

UNBOUND = "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process volumes=[v]: "
NOT_FOUND = 'failed to fetch PVC from API server: persistentvolumeclaims "c" not found'


def claim(phase: str = "Bound", volume: str = "pv", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "c", "uid": "u", **metadata}, "spec": {"volumeName": volume}, "status": {"phase": phase}}


def local(path: Path | str, claimed_by: str | None = "u", **spec: Any) -> dict[str, Any]:
    reference = {} if claimed_by is None else {"claimRef": {"uid": claimed_by}}
    return {"metadata": {"name": "pv"}, "spec": {"local": {"path": str(path)}, **reference, **spec}}


def host_path(path: Path | str, kind: str = "", **spec: Any) -> dict[str, Any]:
    source = {"hostPath": {"path": str(path), "type": kind}, "claimRef": {"uid": "u"}}
    return {"metadata": {"name": "pv"}, "spec": {**source, **spec}}


class Objects:
    """Sources of one claim and one volume."""

    def __init__(self, claim: dict[str, Any] | None, volume: dict[str, Any] | None) -> None:
        self._found = {PERSISTENTVOLUMECLAIMS: claim, PERSISTENTVOLUMES: volume}

    async def get(self, pod_uid: str, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        assert (namespace, name) in (("ns", "c"), ("ns", "a-v"), ("", "pv"))
        return self._found[resource]

    def release(self, pod_uid: str) -> None:
        pass


class Tokens:
    def forget(self, pod_uid: str) -> None:
        pass


def volumes(tmp_path: Path, clock: VirtualClock, objects: Objects, *, root: bool = False) -> Volumes:
    site = Site("n1", Layout(tmp_path / "kubelet", tmp_path / "logs", tmp_path / "storage"), root=root)
    return Volumes(site, clock, Random(1), objects, Tokens(), NoDrivers(), lambda: {"zone": "a"})  # type: ignore[arg-type]  # stand-ins


def user(name: str = "a", kind: str = "volumeMounts", source: Any = None, mount: Any = None, **spec: Any) -> dict[str, Any]:
    place = {"mountPath": "/v"} if kind == "volumeMounts" else {"devicePath": "/v"}
    volume = {"name": "v", **(source or {"persistentVolumeClaim": {"claimName": "c"}})}
    return pod(container(**{kind: [{"name": "v", **place, **(mount or {})}]}), name=name, volumes=[volume], **spec)


def affinity(zone: str) -> dict[str, Any]:
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]}}


DELETED = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("found", "volume", "message"),
    [
        (None, None, UNBOUND + "error processing PVC ns/c: " + NOT_FOUND),
        (claim("Pending", ""), None, UNBOUND + "error processing PVC ns/c: PVC is not bound"),
        (claim(**DELETED), None, UNBOUND + "error processing PVC ns/c: PVC is being deleted"),
        (
            claim(),
            None,
            UNBOUND + 'error processing PVC ns/c: failed to fetch PV pv from API server: persistentvolumes "pv" not found',
        ),
        (
            claim(),
            local("/", None),
            UNBOUND + "error processing PVC ns/c: found PV object pv but it has a nil pv.Spec.ClaimRef indicating it is "
            "not yet bound to the claim",
        ),
        (
            claim(),
            local("/", "other"),
            UNBOUND + "error processing PVC ns/c: found PV object pv but its pv.Spec.ClaimRef.UID other does not point to "
            "claim.UID u",
        ),
        (claim(), local("/", volumeMode="Block"), UNBOUND + "volume v has volumeMode Block, but is specified in volumeMounts"),
        (
            claim(),
            local("/", nodeAffinity=affinity("b")),
            'MountVolume.NodeAffinity check failed for volume "pv" : no matching NodeSelectorTerms',
        ),
        (
            claim(),
            local("/", mountOptions=["ro"]),
            'MountVolume.MountOptionSupport check failed for volume "pv" : mount options are not supported for this volume type',
        ),
        (
            claim(),
            local("/no/such"),
            'MountVolume.NewMounter initialization failed for volume "pv" : path "/no/such" does not exist',
        ),
        (
            claim(),
            host_path("/no/such", "Directory"),
            'MountVolume.SetUp failed for volume "pv" : hostPath type check failed: /no/such is not a directory',
        ),
        (
            claim(),
            {"metadata": {"name": "pv"}, "spec": {"claimRef": {"uid": "u"}, "capacity": {}, "rbd": {}}},
            'MountVolume.SetUp failed for volume "pv" : volumes of kind rbd are not supported by this node',
        ),
    ],
)
async def test_why_there_is_nothing_to_mount(
    found: Any, volume: Any, message: str, tmp_path: Path, clock: VirtualClock
) -> None:
    with pytest.raises(MountFailed) as error:
        await volumes(tmp_path, clock, Objects(found, volume)).mount(user(), Surroundings())
    assert error.value.failures == [message]


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (
            local("/no/such", volumeMode="Block"),
            'MapVolume.SetUpDevice failed for volume "pv" : path "/no/such" does not exist',
        ),
        (local("/etc", volumeMode="Block"), 'MapVolume.MapBlockVolume failed for volume "pv" : /etc is not a block device'),
        (
            host_path("/dev", volumeMode="Block"),
            'MapVolume.FindMapperPluginBySpec failed for volume "pv" : no block volume plugin matched for volumes of kind hostPath',
        ),
    ],
)
async def test_what_is_no_block_device(volume: Any, message: str, tmp_path: Path, clock: VirtualClock) -> None:
    with pytest.raises(MountFailed) as error:
        await volumes(tmp_path, clock, Objects(claim(), volume)).mount(user(kind="volumeDevices"), Surroundings())
    assert error.value.failures == [message]


@pytest.mark.skipif(not Path("/dev/loop0").is_block_device(), reason="needs a block device")
@pytest.mark.parametrize(("readonly", "permissions"), [(False, "rwm"), (True, "rm")])
async def test_a_block_device_is_given_to_the_container(
    readonly: bool, permissions: str, tmp_path: Path, clock: VirtualClock
) -> None:
    (tmp_path / "disk").symlink_to("/dev/loop0")
    manager = volumes(tmp_path, clock, Objects(claim(), local(tmp_path / "disk", volumeMode="Block")))
    one = user(kind="volumeDevices", source={"persistentVolumeClaim": {"claimName": "c", "readOnly": readonly}})
    await manager.mount(one, Surroundings())
    [device] = manager.devices(one, one["spec"]["containers"][0])
    assert (device.container_path, device.host_path, device.permissions) == ("/v", "/dev/loop0", permissions)
    assert await manager.mounts(one, one["spec"]["containers"][0], {}, {}) == []


async def test_an_ephemeral_volume_needs_a_claim_of_its_own(tmp_path: Path, clock: VirtualClock) -> None:  # KEP-1698
    one = user(source={"ephemeral": {"volumeClaimTemplate": {}}})
    with pytest.raises(MountFailed, match=r"PVC ns/a-v was not created for pod ns/a \(pod is not owner\)"):
        await volumes(tmp_path, clock, Objects(claim(), local(tmp_path))).mount(one, Surroundings())
    owner = {"ownerReferences": [{"controller": True, "uid": uid(one)}]}
    manager = volumes(tmp_path, clock, Objects(claim(**owner), local(tmp_path)))
    await manager.mount(one, Surroundings())
    [mount] = await manager.mounts(one, one["spec"]["containers"][0], {}, {})
    assert mount.host_path == str(tmp_path)


@pytest.mark.parametrize("volume", [local, host_path])
async def test_a_bound_claim_is_its_directory(volume: Any, tmp_path: Path, clock: VirtualClock) -> None:
    (tmp_path / "data").mkdir()
    deleted = claim(**DELETED, finalizers=["kubernetes.io/pvc-protection"])  # in use: protected until its pods are gone
    manager = volumes(tmp_path, clock, Objects(deleted, volume(tmp_path / "data", nodeAffinity=affinity("a"))))
    one = user(mount={"subPath": "part"}, source={"persistentVolumeClaim": {"claimName": "c", "readOnly": True}})
    await manager.mount(one, Surroundings())
    [mount] = await manager.mounts(one, one["spec"]["containers"][0], {}, {})
    assert (mount.host_path, mount.readonly) == (str(tmp_path / "data/part"), True)
    await manager.unmount(uid(one))
    assert (tmp_path / "data/part").is_dir()


async def test_the_directory_of_the_built_in_provisioner_is_made(tmp_path: Path, clock: VirtualClock) -> None:
    kept = Layout(tmp_path / "kubelet", tmp_path / "logs", tmp_path / "storage").storage / "pvc-u_ns_c"

    found = local(kept)
    found["metadata"] |= {"labels": {storage.LOCAL_NODE: "n1"}, "annotations": {storage.PROVISIONED_BY: storage.LOCAL_PATH}}
    await volumes(tmp_path, clock, Objects(claim(), found)).mount(user(), Surroundings())
    assert stat.S_IMODE(kept.stat().st_mode) == 0o777
    found["metadata"]["labels"][storage.LOCAL_NODE] = "n2"
    kept.rmdir()
    with pytest.raises(MountFailed, match="does not exist"):
        await volumes(tmp_path, clock, Objects(claim(), found)).mount(user(), Surroundings())


async def test_one_pod_at_a_time(tmp_path: Path, clock: VirtualClock) -> None:  # KEP-2485
    manager = volumes(tmp_path, clock, Objects(claim(), local(tmp_path, accessModes=["ReadWriteOncePod"])))
    await manager.mount(user("a"), Surroundings())
    with pytest.raises(MountFailed, match="ReadWriteOncePod access mode and is already in use by another pod"):
        await manager.mount(user("b"), Surroundings())
    await manager.unmount(uid(user("a")))
    await manager.mount(user("b"), Surroundings())


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")
@pytest.mark.parametrize(("volume", "shown"), [(local, "2775 3000"), (host_path, "755 0")])
async def test_the_pods_group(volume: Any, shown: str, tmp_path: Path, clock: VirtualClock) -> None:
    """A local volume is given to fsGroup, a directory of the host never."""
    (tmp_path / "data").mkdir(mode=0o755)
    manager = volumes(tmp_path, clock, Objects(claim(), volume(tmp_path / "data")), root=True)
    one = user(securityContext={"fsGroup": 3000})
    await manager.mount(one, Surroundings())
    now = (tmp_path / "data").stat()
    assert f"{stat.S_IMODE(now.st_mode):o} {now.st_gid}" == shown
    await manager.unmount(uid(one))
