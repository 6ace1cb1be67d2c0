"""Leader election over a Lease: of all who ask, one works.

Promise: `lead` runs the work only while this identity holds the lease, and cancels it no later than `renew_deadline` seconds after the
last renewal that succeeded, before anyone else may take over (`lease_duration` after that renewal, seen on their own clock).
Source: coordination.k8s.io/v1 Lease, client-go's leaderelection (same defaults). Clocks need not agree, only run at one pace.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from minik8s.api.errors import AlreadyExists, ApiError, NotFound
from minik8s.api.resources import LEASES
from minik8s.base.clock import Clock, parse_time, rfc3339_micro
from minik8s.client.client import Client

log = logging.getLogger(__name__)

JITTER = 1.2


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds, as kube-scheduler's and kube-controller-manager's `--leader-elect-*`."""

    lease_duration: float = 15
    renew_deadline: float = 10
    retry_period: float = 2


class Elector:
    """One candidate for one lease."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        rng: Random,
        *,
        name: str,
        identity: str,
        namespace: str = "kube-system",
        terms: Terms,
    ) -> None:
        self._client = client
        self._clock = clock
        self._rng = rng
        self._namespace, self._name = namespace, name
        self._identity = identity
        self._terms = terms
        self._seen: Mapping[str, Any] = {}  # the lease's spec as last seen
        self._seen_at = 0.0

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Waits for the lease, runs `work`, and returns (or raises) as it ends or when the lease is lost; then gives it up."""
        while not await self._try():
            await self._clock.sleep(self._terms.retry_period * (1 + JITTER * self._rng.random()))
        log.info("%s leads %s/%s", self._identity, self._namespace, self._name)
        working = asyncio.ensure_future(work())
        renewing = asyncio.ensure_future(self._renew())
        try:
            await asyncio.wait([working, renewing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, renewing):
                task.cancel()
            await asyncio.wait([working, renewing])
            await self._release()
        if not working.cancelled():
            working.result()

    async def _renew(self) -> None:
        """Returns when the lease could not be renewed in time."""
        while True:
            await self._clock.sleep(self._terms.retry_period)
            try:
                async with self._clock.timeout(self._terms.renew_deadline - self._terms.retry_period):
                    while not await self._try():
                        await self._clock.sleep(self._terms.retry_period)
            except TimeoutError:
                log.warning("%s lost %s/%s", self._identity, self._namespace, self._name)
                return

    async def _try(self) -> bool:
        """Takes or renews the lease if it is free, expired or ours."""
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except NotFound:
            return await self._written(None)
        except (ApiError, OSError) as error:
            log.info("cannot read lease %s/%s: %s", self._namespace, self._name, error)
            return False
        spec = lease.get("spec") or {}
        if spec != self._seen:
            self._seen, self._seen_at = spec, self._clock.monotonic()
        holder = spec.get("holderIdentity") or ""
        expired = self._clock.monotonic() - self._seen_at >= (spec.get("leaseDurationSeconds") or 0)
        return await self._written(lease) if holder in ("", self._identity) or expired else False

    async def _written(self, lease: Mapping[str, Any] | None) -> bool:
        metadata = lease["metadata"] if lease else {"name": self._name, "namespace": self._namespace}
        spec = decide(lease.get("spec") or {} if lease else {}, self._identity, self._terms, self._clock.now())
        written = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
        try:
            if lease is None:
                await self._client.create(LEASES, written)
            else:
                await self._client.update(LEASES, written)  # with its resourceVersion: of two who try, one wins
        except AlreadyExists:
            return False
        except (ApiError, OSError) as error:
            log.info("cannot write lease %s/%s: %s", self._namespace, self._name, error)
            return False
        self._seen, self._seen_at = spec, self._clock.monotonic()
        return True

    async def _release(self) -> None:
        """So that the next one need not wait for the end of the lease."""
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
            if lease["spec"].get("holderIdentity") == self._identity:
                spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                await self._client.update(LEASES, {**lease, "spec": spec})
        except (ApiError, OSError) as error:
            log.info("cannot release lease %s/%s: %s", self._namespace, self._name, error)


def decide(spec: Mapping[str, Any], identity: str, terms: Terms, now: float) -> dict[str, Any]:
    """The LeaseSpec by which `identity` holds a lease that had `spec`."""
    kept = spec.get("holderIdentity") == identity
    acquired = parse_time(spec["acquireTime"]) if kept and spec.get("acquireTime") else now
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": int(terms.lease_duration),
        "acquireTime": rfc3339_micro(acquired),
        "renewTime": rfc3339_micro(now),
        "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (0 if kept or not spec else 1),
    }
