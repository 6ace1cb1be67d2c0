"""Images from a real registry (Debian's docker-registry): over HTTP on loopback, and over TLS with a password."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clusters import Cluster, Kubectl, busybox, pod
from machines import eventually
from runtime_bench import busybox_layer, config_of, sha, tar

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = [pytest.mark.e2e, pytest.mark.root]

PASSWORD_FILE = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"  # bcrypt of "secret"
OCI = "application/vnd.oci.image"


class Registry:
    """`index` is the digest of the image e2e/box:1 of several architectures."""

    def __init__(self, cluster: Cluster, host: str, url: str, options: list[str]) -> None:
        self.host, self._cluster, self._url, self._options = host, cluster, url, options
        self.index = ""

    def curl(self, *arguments: str | Path) -> str:
        done = self._cluster.machine.run("curl", "-sS", "--fail-with-body", *self._options, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def answers(self) -> bool:
        return self.curl(f"{self._url}/v2/") == "{}"

    def push(self) -> None:
        """The machine's image, and one that it can't run; layers as gzip and zstd."""
        layers = [busybox_layer(), tar([("etc/layer", b"by zstd\n", {})])]
        packed = [gzip.compress(layers[0], 1, mtime=0), zstd.compress(layers[1])]
        config = config_of(layers, {"Env": ["PATH=/bin", "FROM=registry"], "Cmd": ["sh", "-c", "echo $FROM; cat /etc/layer"]})
        machine = json.loads(config)["architecture"]
        described = [self._blob(config, "config.v1+json")]
        described += [self._blob(data, f"layer.v1.tar+{by}") for data, by in zip(packed, ("gzip", "zstd"), strict=True)]
        manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": described[0], "layers": described[1:]}
        other = {**manifest, "layers": described[1:2]}
        entries = []
        for architecture, content in (("mips", other), (machine, manifest)):
            entry = self._manifest(json.dumps(content).encode(), "manifest.v1+json")
            entries.append({**entry, "platform": {"os": "linux", "architecture": architecture}})
        index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries}
        self.index = self._manifest(json.dumps(index).encode(), "index.v1+json", "1")["digest"]

    def _blob(self, data: bytes, kind: str) -> dict[str, Any]:
        """OCI distribution specification, "Pushing blobs"."""
        begun = ("-o", "/dev/null", "-w", "%header{location}", "-X", "POST", f"{self._url}/v2/e2e/box/blobs/uploads/")
        self._put(data, "application/octet-stream", f"{self.curl(*begun)}&digest={sha(data)}")
        return {"mediaType": f"{OCI}.{kind}", "digest": sha(data), "size": len(data)}

    def _manifest(self, data: bytes, kind: str, tag: str = "") -> dict[str, Any]:
        self._put(data, f"{OCI}.{kind}", f"{self._url}/v2/e2e/box/manifests/{tag or sha(data)}")
        return {"mediaType": f"{OCI}.{kind}", "digest": sha(data), "size": len(data)}

    def _put(self, data: bytes, kind: str, url: str) -> None:
        file = self._cluster.directory / "upload"
        file.write_bytes(data)
        self.curl("-T", file, "-H", f"Content-Type: {kind}", url)


@contextmanager
def serving(cluster: Cluster, name: str, host: str, settings: dict[str, Any], options: list[str]) -> Iterator[Registry]:
    if not shutil.which("docker-registry"):
        pytest.skip("docker-registry is not installed")
    directory = cluster.directory / name
    directory.mkdir()
    http = {"addr": host, **settings.pop("http", {})}
    storage = {"filesystem": {"rootdirectory": str(directory)}}
    config = directory / "config.yaml"
    config.write_text(json.dumps({"version": 0.1, "storage": storage, "http": http, **settings}))
    process = cluster.machine.start("docker-registry", "serve", config, output=directory / "log")
    try:
        found = Registry(cluster, host, f"{'https' if 'tls' in http else 'http'}://{host}", options)
        eventually(found.answers)
        found.push()
        yield found
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def plain(cluster: Cluster) -> Iterator[Registry]:
    with serving(cluster, "plain", f"127.0.0.1:{cluster.machine.free_port()}", {}, []) as found:
        yield found


@pytest.fixture(scope="module")
def private(cluster: Cluster) -> Iterator[Registry]:
    """Over TLS, for `user`, as the cluster's registries.yaml says (clusters.py)."""
    files = {name: f"{cluster.directory}/registry.{name}" for name in ("ca", "crt", "key")}
    passwords = cluster.directory / "htpasswd"
    passwords.write_text(PASSWORD_FILE)
    settings = {
        "http": {"tls": {"certificate": files["crt"], "key": files["key"]}},
        "auth": {"htpasswd": {"realm": "e2e", "path": str(passwords)}},
    }
    options = ["--cacert", files["ca"], "--user", "user:secret"]
    with serving(cluster, "private", cluster.registry, settings, options) as found:
        yield found


def test_pods_of_pulled_images(k: Kubectl, plain: Registry, private: Registry) -> None:
    """One image of several architectures, by digest from a registry in plain and from one with TLS and a password; by tag from that as a
    mirror, and as a mirror where it has another name."""
    images = {
        "digest": f"{plain.host}/e2e/box@{plain.index}",
        "private": f"{private.host}/e2e/box@{private.index}",
        "mirror": "mirror.e2e/e2e/box:1",
        "renamed": "renamed.e2e/team/box:1",
    }
    k.apply(*(pod(name, {"name": "c", "image": image}, restartPolicy="Never") for name, image in images.items()))
    for name in images:
        status = k.phase(name, "Succeeded")["status"]["containerStatuses"][0]
        assert k("logs", name) == "registry\nby zstd\n"
        assert status["image"] in images.values()  # CRI tells one of an image's names
        assert status["imageID"].endswith(f"@{plain.index}")
    said = k("get", "events", "--field-selector=reason=Pulled", "-o", "jsonpath={.items[*].message}")
    for image in images.values():
        assert f'Successfully pulled image "{image}"' in said


def test_what_a_registry_refuses(k: Kubectl, plain: Registry, private: Registry) -> None:
    """What it does not have, and a pod's own credentials, which win over registries.yaml."""
    wrong = ("--docker-server", private.host, "--docker-username=user", "--docker-password=wrong")
    k("create", "secret", "docker-registry", "wrong", *wrong)
    k.apply(pod("none", busybox("true") | {"image": f"{plain.host}/e2e/none:1"}))
    fresh = {"image": f"{private.host}/e2e/box:1", "imagePullPolicy": "Always"}
    k.apply(pod("wrong", busybox("true") | fresh, imagePullSecrets=[{"name": "wrong"}]))

    def failed(name: str) -> str:
        fields = f"--field-selector=reason=Failed,involvedObject.name={name}"
        return k("get", "events", fields, "-o", "jsonpath={.items[*].message}")

    assert "not found" in eventually(lambda: failed("none"))
    assert "Failed to pull image" in eventually(lambda: failed("wrong"))
    assert "uthoriz" in failed("wrong")


def test_the_image_command(cluster: Cluster, plain: Registry) -> None:
    data = ("--data-dir", cluster.data)
    name = f"{plain.host}/e2e/box:1"
    assert cluster.minik8s("image", "pull", name, *data).startswith(f"pulled {name}")
    assert name in cluster.minik8s("image", "ls", *data)
    assert cluster.minik8s("image", "rm", name, *data) == f"removed {name}\n"
    assert name not in cluster.minik8s("image", "ls", *data)
