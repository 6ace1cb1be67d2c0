"""CSI drivers on a node, over real sockets. Sources: csi.v1 (order of calls), KEP-603 (registration), KEP-596 (inline), KEP-2855 (tokens),
kubernetes-csi.github.io for CSIDriver's fields; upstream's csi_mounter.go and csi_attacher.go for paths and messages."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from minik8s.api import storage
from minik8s.api.resources import (
    CSIDRIVERS,
    CSINODES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    SECRETS,
    VOLUMEATTACHMENTS,
)
from minik8s.kubelet.volumes.csi.drivers import node_patch, with_driver, without_other
from minik8s.kubelet.volumes.csi.plugins import Refused
from minik8s.kubelet.volumes.csi.wanted import Wanted, takes_group

from .conftest import Stage
from .csidriver import Driver
from .pods import container, pod

NAME = "d.example"
SHA = "aaa9402664f1a41f40ebbc52c9993eb66aeb366602958fdfaa283b71e64db123"  # of the handle "h"
MOUNTED = container(volumeMounts=[{"name": "v", "mountPath": "/v"}])
CLAIMED = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]


@pytest.fixture
async def stage(real_stage: Stage) -> AsyncIterator[Stage]:
    """As root, though nothing is mounted: the driver only says so. Sockets' names must be short."""
    with tempfile.TemporaryDirectory(prefix="csi-") as directory:
        layout = replace(real_stage.site.layout, root=Path(directory))
        real_stage.site = replace(real_stage.site, root=True, layout=layout)
        real_stage.api.put(NODES, {"metadata": {"name": "n1", "uid": "node-uid"}})
        yield real_stage
        await real_stage.stop()


@pytest.fixture
async def driver(stage: Stage, tmp_path: Path) -> AsyncIterator[Driver]:
    (tmp_path / "data").mkdir()
    driver = Driver(NAME, tmp_path / "data", mounts=False)
    yield driver
    await driver.stop()


async def eventually(check: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.01)


async def begin(stage: Stage, driver: Driver) -> None:
    await stage.start()
    await driver.start(stage.site.layout.root)
    await eventually(lambda: driver.registered)


def describe(stage: Stage, **spec: Any) -> None:
    stage.api.put(CSIDRIVERS, {"metadata": {"name": NAME}, "spec": {"attachRequired": False, **spec}})


def bind(stage: Stage, *, size: str = "1Gi", told: str = "1Gi", source: Any = None, **spec: Any) -> None:
    """A claim and its volume."""
    reference = {"namespace": "ns", "name": "c", "uid": "u"}
    csi = {"driver": NAME, "volumeHandle": "h", "volumeAttributes": {"a": "1"}, **(source or {})}
    full = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "csi": csi, "claimRef": reference, **spec}
    stage.api.put(PERSISTENTVOLUMES, {"metadata": {"name": "pv"}, "spec": full})
    claim = {"metadata": {"namespace": "ns", "name": "c", "uid": "u"}, "spec": {"volumeName": "pv"}}
    stage.api.put(PERSISTENTVOLUMECLAIMS, {**claim, "status": {"phase": "Bound", "capacity": {"storage": told}}})


def running(stage: Stage, name: str = "a") -> bool:
    return stage.status(name).get("phase") == "Running"


def failures(stage: Stage) -> list[str]:
    return [event["message"] for event in stage.api.events if event["reason"] == "FailedMount"]


async def test_a_driver_registers_and_goes(stage: Stage, driver: Driver) -> None:
    await begin(stage, driver)
    assert driver.registered == [""]
    entry = {"name": NAME, "nodeID": "me", "topologyKeys": [f"topology.{NAME}/node"], "allocatable": {"count": 7}}
    csi_node, node = stage.api.objects[CSINODES, "", "n1"], stage.api.objects[NODES, "", "n1"]
    assert csi_node["spec"]["drivers"] == [entry]
    assert csi_node["metadata"]["ownerReferences"][0]["uid"] == "node-uid"
    assert node["metadata"]["annotations"] == {"csi.volume.kubernetes.io/nodeid": f'{{"{NAME}":"me"}}'}
    assert node["metadata"]["labels"] == {f"topology.{NAME}/node": "here"}
    driver.registration.unlink()
    await eventually(lambda: not stage.api.objects[CSINODES, "", "n1"]["spec"]["drivers"])
    await driver.start(stage.site.layout.root)
    await eventually(lambda: len(driver.registered) == 2)
    assert stage.api.objects[CSINODES, "", "n1"]["spec"]["drivers"] == [entry]


async def test_an_inline_volume(stage: Stage, driver: Driver) -> None:
    describe(stage, volumeLifecycleModes=["Ephemeral"], podInfoOnMount=True, tokenRequests=[{"audience": "vault"}])
    stage.api.put(SECRETS, {"metadata": {"namespace": "ns", "name": "s"}, "data": {"k": "c2VjcmV0"}})
    await begin(stage, driver)
    source = {"driver": NAME, "volumeAttributes": {"a": "1"}, "nodePublishSecretRef": {"name": "s"}, "readOnly": True}
    stage.add(pod(MOUNTED, volumes=[{"name": "v", "csi": source}]))
    await eventually(lambda: running(stage))
    [(method, told)] = driver.calls
    target = stage.site.layout.pods / "uid-a/volumes/kubernetes.io~csi/v/mount"
    assert (method, told["target_path"], told["readonly"]) == ("NodePublishVolume", str(target), True)
    assert (told["secrets"], told["volume_capability"]["access_mode"]) == ({"k": "secret"}, {"mode": 1})
    tokens = json.loads(told["volume_context"].pop("csi.storage.k8s.io/serviceAccount.tokens"))
    assert tokens["vault"]["token"].startswith("t0ken-")
    assert told["volume_context"] == {
        "a": "1",
        "csi.storage.k8s.io/pod.name": "a",
        "csi.storage.k8s.io/pod.namespace": "ns",
        "csi.storage.k8s.io/pod.uid": "uid-a",
        "csi.storage.k8s.io/serviceAccount.name": "",
        "csi.storage.k8s.io/ephemeral": "true",
    }
    data = json.loads((target.parent / "vol_data.json").read_text())
    assert (data["driverName"], data["volumeLifecycleMode"], data["volumeHandle"]) == (NAME, "Ephemeral", told["volume_id"])
    stage.api.delete_pod("ns", "a", 1)
    await eventually(lambda: not target.parent.exists())
    assert [method for method, _ in driver.calls] == ["NodePublishVolume", "NodeUnpublishVolume"]


async def test_a_claimed_volume_is_staged_once_and_survives_the_agent(stage: Stage, driver: Driver) -> None:
    describe(stage)
    bind(stage)
    await begin(stage, driver)
    stage.add(pod(MOUNTED, volumes=CLAIMED))
    stage.add(pod(MOUNTED, volumes=CLAIMED, name="b"))
    await eventually(lambda: running(stage) and running(stage, "b"))
    staging = stage.site.layout.root / f"plugins/kubernetes.io/csi/{NAME}/{SHA}/globalmount"
    told = next(fields for method, fields in driver.calls if method == "NodeStageVolume")
    assert (told["volume_id"], told["staging_target_path"], told["volume_context"]) == ("h", str(staging), {"a": "1"})
    published = [fields for method, fields in driver.calls if method == "NodePublishVolume"]
    assert {fields["staging_target_path"] for fields in published} == {str(staging)}
    await stage.stop()
    stage.api.drop(PERSISTENTVOLUMES, "", "pv")  # what is on disk says enough
    stage.api.drop(PERSISTENTVOLUMECLAIMS, "ns", "c")
    driver.calls.clear()
    stage.api.delete_pod("ns", "a", 0)
    await stage.start()
    await eventually(lambda: not stage.site.layout.pod("uid-a").exists())
    assert [method for method, _ in driver.calls] == ["NodeUnpublishVolume"]  # the other pod has it still
    stage.api.delete_pod("ns", "b", 0)
    await eventually(lambda: not stage.site.layout.pod("uid-b").exists())
    assert [method for method, _ in driver.calls] == ["NodeUnpublishVolume", "NodeUnpublishVolume", "NodeUnstageVolume"]
    assert not staging.parent.exists()


async def test_a_pod_waits_for_its_driver(stage: Stage, driver: Driver) -> None:
    describe(stage)
    bind(stage)
    await stage.start()
    stage.add(pod(MOUNTED, volumes=CLAIMED))
    await eventually(lambda: failures(stage))
    unknown = f"driver name {NAME} not found in the list of registered CSI drivers"
    assert failures(stage)[0] == (
        'MountVolume.MountDevice failed for volume "pv" : kubernetes.io/csi: attacher.MountDevice failed to create '
        f"newCsiDriverClient: {unknown}"
    )
    driver.fails["NodePublishVolume"] = (grpc.StatusCode.INTERNAL, "no room")
    await driver.start(stage.site.layout.root)
    text = 'MountVolume.SetUp failed for volume "pv" : rpc error: code = Internal desc = no room'
    await eventually(lambda: text in failures(stage))
    assert not (stage.site.layout.pods / "uid-a/volumes/kubernetes.io~csi/pv").exists()  # it is done with that
    driver.fails.clear()
    await eventually(lambda: running(stage))


async def test_a_volume_is_attached_first(stage: Stage, driver: Driver) -> None:
    describe(stage, attachRequired=True)
    bind(stage)
    await begin(stage, driver)
    stage.add(pod(MOUNTED, volumes=CLAIMED))
    unique = f"kubernetes.io/csi/{NAME}^h"
    assert stage.kubelet is not None
    in_use = stage.kubelet.in_use
    await eventually(lambda: in_use.names() == [unique])
    assert (driver.calls, failures(stage)) == ([], [])
    attachment = {"metadata": {"name": storage.attachment_name(NAME, "h", "n1")}}
    stage.api.put(VOLUMEATTACHMENTS, {**attachment, "status": {"attached": True, "attachmentMetadata": {"disk": "sdb"}}})
    node = stage.api.objects[NODES, "", "n1"]
    stage.api.put(NODES, {**node, "status": {"volumesAttached": [{"name": unique, "devicePath": ""}]}})
    await eventually(lambda: running(stage))
    assert [fields["publish_context"] for _, fields in driver.calls] == [{"disk": "sdb"}] * 2
    stage.api.delete_pod("ns", "a", 0)
    await eventually(lambda: in_use.names() == [])


async def test_a_volume_that_grew(stage: Stage, driver: Driver) -> None:
    describe(stage)
    bind(stage)
    await begin(stage, driver)
    stage.add(pod(MOUNTED, volumes=CLAIMED))
    await eventually(lambda: running(stage))
    bind(stage, size="2Gi", told="1Gi")
    await eventually(lambda: any(event["reason"] == "FileSystemResizeSuccessful" for event in stage.api.events))
    told = next(fields for method, fields in driver.calls if method == "NodeExpandVolume")
    assert (told["volume_id"], told["capacity_range"]) == ("h", {"required_bytes": 2 << 30})
    assert stage.api.objects[PERSISTENTVOLUMECLAIMS, "ns", "c"]["status"]["capacity"] == {"storage": "2Gi"}


async def test_a_block_volume(stage: Stage, driver: Driver) -> None:
    describe(stage)
    bind(stage, volumeMode="Block")
    (driver.data / "h").touch()
    await begin(stage, driver)
    device = {"name": "v", "devicePath": "/dev/xvda"}
    stage.add(pod(container(volumeDevices=[device]), volumes=CLAIMED))
    await eventually(lambda: running(stage))
    base = stage.site.layout.root / "plugins/kubernetes.io/csi/volumeDevices"
    (stage_method, staged), (method, published) = driver.calls
    assert (stage_method, staged["staging_target_path"]) == ("NodeStageVolume", str(base / "staging/pv"))
    assert (method, published["target_path"]) == ("NodePublishVolume", str(base / "publish/pv/uid-a"))
    assert published["volume_capability"] == {"block": {}, "access_mode": {"mode": 1}}
    [given] = next(iter(stage.runtime.configs.values())).devices
    assert (given.container_path, given.host_path) == ("/dev/xvda", published["target_path"])
    stage.api.delete_pod("ns", "a", 0)
    await eventually(lambda: not stage.site.layout.pod("uid-a").exists())
    assert [method for method, _ in driver.calls[2:]] == ["NodeUnpublishVolume", "NodeUnstageVolume"]
    assert [path for path in base.rglob("*") if not path.is_dir()] == []


def test_what_nodes_say_of_drivers() -> None:
    old = {"name": "d", "nodeID": "1", "topologyKeys": ["k"]}
    assert without_other([old], {**old, "nodeID": "2"}) == []
    assert with_driver(without_other([old], old), {**old, "allocatable": {"count": 1}}) == [
        {**old, "allocatable": {"count": 1}}
    ]
    labelled = {"metadata": {"labels": {"k": "a"}}}
    with pytest.raises(Refused, match='driver reported "k":"b" but existing label is "k":"a"'):
        node_patch(labelled, "d", "1", {"k": "b"})
    known = {"metadata": {"labels": {"k": "a"}, "annotations": {"csi.volume.kubernetes.io/nodeid": '{"d":"1"}'}}}
    assert node_patch(known, "d", "1", {"k": "a"}) == {}
    assert node_patch(known, "d", "", {}) == {"annotations": {"csi.volume.kubernetes.io/nodeid": None}}


@pytest.mark.parametrize(
    ("policy", "fs_type", "modes", "taken"),
    [
        ("File", "", ["ReadWriteMany"], True),
        ("None", "ext4", ["ReadWriteOnce"], False),
        (None, "ext4", ["ReadWriteOnce"], True),
        (None, "", ["ReadWriteOnce"], False),
        (None, "ext4", ["ReadWriteMany"], False),
    ],
)
def test_who_gives_files_to_the_group(policy: str | None, fs_type: str, modes: list[str], taken: bool) -> None:  # KEP-1682
    wanted = Wanted("v", NAME, "h", "Persistent", modes=modes, fs_type=fs_type)
    assert takes_group(wanted, {"spec": {"fsGroupPolicy": policy}}) is taken
    assert not takes_group(replace(wanted, readonly=True), {"spec": {"fsGroupPolicy": "File"}})
