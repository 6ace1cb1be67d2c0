"""Pulling images: the OCI distribution API over aiohttp, with token and basic authentication, mirrors, and every digest checked.

`Registries.pull` brings an image's documents and the layers that are not unpacked yet into a directory of blobs, for
`ImageStore.add`. Registries on the machine itself are spoken to by plain HTTP, as container tools do. Texts of failures are containerd's,
since users and the kubelet's events know them. Sources: opencontainers/distribution-spec, distribution/docs/spec/auth/token.md.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import yaml

from minik8s.runtime.base import Auth, RuntimeFailed
from minik8s.runtime.images.manifests import (
    ACCEPTED,
    LONGEST_DOCUMENT,
    BadImage,
    Descriptor,
    choose,
    diff_ids,
    digest_of,
    document,
    is_index,
    parse_manifest,
)
from minik8s.runtime.images.reference import DEFAULT_REGISTRY, Reference

_HUB = "https://registry-1.docker.io"
_PARALLEL = 3
_CHUNK = 1 << 18
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
_PARAMETER = re.compile(r'([a-zA-Z]+)="([^"]*)"')


class Stock(Protocol):
    """What is there already (store.py: ImageStore)."""

    def has_layer(self, diff_id: str) -> bool: ...
    def document(self, digest: str) -> bytes | None: ...


class _NotFound(RuntimeFailed):
    pass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a registry is really asked: `url` without a trailing slash."""

    url: str
    auth: Auth | None = None
    ssl: ssl.SSLContext | bool = True


@dataclass(frozen=True, slots=True)
class Settings:
    """k3s's registries.yaml: `mirrors` (registry -> URLs to ask before it; `*` for all) and `configs` (host -> auth, tls)."""

    mirrors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_settings(path: Path) -> Settings:
    """Of a registries.yaml; ValueError where it isn't one. A missing file is no settings."""
    if not path.exists():
        return Settings()
    found = yaml.load(path.read_bytes(), yaml.CSafeLoader) or {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a mapping")  # noqa: TRY004 - a user's mistake in a file
    mirrors = {name: list((entry or {}).get("endpoint") or ()) for name, entry in (found.get("mirrors") or {}).items()}
    return Settings(mirrors, found.get("configs") or {})


class Registries:
    """All registries; one HTTP session for all of them, made at first use."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._session: aiohttp.ClientSession | None = None

    async def pull(self, reference: Reference, auth: Auth | None, into: Path, stock: Stock) -> Descriptor:
        """The manifest or index that `reference` names, with all it needs in `into`/sha256 but the layers in `stock`.

        Where all is in stock, that takes one HEAD request (which registries don't count).

        RuntimeFailed with reason ErrImagePull, or RegistryUnavailable where nobody answers.
        """
        failure: RuntimeFailed | None = None
        for endpoint in self._endpoints(reference.registry, auth):
            try:
                return await self._pull_from(endpoint, reference, into, stock)
            except RuntimeFailed as error:
                failure = error
        raise RuntimeFailed(
            f'failed to pull and unpack image "{reference}": {failure}', (failure and failure.reason) or "ErrImagePull"
        )

    async def close(self) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def _pull_from(self, endpoint: Endpoint, reference: Reference, into: Path, stock: Stock) -> Descriptor:
        repository = _Repository(self._http(), endpoint, reference.repository, stock)
        try:
            digest = reference.digest or await repository.resolve(reference.tag)
            data = await repository.document("manifests", digest or reference.tag)
        except _NotFound:
            raise RuntimeFailed(f'failed to resolve reference "{reference}": {reference}: not found') from None
        except RuntimeFailed as error:
            raise RuntimeFailed(f'failed to resolve reference "{reference}": {error}', error.reason) from None
        try:
            target = Descriptor("", _save(into, data, digest), len(data))
            content = document(data, "the manifest")
            if is_index(content):
                entry = choose(content)
                data = await repository.document("manifests", entry.digest)
                _save(into, data, entry.digest)
                content = document(data, "the manifest")
            manifest = parse_manifest(content)
            config = await repository.document("blobs", manifest.config.digest)
            _save(into, config, manifest.config.digest)
            ids = diff_ids(document(config, "the image's configuration"), len(manifest.layers))
            missing = {
                layer.digest: layer for layer, diff_id in zip(manifest.layers, ids, strict=True) if not stock.has_layer(diff_id)
            }
            await _fetch_all(repository, list(missing.values()), into)
        except BadImage as error:
            raise RuntimeFailed(str(error)) from None
        return target

    def _endpoints(self, registry: str, auth: Auth | None) -> list[Endpoint]:
        mirrors = self._settings.mirrors.get(registry, self._settings.mirrors.get("*", ()))
        own = _HUB if registry == DEFAULT_REGISTRY else f"{'http' if is_local(registry) else 'https'}://{registry}"
        found = [self._endpoint(url.rstrip("/"), None) for url in mirrors]
        return [*found, self._endpoint(own, auth)]

    def _endpoint(self, url: str, auth: Auth | None) -> Endpoint:
        config = self._settings.configs.get(url.partition("://")[2].partition("/")[0]) or {}
        given, tls = config.get("auth") or {}, config.get("tls") or {}
        if auth is None and given:
            both = base64.b64decode(given.get("auth", "")).decode().partition(":")
            auth = Auth(given.get("username", both[0]), given.get("password", both[2]), given.get("identity_token", ""))
        context = False if tls.get("insecure_skip_verify") else _trust(tls.get("ca_file"))
        return Endpoint(url, auth, context)

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True, auto_decompress=False)
        return self._session


@cache
def _trust(ca_file: str | None) -> ssl.SSLContext:
    """TLS that trusts the file's authorities, without one the system's (aiohttp's own context knows none: base/memory.py)."""
    return ssl.create_default_context(cafile=ca_file)


class _Repository:
    """One repository at one endpoint, with the token that it gave."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: Endpoint, name: str, stock: Stock) -> None:
        self._session, self._endpoint, self._name, self._stock = session, endpoint, name, stock
        self._authorization = f"Bearer {endpoint.auth.registry_token}" if endpoint.auth and endpoint.auth.registry_token else ""

    async def resolve(self, tag: str) -> str:
        """The digest that the tag stands for; empty where the registry does not say."""
        async with await self._request("HEAD", f"manifests/{tag}") as response:
            return response.headers.get("Docker-Content-Digest", "")

    async def document(self, kind: str, reference: str) -> bytes:
        """A manifest or configuration, from stock if it is there."""
        if (known := self._stock.document(reference)) is not None:
            return known
        async with await self._request("GET", f"{kind}/{reference}") as response:
            data = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                data += chunk
                if len(data) > LONGEST_DOCUMENT:
                    raise RuntimeFailed(f"{reference} is larger than {LONGEST_DOCUMENT} bytes")
            return bytes(data)

    async def blob(self, layer: Descriptor, path: Path) -> None:
        """Saves a layer under its name once its bytes have proved to be what its digest says."""
        fresh, digest, size = path.with_suffix(".part"), hashlib.sha256(), 0
        async with await self._request("GET", f"blobs/{layer.digest}") as response:
            with fresh.open("wb") as file:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    size += len(chunk)
                    if size > layer.size:
                        break
                    digest.update(chunk)
                    file.write(chunk)
        found = f"sha256:{digest.hexdigest()}"
        if size != layer.size or found != layer.digest:
            raise RuntimeFailed(
                f"failed commit on ref {layer.digest}: unexpected commit digest {found}, size {size}, expected {layer.size}"
            )
        fresh.rename(path)

    async def _request(self, method: str, path: str) -> aiohttp.ClientResponse:
        url = f"{self._endpoint.url}/v2/{self._name}/{path}"
        accept = ", ".join(ACCEPTED) if path.startswith("manifests/") else "*/*"
        response = await self._ask(method, url, accept=accept)
        if response.status == 401:
            challenge = response.headers.get("WWW-Authenticate", "")
            response.release()
            self._authorization = await self._authorize(challenge)
            response = await self._ask(method, url, accept=accept)
        if response.status == 200:
            return response
        status = response.status
        response.release()
        if status == 404:
            raise _NotFound(f"{url}: not found")
        if status in (401, 403):
            raise RuntimeFailed(
                "pull access denied, repository does not exist or may require authorization: authorization failed",
                "ErrImagePull",
            )
        raise RuntimeFailed(f"unexpected status from {method} request to {url}: {status} {response.reason}")

    async def _ask(
        self, method: str, url: str, *, accept: str = "*/*", authorization: str | None = None, **options: Any
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": accept}
        if value := self._authorization if authorization is None else authorization:
            headers["Authorization"] = value
        try:
            return await self._session.request(
                method, url, headers=headers, ssl=self._endpoint.ssl, allow_redirects=True, **options
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RuntimeFailed(f'failed to do request: {method.capitalize()} "{url}": {_explained(error)}') from None

    async def _authorize(self, challenge: str) -> str:
        auth = self._endpoint.auth
        basic = basic_authorization(auth.username, auth.password) if auth and auth.username else ""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            return basic
        if scheme.lower() != "bearer":
            return ""
        asked = dict(_PARAMETER.findall(rest))
        query = {"scope": asked.get("scope", f"repository:{self._name}:pull"), "service": asked.get("service", "")}
        if auth and auth.identity_token:
            form = {**query, "grant_type": "refresh_token", "refresh_token": auth.identity_token, "client_id": "minik8s"}
            response = await self._ask("POST", asked.get("realm", ""), authorization="", data=form)
        else:
            response = await self._ask("GET", asked.get("realm", ""), authorization=basic, params=query)
        async with response:
            if response.status != 200:
                raise RuntimeFailed(
                    f"failed to authorize: failed to fetch token: unexpected status: {response.status} {response.reason}"
                )
            found = document(await response.content.read(LONGEST_DOCUMENT), "the token")
        return f"Bearer {found.get('token') or found.get('access_token') or ''}"


def basic_authorization(username: str, password: str) -> str:
    """The header's value (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


def is_local(registry: str) -> bool:
    """On this machine: asked by plain HTTP."""
    host = registry.removeprefix("[").partition("]")[0] if registry.startswith("[") else registry.partition(":")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _fetch_all(repository: _Repository, layers: Sequence[Descriptor], into: Path) -> None:
    gate = asyncio.Semaphore(_PARALLEL)

    async def fetch(layer: Descriptor) -> None:
        async with gate:
            try:
                await repository.blob(layer, into / "sha256" / layer.digest.removeprefix("sha256:"))
            except (aiohttp.ClientError, TimeoutError) as error:
                raise RuntimeFailed(f"failed to copy: {_explained(error)}") from None

    try:
        async with asyncio.TaskGroup() as group:
            for layer in layers:
                group.create_task(fetch(layer))
    except* RuntimeFailed as failures:
        raise failures.exceptions[0] from None


def _save(into: Path, data: bytes, expected: str) -> str:
    """The digest, which must be the expected one (if any)."""
    found = digest_of(data)
    if expected and found != expected:
        raise BadImage(f"unexpected digest {found}, expected {expected}")
    (into / "sha256" / found.removeprefix("sha256:")).write_bytes(data)
    return found


def _explained(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        text = os.strerror(number).lower() if number and number > 0 else str(error.os_error)
        return f"dial tcp {error.host}:{error.port}: connect: {text}"
    return str(error) or type(error).__name__
