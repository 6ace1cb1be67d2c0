"""Claims as their users have them: the built-in local path provisioner (k3s' conventions), volumes that outlive pods."""

from __future__ import annotations

from pathlib import Path

import pytest
from clusters import SLEEP, Kubectl, busybox, pod
from machines import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def claim(name: str, **spec: object) -> dict[str, object]:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": wanted}


def using(name: str, command: str, **source: object) -> dict[str, object]:
    volume = {"name": "data", **(source or {"persistentVolumeClaim": {"claimName": "data"}})}
    mounts = [{"name": "data", "mountPath": "/data"}]
    return pod(name, busybox(command, volumeMounts=mounts), volumes=[volume], restartPolicy="Never")


def test_what_a_pod_writes_the_next_one_reads(k: Kubectl) -> None:
    k.apply(claim("data"))
    k.apply(using("writer", "echo kept > /data/file; id -u"))
    k.phase("writer", "Succeeded")
    bound = k.get("pvc", "data")
    assert (bound["status"]["phase"], bound["spec"]["storageClassName"]) == ("Bound", "local-path")
    volume = k.get("pv", bound["spec"]["volumeName"])
    directory = Path(volume["spec"]["local"]["path"])
    assert directory.name == f"{volume['metadata']['name']}_{k.namespace}_data"
    assert (directory / "file").read_text() == "kept\n"
    k("delete", "pod", "writer")
    k.apply(using("reader", "cat /data/file"))
    k.phase("reader", "Succeeded")
    assert k("logs", "reader") == "kept\n"
    k("delete", "pvc", "data", "--wait=false")  # protected while a pod is there
    k("delete", "pod", "reader")
    assert eventually(lambda: not directory.exists(), 30)
    assert eventually(lambda: k.run("get", "pv", volume["metadata"]["name"]).returncode != 0, 30)


def test_an_ephemeral_claim_comes_and_goes_with_its_pod(k: Kubectl) -> None:
    template = {"volumeClaimTemplate": {"spec": claim("")["spec"]}}
    k.apply(using("p", f"echo x > /data/file; {SLEEP}", ephemeral=template))
    k.ready("p")
    volume = k.get("pv", k.get("pvc", "p-data")["spec"]["volumeName"])
    directory = Path(volume["spec"]["local"]["path"])
    assert eventually((directory / "file").exists)
    k("delete", "pod", "p")
    assert eventually(lambda: not directory.exists(), 60)


def test_a_pod_waits_for_its_claim(k: Kubectl) -> None:
    k.apply(using("p", "ls /data"))

    def why() -> str:
        conditions = k.get("pod", "p")["status"].get("conditions") or ()
        return next((str(c.get("message")) for c in conditions if c["type"] == "PodScheduled"), "")

    assert eventually(lambda: why() == '0/1 nodes are available: persistentvolumeclaim "data" not found. not found')
    k.apply(claim("data"))
    k.phase("p", "Succeeded")


def test_a_volume_made_by_hand(k: Kubectl, tmp_path: Path) -> None:
    """A static hostPath volume, kept by its policy."""
    (tmp_path / "there").write_text("by hand\n")
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "hostPath": {"path": str(tmp_path)},
        "claimRef": {"namespace": k.namespace, "name": "data"},
    }
    name = f"{k.namespace}-pv"
    k.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
    k.apply(claim("data", storageClassName=""))
    k.apply(using("p", "cat /data/there", persistentVolumeClaim={"claimName": "data", "readOnly": True}))
    k.phase("p", "Succeeded")
    assert k("logs", "p") == "by hand\n"
    k("delete", "pod", "p")
    k("delete", "pvc", "data")
    assert eventually(lambda: k.get("pv", name)["status"]["phase"] == "Released")
    assert (tmp_path / "there").exists()
    k("delete", "pv", name)
