"""Claims as their users have them: the built-in local path provisioner (k3s' conventions), volumes that outlive pods."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import SLEEP, Cluster, Kubectl, busybox, pod
from machines import eventually

DRIVER = Path(__file__).parents[1] / "kubelet/csidriver.py"

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


@pytest.fixture
def driver(k: Kubectl, cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A CSI driver on the node, which binds directories and devices of the one that is given."""
    command = [sys.executable, str(DRIVER), str(cluster.data / "agent/kubelet"), "d.example", str(tmp_path)]
    with subprocess.Popen(command) as process:
        try:
            spec = {"attachRequired": False, "podInfoOnMount": True, "volumeLifecycleModes": ["Persistent", "Ephemeral"]}
            k.apply({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "d.example"}, "spec": spec})
            assert eventually(lambda: k.get("csinode", cluster.node)["spec"]["drivers"], 20)
            yield tmp_path
        finally:
            process.terminate()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A block device of a file."""
    (tmp_path / "disk.img").write_bytes(b"on the disk".ljust(1 << 20, b"\0"))
    made = subprocess.run(["losetup", "--find", "--show", tmp_path / "disk.img"], check=True, capture_output=True, text=True)
    yield made.stdout.strip()
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


def test_volumes_of_a_csi_driver_and_a_block_device(k: Kubectl, cluster: Cluster, driver: Path, disk: str) -> None:
    (driver / "vol").mkdir()
    (driver / "vol/there").write_text("of the driver\n")
    common = {"capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    here = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [cluster.node]}]}
    on_node = {"nodeAffinity": {"required": {"nodeSelectorTerms": [here]}}, "volumeMode": "Block"}
    sources = {
        "data": {"csi": {"driver": "d.example", "volumeHandle": "vol"}},
        "disk": {"local": {"path": disk}, **on_node},
    }
    for name, source in sources.items():
        reference = {"claimRef": {"namespace": k.namespace, "name": name}}
        k.apply(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": common | reference | source}
        )
        k.apply(claim(name, storageClassName="", **({"volumeMode": "Block"} if name == "disk" else {})))
    volumes: list[dict[str, object]] = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in sources]
    volumes.append({"name": "inline", "csi": {"driver": "d.example"}})
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("data", "inline")]
    command = "cat /data/there; head -c 11 /dev/xvda; echo; cat /inline/context; echo x > /data/written; echo y > /dev/xvda"
    user = busybox(command, volumeMounts=mounts, volumeDevices=[{"name": "disk", "devicePath": "/dev/xvda"}])
    k.apply(pod("p", user, volumes=volumes, restartPolicy="Never"))
    k.phase("p", "Succeeded", 40)
    first, second, context = k("logs", "p").splitlines()
    assert (first, second) == ("of the driver", "on the disk")
    assert json.loads(context)["csi.storage.k8s.io/pod.name"] == "p"
    assert ((driver / "vol/written").read_text(), (driver / "disk.img").read_bytes()[:2]) == ("x\n", b"y\n")
    k("delete", "pod", "p")
    staged = cluster.data / "agent/kubelet/plugins/kubernetes.io/csi/d.example"
    assert eventually(lambda: not any(staged.rglob("*")))
    methods = [json.loads(line)[0] for line in (driver / "calls").read_text().splitlines()]
    assert (methods.count("NodeStageVolume"), methods.count("NodePublishVolume")) == (1, 2)
    assert (methods.count("NodeUnstageVolume"), methods.count("NodeUnpublishVolume")) == (1, 2)
    assert "d.example" not in Path("/proc/mounts").read_text()
    k("delete", "pvc", *sources)
    k("delete", "pv", *sources)


def test_mounts_are_passed_on(k: Kubectl) -> None:
    """From a container (the last to start) whose mounts go both ways to one that sees the host's, and to no other."""
    making = f"mkdir /v/in; mount -t tmpfs none /v/in; touch /v/in/file; touch /v/done; {SLEEP}"
    seeing = f"until [ -e /v/done ]; do sleep 0.1; done; ls /v/in > /tmp/seen; {SLEEP}"
    kinds = {"from": ("HostToContainer", seeing), "none": ("None", seeing), "both": ("Bidirectional", making)}
    containers = [
        busybox(
            script,
            name,
            volumeMounts=[{"name": "v", "mountPath": "/v", "mountPropagation": kind}, {"name": "t", "mountPath": "/tmp"}],
            securityContext={"privileged": True},
        )
        for name, (kind, script) in kinds.items()
    ]
    containers[1]["volumeMounts"][1]["name"] = "t2"
    k.apply(pod("p", *containers, volumes=[{"name": name, "emptyDir": {}} for name in ("v", "t", "t2")]))
    k.ready("p")
    seen = {
        name: eventually(lambda name=name: "." + k("exec", "p", "-c", name, "--", "cat", "/tmp/seen"))
        for name in ("from", "none")
    }
    assert seen == {"from": ".file\n", "none": "."}
    k("delete", "pod", "p")
