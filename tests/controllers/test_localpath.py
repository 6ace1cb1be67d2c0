"""The built-in local path provisioner: what it makes, what it refuses, and what becomes of it. Source: rancher's local-path-provisioner
(messages), k3s (names)."""

from pathlib import Path
from typing import Any

import pytest

from minik8s.api import storage
from minik8s.api.errors import Forbidden
from minik8s.api.resources import PERSISTENTVOLUMES
from minik8s.apiserver.provision import provision_storage
from minik8s.client.informer import Informers
from minik8s.controllers.localpath import Refused, is_wanted, volume_for
from minik8s.kubelet.layout import Layout
from minik8s.kubelet.localpath import LocalPath, is_let_go
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

NODE = {
    "metadata": {
        "name": "n",
        "labels": {"kubernetes.io/hostname": "host-n"},
        "annotations": {storage.LOCAL_DIRECTORY: "/var/lib/minik8s/agent/storage"},
    }
}
CLASS = {"metadata": {"name": "local-path"}, "provisioner": storage.LOCAL_PATH, "volumeBindingMode": "WaitForFirstConsumer"}


def claim(selected: str = "n", **spec: Any) -> dict[str, Any]:
    notes = {storage.PROVISIONER: storage.LOCAL_PATH} | ({storage.SELECTED_NODE: selected} if selected else {})
    metadata = {"name": "c", "namespace": "ns", "uid": "u", "resourceVersion": "1", "annotations": notes}
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    return {"metadata": metadata, "spec": wanted}


def test_a_directory_of_the_selected_node() -> None:
    volume = volume_for(claim(), CLASS, NODE)
    assert volume["metadata"]["name"] == "pvc-u"
    assert storage.is_local_to(volume, "n")
    assert not storage.is_local_to(volume, "m")
    assert volume["spec"]["local"]["path"] == "/var/lib/minik8s/agent/storage/pvc-u_ns_c"
    assert (volume["spec"]["capacity"], volume["spec"]["persistentVolumeReclaimPolicy"]) == ({"storage": "1Gi"}, "Delete")
    assert storage.reaches(volume, {"kubernetes.io/hostname": "host-n"})
    assert not storage.reaches(volume, {"kubernetes.io/hostname": "m"})
    assert volume_for(claim(), CLASS | {"reclaimPolicy": "Retain"}, NODE)["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


@pytest.mark.parametrize(
    ("wanted", "node", "why", "elsewhere"),
    [
        (claim(""), NODE, "configuration error, no node was specified", False),
        (
            claim(accessModes=["ReadWriteMany"]),
            NODE,
            "NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes",
            False,
        ),
        (claim(selector={"matchLabels": {"a": "b"}}), NODE, "claim.Spec.Selector is not supported", False),
        (claim(volumeMode="Block"), NODE, "block volumes are not supported", False),
        (claim(), None, 'node "n" not found', True),
        (claim(), {"metadata": {"name": "n"}}, 'node "n" offers no local storage', True),
    ],
)
def test_what_it_refuses(wanted: Any, node: Any, why: str, elsewhere: bool) -> None:
    with pytest.raises(Refused) as error:
        volume_for(wanted, CLASS, node)
    assert (str(error.value), error.value.elsewhere) == (why, elsewhere)


def test_whose_claims_it_serves() -> None:
    assert is_wanted(claim())
    assert not is_wanted(claim(volumeName="pv"))
    assert not is_wanted({"metadata": {"annotations": {storage.PROVISIONER: "example.com/disk"}}, "spec": {}})


@pytest.mark.parametrize(
    ("phase", "policy", "deleted", "let_go"),
    [
        ("Bound", "Delete", False, False),
        ("Released", "Delete", False, True),
        ("Released", "Retain", False, False),
        ("Bound", "Delete", True, False),
        ("Released", "Retain", True, True),
        ("Available", "Delete", True, True),
    ],
)
def test_when_a_volume_is_let_go(phase: str, policy: str, deleted: bool, let_go: bool) -> None:
    metadata: dict[str, Any] = {"finalizers": [storage.KEPT_UNTIL_GONE]} | ({"deletionTimestamp": "now"} if deleted else {})
    volume = {"metadata": metadata, "spec": {"persistentVolumeReclaimPolicy": policy}, "status": {"phase": phase}}
    assert is_let_go(volume) == let_go


@pytest.mark.parametrize("path", ["/data/storage", "/data/storage/a/b", "/data/storage/..", "/etc", "", "storage/a"])
def test_only_its_own_directories_are_kept(path: str) -> None:
    assert Layout(Path("/data"), Path("/logs"), Path("/data/storage")).kept(path) is None
    assert Layout(Path("/data"), Path("/logs"), Path("/data/storage")).kept("/data/storage/a") == Path("/data/storage/a")


@pytest.mark.cluster(nodes=0)
async def test_from_claim_to_end(cluster: Cluster, clock: VirtualClock, tmp_path: Path) -> None:
    """The claim is bound on the node of its pod; once it is gone the agent removes the directory, and the volume goes."""
    await provision_storage(cluster.plane.desk)
    layout = Layout(tmp_path, tmp_path / "logs", tmp_path / "storage")
    room = {"cpu": "4", "memory": "8Gi", "pods": "10"}
    labels, notes = {"kubernetes.io/hostname": "n"}, {storage.LOCAL_DIRECTORY: str(layout.storage)}
    metadata = {"name": "n", "labels": labels, "annotations": notes}
    await cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": {"allocatable": room}})
    tolerations = [{"operator": "Exists"}]
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    spec = {"containers": [{"name": "c", "image": "x"}], "volumes": volumes, "tolerations": tolerations}
    await cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": wanted})
    await clock.advance(2)
    found = await cluster.get("pvc/c")
    assert found is not None
    assert found["status"]["phase"] == "Bound"
    assert ((await cluster.get("pod/p")) or {})["spec"]["nodeName"] == "n"
    [volume] = await cluster.all("pv")
    directory = Path(volume["spec"]["local"]["path"])
    (directory / "data").mkdir(parents=True)
    others = layout.storage / "other"
    others.mkdir()

    client = cluster.client_as("system:node:n", ["system:nodes"])
    informers = Informers(client, clock, cluster.plane.rng)
    with pytest.raises(Forbidden, match='node "n" can only update the finalizers of its volumes'):
        await client.patch(PERSISTENTVOLUMES, volume["metadata"]["name"], "", {"metadata": {"labels": {"x": "y"}}})
    local = LocalPath("n", layout, client, informers, clock)
    local.start()
    await cluster.delete("pod/p", grace_period=0)
    await clock.advance(2)
    assert directory.exists()
    await cluster.delete("pvc/c")
    await clock.advance(5)
    await cluster.wait_for(f"pv/{volume['metadata']['name']}", "gone")
    assert not directory.exists()
    assert others.exists()
    await local.stop()
    await informers.stop()
