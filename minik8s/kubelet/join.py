"""How a node joins: with a URL and a token alone. The server's authority is fetched and must be the one that the token names; then the node
asks for a client certificate of its own by the CSR API, and renews it in time.

What it got is kept in a directory (keys 0600): a restart needs no token. Source: "TLS bootstrapping"; the token's form is k3s's.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from minik8s.api.errors import ApiError
from minik8s.api.resources import CERTIFICATESIGNINGREQUESTS
from minik8s.base import children, jointoken, pki
from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock
from minik8s.client.client import Client
from minik8s.client.http import HttpTransport
from minik8s.client.kubeconfig import Access, ssl_context
from minik8s.tunnel import paths

log = logging.getLogger(__name__)

SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
USAGES = ["digital signature", "key encipherment", "client auth"]
BACKOFF = Backoff(initial=0.05, maximum=10, factor=1.5, jitter=0.2)
PATIENCE = 10.0
"""Seconds for which a node that was here before waits for a server."""
RENEW_AT = 0.7
"""The part of a certificate's life after which it is renewed."""

_REQUEST = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from minik8s.base import pki
kept = Path(sys.argv[1])
key = kept.read_bytes() if kept.exists() else pki.new_key()
sys.stdout.buffer.write(key + pki.certificate_request(key, sys.argv[2], sys.argv[3:]))
"""
"""An agent needs `cryptography` for this alone, and it would keep 8 MB for as long as it runs."""


class JoinFailed(Exception):
    """The server refused the node, or is not the one that the token names; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What a server tells its nodes."""

    cluster_dns: str
    cluster_domain: str
    cluster_cidr: str
    service_cidr: str
    lease_seconds: int


def _config(told: bytes) -> ClusterConfig:
    found = json.loads(told)
    names = ("clusterDNS", "clusterDomain", "clusterCIDR", "serviceCIDR", "nodeLeaseDurationSeconds")
    return ClusterConfig(*(found[name] for name in names))


class Membership:
    """A node's credentials for one server, kept in `directory`. `proxy` is the URL of the one to the server, if there is one."""

    def __init__(
        self, server: str, token: str, node: str, directory: Path, clock: Clock, rng: Random, proxy: str | None = None
    ) -> None:
        self._server, self._token, self._node = server.rstrip("/"), token, node
        self._directory, self._clock, self._rng, self._proxy = directory, clock, rng, proxy
        self._ca_file, self._key_file = directory / "server-ca.crt", directory / "client.key"
        self._certificate_file = directory / "client.crt"
        self._config_file = directory / "cluster.json"
        self._begun_with = b""

    async def join(self) -> Access:
        """The node's access to the server; waits until the server answers. JoinFailed where waiting is no use."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        ca = await self._authority()
        if not self._is_good():
            await self._certify(ca)
        return self._access()

    def _access(self) -> Access:
        ca = self._ca_file.read_bytes()
        return Access(self._server, ca, self._certificate_file.read_bytes(), self._key_file.read_bytes())

    def _renewal(self) -> float:
        """Seconds until the certificate should be renewed."""
        end = pki.expiry(self._certificate_file.read_bytes())
        begun = self._certificate_file.stat().st_mtime
        return max(0.0, begun + (end - begun) * RENEW_AT - self._clock.now())

    async def config(self, access: Access) -> ClusterConfig:
        """The cluster's settings; where no server answers within PATIENCE seconds, what one told last: static pods wait for none."""
        if not self._config_file.exists():
            return await self._ask(access)
        try:
            async with self._clock.timeout(PATIENCE):
                return await self._ask(access)
        except TimeoutError:
            log.warning("no server answers: the node begins with the settings that one told last")
        self._begun_with = self._config_file.read_bytes()
        return _config(self._begun_with)

    async def until_outdated(self) -> None:
        """Returns when the agent has to start anew: it began with settings that are others by now, or its certificate is to be renewed
        (then `join` asks for another).
        """
        try:
            async with self._clock.timeout(self._renewal()):
                if self._begun_with and await self._ask(self._access()) != _config(self._begun_with):
                    return
                await asyncio.Event().wait()
        except TimeoutError:
            self._certificate_file.unlink(missing_ok=True)

    async def _ask(self, access: Access) -> ClusterConfig:
        told = await self._patiently(paths.CONFIG, ssl_context(access))
        found = _config(told)
        self._config_file.write_bytes(told)
        return found

    def _is_good(self) -> bool:
        """Whether the kept certificate is the node's own and lives for another day at least."""
        if not (self._certificate_file.exists() and self._key_file.exists()):
            return False
        return pki.expiry(self._certificate_file.read_bytes()) - self._clock.now() > 24 * 3600

    async def _authority(self) -> bytes:
        try:
            token = jointoken.parse(self._token) if self._token else None
        except ValueError as error:
            raise JoinFailed(str(error)) from None
        if self._ca_file.exists():
            ca = self._ca_file.read_bytes()
            if token and not jointoken.pins(token, ca):
                raise JoinFailed(f"the token is for another cluster than {self._directory}: remove that directory to join anew")
            return ca
        if token is None:
            raise JoinFailed("a token is needed to join (minik8s token, on the server, prints it)")
        ca = await self._patiently(paths.CA, ssl_context(Access(self._server, insecure=True)))
        if not jointoken.pins(token, ca):
            raise JoinFailed(f"{self._server} is not the server that the token is for: its authority has another hash")
        pki.write_private(self._ca_file, ca)
        return ca

    async def _certify(self, ca: bytes) -> None:
        """Asks for a certificate with the token, and waits for it."""
        key, request = await self._new_request(f"system:node:{self._node}", "system:nodes")
        csr: dict[str, Any] = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"generateName": "node-csr-"},
            "spec": {"request": base64.b64encode(request).decode(), "signerName": SIGNER, "usages": USAGES},
        }
        client = Client(HttpTransport(Access(self._server, ca, token=self._token), proxy=self._proxy))
        try:
            certificate = await self._signed(client, csr)
        finally:
            await client.close()
        pki.write_private(self._key_file, key)
        pki.write_private(self._certificate_file, certificate)

    async def _new_request(self, user: str, *groups: str) -> tuple[bytes, bytes]:
        """The node's key, made where there is none, and the request for its certificate (PEM), from a process that is gone afterwards:
        see `_REQUEST`. The key stays the same: by it the node is known to be itself.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-c", _REQUEST, str(self._key_file), user, *groups, stdout=asyncio.subprocess.PIPE
        )
        async with self._clock.hold():
            made, _ = await children.communicate(process)
        if process.returncode:
            raise JoinFailed(f"no certificate request could be made: its process ended with exit code {process.returncode}")
        key, begin, rest = made.partition(b"-----BEGIN CERTIFICATE REQUEST-----")
        return key, begin + rest

    async def _signed(self, client: Client, csr: Mapping[str, Any]) -> bytes:
        failures = 0
        while True:
            reason: Exception
            try:
                made = await client.create(CERTIFICATESIGNINGREQUESTS, csr)
                name, version = made["metadata"]["name"], made["metadata"]["resourceVersion"]
                fields = f"metadata.name={name}"
                async with client.watch(
                    CERTIFICATESIGNINGREQUESTS, fields=fields, resource_version=version, timeout=60
                ) as batches:
                    async for batch in batches:
                        for event in batch:
                            status = event.object.get("status", {})
                            if certificate := status.get("certificate"):
                                return base64.b64decode(certificate)
                            for condition in status.get("conditions") or ():
                                if condition["type"] == "Denied":
                                    raise JoinFailed(f"the server denied a certificate: {condition.get('message', '')}")
                raise TimeoutError("the certificate was not signed within a minute")
            except ApiError as error:
                if error.status_code in (401, 403):
                    raise JoinFailed(f"the server refused the token: {error.message}") from None
                reason = error
            except (OSError, TimeoutError) as error:  # the server is not there yet, or is starting
                reason = error
            failures += 1
            await self._wait(failures, reason)

    async def _patiently(self, path: str, tls: ssl.SSLContext) -> bytes:
        """The content of a page, as soon as the server answers."""
        failures = 0
        timeout = aiohttp.ClientTimeout(total=10)
        while True:
            reason: object
            try:
                async with (
                    aiohttp.ClientSession(timeout=timeout, proxy=self._proxy) as session,
                    session.get(self._server + path, ssl=tls) as answer,
                ):
                    if answer.status == 200:
                        return await answer.read()
                    if answer.status in (401, 403):
                        raise JoinFailed(f"{self._server}{path} answered {answer.status}: {(await answer.text())[:200]}")
                    reason = f"{path} answered {answer.status}"
            except (aiohttp.ClientError, OSError, TimeoutError) as error:  # the server is not there yet
                reason = str(getattr(error, "os_error", error)) or type(error).__name__
            failures += 1
            await self._wait(failures, reason)

    async def _wait(self, failures: int, reason: object) -> None:
        """Before the next attempt; says now and then why there is one."""
        if failures & (failures - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
            log.warning("waiting for the server %s: %s", self._server, reason)
        await self._clock.sleep(BACKOFF.delay(failures, self._rng))
