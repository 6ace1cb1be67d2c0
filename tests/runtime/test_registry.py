"""Pulls from a real registry (Debian's docker-registry) on loopback, and the token dance against a small one made here
(distribution/docs/spec/auth/token.md). Failures say what containerd says (golden/node/answers/errors.json)."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import platform
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from forwarding import forward_proxy
from runtime_bench import config_of, sha, tar

from minik8s.base.proxies import Proxies
from minik8s.runtime.base import Auth, RuntimeFailed
from minik8s.runtime.images.manifests import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from minik8s.runtime.images.reference import parse
from minik8s.runtime.images.registry import Registries, basic_authorization
from minik8s.runtime.images.settings import read_settings
from minik8s.runtime.images.store import ImageStore
from tests.helpers.ports import free_port

PASSWORD_FILE = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"  # bcrypt of "secret"
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
LAYER = tar([("etc/hello", b"hello\n", {})])
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: layers are unpacked"),
]


@dataclass
class Registry:
    host: str
    storage: Path
    headers: dict[str, str] = field(default_factory=dict)

    async def push(self, name: str, data: bytes, kind: str = "", tag: str = "") -> dict[str, Any]:
        """A blob, or with a media type a manifest; its descriptor."""
        base = f"http://{self.host}/v2/{name}"
        async with aiohttp.ClientSession(headers=self.headers) as session:
            if kind:
                async with session.put(
                    f"{base}/manifests/{tag or sha(data)}", data=data, headers={"Content-Type": kind}
                ) as answer:
                    assert answer.status == 201, await answer.text()
            else:
                async with session.post(f"{base}/blobs/uploads/") as answer:
                    where = answer.headers["Location"]
                async with session.put(where + f"&digest={sha(data)}", data=data) as answer:
                    assert answer.status == 201, await answer.text()
        return {"mediaType": kind or "application/octet-stream", "digest": sha(data), "size": len(data)}

    async def push_image(self, name: str, tag: str = "", layer: bytes = LAYER, kind: str = DOCKER_MANIFEST) -> dict[str, Any]:
        config = await self.push(name, config_of([layer], {"Cmd": ["/bin/hello"]}))
        packed = await self.push(name, gzip.compress(layer, mtime=0))
        config["mediaType"] = "application/vnd.docker.container.image.v1+json"
        packed["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [packed]}
        return await self.push(name, json.dumps(manifest).encode(), kind, tag)


async def serve_registry(directory: Path, auth: str = "") -> AsyncIterator[Registry]:
    program = shutil.which("docker-registry")
    if not program:
        pytest.skip("needs docker-registry (Debian's package)")
    host = f"127.0.0.1:{free_port()}"
    storage = directory / "storage"
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": host},
    }
    if auth:
        (directory / "htpasswd").write_text(auth)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    (directory / "config.yml").write_text(json.dumps(config))
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(program, "serve", str(directory / "config.yml"), stdout=log, stderr=log)
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(10):
            while True:
                try:
                    async with session.get(f"http://{host}/v2/"):
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.02)
        yield Registry(host, storage)
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async for served in serve_registry(tmp_path):
        yield served


@dataclass
class Puller:
    store: ImageStore
    registries: Registries

    async def pull(self, name: str, auth: Auth | None = None) -> str:
        reference = parse(name)
        incoming = self.store.incoming()
        target = await self.registries.pull(reference, auth, incoming, self.store)
        return await self.store.add(str(reference), target, incoming)


@pytest.fixture
async def puller(tmp_path: Path) -> AsyncIterator[Puller]:
    made = Puller(ImageStore(tmp_path / "store"), Registries())
    yield made
    await made.registries.close()


async def test_pull_by_tag_and_digest(registry: Registry, puller: Puller) -> None:
    target = await registry.push_image("team/app", "1")
    image_id = await puller.pull(f"{registry.host}/team/app:1")
    image = puller.store.find(image_id)
    assert image
    assert image.tags == [f"{registry.host}/team/app:1"]
    assert image.digests == [f"{registry.host}/team/app@{target['digest']}"]
    assert image.config == {"Cmd": ["/bin/hello"]}
    assert (puller.store.layers / image.layers[0] / "etc/hello").read_text() == "hello\n"
    assert await puller.pull(image.digests[0]) == image_id
    shutil.rmtree(registry.storage / "docker/registry/v2/blobs/sha256" / sha(gzip.compress(LAYER, mtime=0))[7:9])
    assert await puller.pull(f"{registry.host}/team/app:1") == image_id, "a layer that is there is not fetched again"


async def test_the_machine_s_image_of_an_index(registry: Registry, puller: Puller) -> None:
    other = tar([("etc/hello", b"wrong machine", {})])
    entries = []
    for layer, architecture in ((other, "mips"), (LAYER, MACHINE)):
        entry = await registry.push_image("multi", layer=layer, kind=OCI_MANIFEST)
        entries.append({**entry, "platform": {"os": "linux", "architecture": architecture}})
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    await registry.push("multi", index, OCI_INDEX, "latest")
    image = puller.store.find(await puller.pull(f"{registry.host}/multi"))
    assert image
    assert (puller.store.layers / image.layers[0] / "etc/hello").read_text() == "hello\n"
    assert image.digests == [f"{registry.host}/multi@{sha(index)}"]
    lone = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries[:1]}).encode()
    await registry.push("multi", lone, OCI_INDEX, "mips")
    with pytest.raises(RuntimeFailed, match="no match for platform in manifest"):
        await puller.pull(f"{registry.host}/multi:mips")


async def test_a_blob_that_is_not_its_digest(registry: Registry, puller: Puller) -> None:
    await registry.push_image("bad", "1")
    digest = sha(gzip.compress(LAYER, mtime=0))[7:]
    (registry.storage / f"docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data").write_bytes(
        gzip.compress(b"evil" * 40, mtime=0)
    )
    with pytest.raises(RuntimeFailed, match="unexpected commit digest") as failed:
        await puller.pull(f"{registry.host}/bad:1")
    assert failed.value.reason == "ErrImagePull"
    assert puller.store.find(f"{registry.host}/bad:1") is None


async def test_what_is_not_there(registry: Registry, puller: Puller) -> None:
    name = f"{registry.host}/none:1"
    with pytest.raises(RuntimeFailed) as failed:
        await puller.pull(name)
    assert (
        str(failed.value)
        == f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": {name}: not found'
    )
    with pytest.raises(RuntimeFailed) as failed:
        await puller.pull("127.0.0.1:1/none:1")
    assert str(failed.value).endswith(
        'failed to resolve reference "127.0.0.1:1/none:1": failed to do request: '
        'Head "http://127.0.0.1:1/v2/none/manifests/1": dial tcp 127.0.0.1:1: connect: connection refused'
    )


async def test_basic_authentication(tmp_path: Path, puller: Puller) -> None:
    async for registry in serve_registry(tmp_path, PASSWORD_FILE):
        registry.headers = {"Authorization": basic_authorization("user", "secret")}
        await registry.push_image("private", "1")
        with pytest.raises(RuntimeFailed, match="pull access denied"):
            await puller.pull(f"{registry.host}/private:1")
        assert await puller.pull(f"{registry.host}/private:1", Auth("user", "secret"))


async def test_mirrors_are_asked_first(registry: Registry, tmp_path: Path) -> None:
    await registry.push_image("library/app", "1")
    (tmp_path / "registries.yaml").write_text(
        f"mirrors:\n  docker.io:\n    endpoint: ['http://127.0.0.1:1', 'http://{registry.host}']\n"
    )
    mirrored = Puller(ImageStore(tmp_path / "store"), Registries(read_settings(tmp_path / "registries.yaml")))
    image = mirrored.store.find(await mirrored.pull("app:1"))
    assert image
    assert image.tags == ["docker.io/library/app:1"]
    await mirrored.registries.close()


async def test_other_names_at_a_mirror(registry: Registry, tmp_path: Path) -> None:
    """A rewrite is of the mirror's names; the image is called as it was asked for."""
    await registry.push_image("hub/library/app", "1")
    (tmp_path / "registries.yaml").write_text(
        f"mirrors: {{'*': {{endpoint: ['http://{registry.host}'], rewrite: {{'^(.*)$': 'hub/$1'}}}}}}"
    )
    mirrored = Puller(ImageStore(tmp_path / "store"), Registries(read_settings(tmp_path / "registries.yaml")))
    image = mirrored.store.find(await mirrored.pull("app:1"))
    assert image
    assert image.tags == ["docker.io/library/app:1"]
    await mirrored.registries.close()


async def test_through_a_proxy(registry: Registry, tmp_path: Path) -> None:
    """But never to this machine itself, nor what NO_PROXY names."""
    await registry.push_image("app", "1")
    port = registry.host.rpartition(":")[2]
    (tmp_path / "registries.yaml").write_text(f"mirrors: {{a.test: {{endpoint: ['http://b.test:{port}']}}}}")
    async with forward_proxy() as proxy:
        settings = read_settings(tmp_path / "registries.yaml")
        proxies = Proxies.of({"HTTP_PROXY": proxy.url, "NO_PROXY": "direct.test"})
        proxied = Puller(ImageStore(tmp_path / "store"), Registries(settings, proxies))
        assert await proxied.pull("a.test/app:1") == await proxied.pull(f"{registry.host}/app:1")
        assert proxy.asked[0] == f"HEAD http://b.test:{port}/v2/app/manifests/1?ns=a.test"
        assert all("//b.test:" in asked for asked in proxy.asked)
        with pytest.raises(RuntimeFailed, match=r"direct\.test"):
            await proxied.pull(f"direct.test:{port}/app:1")
        await proxied.registries.close()


async def test_a_redirect_to_another_host(registry: Registry, tmp_path: Path) -> None:
    """Through the proxy for that host, without what only the first may know (Go's net/http does so)."""
    await registry.push_image("app", "1")
    port = registry.host.rpartition(":")[2]

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.headers.get("Authorization") != basic_authorization("u", "p"):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        where = f"http://elsewhere.test:{port}{request.path}" if request.query_string else f"{request.path}?moved=1"
        return web.Response(status=307, headers={"Location": where})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host = f"127.0.0.1:{runner.addresses[0][1]}"
    async with forward_proxy() as proxy:
        puller = Puller(ImageStore(tmp_path / "store"), Registries(proxies=Proxies(http=proxy.url)))
        image = await puller.pull(f"{host}/app:1", Auth("u", "p"))
        assert image == await puller.pull(f"{registry.host}/app:1")
        assert proxy.asked[0] == f"HEAD http://elsewhere.test:{port}/v2/app/manifests/1"
        assert not any("authorization:" in head.lower() for head in proxy.heads)
        await puller.registries.close()
    await runner.cleanup()


async def test_tokens(puller: Puller) -> None:
    asked = []
    requests = []
    manifest_kinds: dict[str, tuple[str, bytes]] = {}

    async def answer(request: web.Request) -> web.Response:
        requests.append(f"{request.method} {request.path}")
        if request.path == "/token":
            asked.append((request.query["scope"], request.query["service"], request.headers.get("Authorization", "")))
            return web.json_response({"token": "t0ken"})
        if request.headers.get("Authorization") != "Bearer t0ken":
            realm = f'Bearer realm="http://{request.host}/token",service="reg",scope="repository:a/b:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})
        kind, data = manifest_kinds[request.path.rpartition("/")[2]]
        return web.Response(body=data, content_type=kind, headers={"Docker-Content-Digest": sha(data)})

    config, packed = config_of([LAYER]), gzip.compress(LAYER)
    described = [{"mediaType": "x/y", "digest": sha(data), "size": len(data)} for data in (config, packed)]
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described[0], "layers": described[1:]}
    ).encode()
    manifest_kinds.update(
        {
            "1": (OCI_MANIFEST, manifest),
            sha(manifest): (OCI_MANIFEST, manifest),
            sha(config): ("x/y", config),
            sha(packed): ("x/y", packed),
        }
    )
    runner = web.ServerRunner(web.Server(answer))  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host = f"127.0.0.1:{runner.addresses[0][1]}"
    assert await puller.pull(f"{host}/a/b:1", Auth("u", "p"))
    assert asked == [("repository:a/b:pull", "reg", basic_authorization("u", "p"))]
    requests.clear()
    assert await puller.pull(f"{host}/a/b:1", Auth("u", "p"))
    assert requests == ["HEAD /v2/a/b/manifests/1", "GET /token", "HEAD /v2/a/b/manifests/1"], (
        "what is in stock isn't fetched again"
    )
    await runner.cleanup()
