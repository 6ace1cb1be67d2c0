"""Pulling images: the OCI distribution API over aiohttp, with token and basic authentication, mirrors, and every digest checked.

`Registries.pull` brings an image's documents and the layers that are not unpacked yet into a directory of blobs, for
`ImageStore.add`. Whom it asks, and how, is in settings.py (registries.yaml); through which proxy, in base/proxies.py. Texts of failures are
containerd's, since users and the kubelet's events know them. Sources: opencontainers/distribution-spec,
distribution/docs/spec/auth/token.md; the query `ns` tells a mirror whom it stands for (containerd, docs/hosts.md).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import ssl
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from yarl import URL

from minik8s.base.proxies import Proxies
from minik8s.runtime.base import Auth, RuntimeFailed
from minik8s.runtime.images.manifests import (
    ACCEPTED,
    LONGEST_DOCUMENT,
    OCI_INDEX,
    OCI_MANIFEST,
    BadImage,
    Descriptor,
    choose,
    diff_ids,
    digest_of,
    document,
    is_index,
    parse_manifest,
)
from minik8s.runtime.images.reference import Reference
from minik8s.runtime.images.settings import Endpoint, Settings, Tls

_PARALLEL = 3
_CHUNK = 1 << 18
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
_REDIRECTS, _MOVED = 10, (301, 302, 303, 307, 308)
_PARAMETER = re.compile(r'([a-zA-Z]+)="([^"]*)"')


class Stock(Protocol):
    """What is there already (store.py: ImageStore)."""

    def has_layer(self, diff_id: str) -> bool: ...
    def document(self, digest: str) -> bytes | None: ...


class _NotFound(RuntimeFailed):
    pass


class Registries:
    """All registries; one HTTP session for all of them, made at first use."""

    def __init__(self, settings: Settings | None = None, proxies: Proxies | None = None) -> None:
        self.settings, self._proxies = settings or Settings(), proxies or Proxies()
        self._session: aiohttp.ClientSession | None = None

    async def pull(self, reference: Reference, auth: Auth | None, into: Path, stock: Stock) -> Descriptor:
        """The manifest or index that `reference` names, with all it needs in `into`/sha256 but the layers in `stock`.

        Where all is in stock, that takes one HEAD request (which registries don't count).

        RuntimeFailed with reason ErrImagePull, or RegistryUnavailable where nobody answers.
        """
        failure: RuntimeFailed | None = None
        for endpoint in self.settings.endpoints(reference.registry):
            try:
                return await self._pull_from(endpoint, reference, auth, into, stock)
            except RuntimeFailed as error:
                failure = error
        raise RuntimeFailed(
            f'failed to pull and unpack image "{reference}": {failure}', (failure and failure.reason) or "ErrImagePull"
        )

    async def close(self) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def _pull_from(
        self, endpoint: Endpoint, reference: Reference, auth: Auth | None, into: Path, stock: Stock
    ) -> Descriptor:
        known = (auth if endpoint.own else None) or endpoint.config.auth
        repository = _Repository(self._http(), self._proxies, endpoint, reference, known, stock)
        try:
            digest = reference.digest or await repository.resolve(reference.tag)
            data = await repository.document("manifests", digest or reference.tag)
        except _NotFound:
            raise RuntimeFailed(f'failed to resolve reference "{reference}": {reference}: not found') from None
        except RuntimeFailed as error:
            raise RuntimeFailed(f'failed to resolve reference "{reference}": {error}', error.reason) from None
        try:
            digest = _save(into, data, digest)
            content = document(data, "the manifest")
            target = Descriptor(
                str(content.get("mediaType") or (OCI_INDEX if is_index(content) else OCI_MANIFEST)), digest, len(data)
            )
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

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False)
        return self._session


@cache
def _context(tls: Tls) -> ssl.SSLContext:
    """The system's authorities (aiohttp's own context knows none: base/memory.py) and those given; the certificate that is asked for."""
    context = ssl.create_default_context()
    if tls.ca_file:
        context.load_verify_locations(tls.ca_file)
    if tls.insecure_skip_verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    return context


class _Repository:
    """One repository at one endpoint, with the token that it gave."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        proxies: Proxies,
        endpoint: Endpoint,
        reference: Reference,
        auth: Auth | None,
        stock: Stock,
    ) -> None:
        self._session, self._proxies, self._auth, self._stock = session, proxies, auth, stock
        self._name = endpoint.repository(reference.repository)
        self._url = f"{endpoint.url}/{self._name}"
        self._query = {} if endpoint.own else {"ns": reference.registry}
        self._tls = endpoint.config.tls
        self._authorization = f"Bearer {auth.registry_token}" if auth and auth.registry_token else ""

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
        url = f"{self._url}/{path}"
        accept = ", ".join(ACCEPTED) if path.startswith("manifests/") else "*/*"
        response = await self._ask(method, url, accept=accept, params=self._query)
        if response.status == 401:
            challenge = response.headers.get("WWW-Authenticate", "")
            response.release()
            self._authorization = await self._authorize(challenge)
            response = await self._ask(method, url, accept=accept, params=self._query)
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
        """Follows redirects itself: another host may be reached by another proxy, and must not learn who we are."""
        headers = {"Accept": accept}
        if value := self._authorization if authorization is None else authorization:
            headers["Authorization"] = value
        for _ in range(_REDIRECTS):
            response = await self._send(method, url, headers=headers, **options)
            place = response.headers.get("Location", "")
            if response.status not in _MOVED or not place:
                return response
            response.release()
            target = URL(url).join(URL(place, encoded=True))
            if target.origin() != URL(url).origin():
                headers.pop("Authorization", None)
            url = str(target)
            options.pop("params", None)
        raise RuntimeFailed(f'failed to do request: {method.capitalize()} "{url}": stopped after {_REDIRECTS} redirects')

    async def _send(self, method: str, url: str, **options: Any) -> aiohttp.ClientResponse:
        proxy, tls = self._proxies.for_url(url), _context(self._tls)
        try:
            return await self._session.request(
                method, URL(url, encoded=True), ssl=tls, proxy=proxy, allow_redirects=False, **options
            )
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:  # ValueError: what a redirect names is no URL
            raise RuntimeFailed(f'failed to do request: {method.capitalize()} "{url}": {_explained(error)}') from None

    async def _authorize(self, challenge: str) -> str:
        auth = self._auth
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
