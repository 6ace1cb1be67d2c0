"""Images from a real registry (Debian's docker-registry), on the machine's loopback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from clusters import Cluster, Kubectl, busybox, pod
from machines import eventually
from runtime_bench import busybox_layer, config_of, sha

pytestmark = [pytest.mark.e2e, pytest.mark.root]


@pytest.fixture(scope="module")
def registry(cluster: Cluster) -> Iterator[str]:
    if not shutil.which("docker-registry"):
        pytest.skip("docker-registry is not installed")
    port = cluster.machine.free_port()
    config = cluster.directory / "registry.yaml"
    storage = {"filesystem": {"rootdirectory": str(cluster.directory / "registry")}}
    config.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": f"127.0.0.1:{port}"}}))
    process = cluster.machine.start("docker-registry", "serve", config, output=cluster.directory / "registry.log")
    host = f"127.0.0.1:{port}"
    eventually(lambda: cluster.machine.get(f"http://{host}/v2/") == "{}")
    push(cluster, host, "e2e/box")
    yield host
    process.kill()
    process.wait()


def push(cluster: Cluster, host: str, name: str) -> None:
    """One layer, its configuration and a manifest (OCI distribution specification, "Pushing manifests")."""
    layer = busybox_layer()
    config = config_of([layer], {"Env": ["PATH=/bin", "FROM=registry"], "Cmd": ["sh", "-c", "echo by default $FROM"]})
    described = [
        {"mediaType": kind, "digest": sha(data), "size": len(data)} for kind, data in ((CONFIG, config), (LAYER, layer))
    ]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
    for kind, data in (("", layer), ("", config), (MANIFEST, json.dumps(manifest).encode())):
        file = cluster.directory / "upload"
        file.write_bytes(data)
        put = ["-T", file, "-H", f"Content-Type: {kind or 'application/octet-stream'}"]
        if kind:
            url = f"http://{host}/v2/{name}/manifests/1"
        else:
            begun = cluster.machine.run(
                "curl",
                "-sS",
                "-o",
                "/dev/null",
                "-w",
                "%header{location}",
                "-X",
                "POST",
                f"http://{host}/v2/{name}/blobs/uploads/",
            )
            url = f"{begun.stdout}&digest={sha(data)}"
        done = cluster.machine.run("curl", "-sS", "--fail-with-body", *put, url)
        assert done.returncode == 0, done.stdout + done.stderr


MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG, LAYER = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"


def test_a_pod_of_a_pulled_image(k: Kubectl, cluster: Cluster, registry: str) -> None:
    container = {"name": "c", "image": f"{registry}/e2e/box:1"}
    k.apply(pod("p", container, restartPolicy="Never"))
    k.phase("p", "Succeeded")
    assert k("logs", "p") == "by default registry\n"
    status = k.get("pod", "p")["status"]["containerStatuses"][0]
    assert status["image"] == f"{registry}/e2e/box:1"
    assert f"{registry}/e2e/box@sha256:" in status["imageID"]
    said = k("get", "events", "--field-selector=reason=Pulled", "-o", "jsonpath={.items[*].message}")
    assert f'Successfully pulled image "{registry}/e2e/box:1"' in said
    k.apply(pod("none", busybox("true") | {"image": f"{registry}/e2e/none:1"}))
    assert "not found" in eventually(
        lambda: k("get", "events", "--field-selector=reason=Failed", "-o", "jsonpath={.items[*].message}")
    )


def test_the_image_command(cluster: Cluster, registry: str) -> None:
    data = ("--data-dir", cluster.data)
    name = f"{registry}/e2e/box:1"
    assert cluster.minik8s("image", "pull", name, *data).startswith(f"pulled {name}")
    assert name in cluster.minik8s("image", "ls", *data)
    assert cluster.minik8s("image", "rm", name, *data) == f"removed {name}\n"
    assert name not in cluster.minik8s("image", "ls", *data)
