"""A kubelet on a virtual clock, between a fake runtime and a fake API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from minik8s.api import quantity
from minik8s.api.resources import PODS
from minik8s.base.clock import RealClock
from minik8s.client.client import Client
from minik8s.client.informer import Informers
from minik8s.kubelet.cgroups import Cgroups
from minik8s.kubelet.kubelet import Kubelet
from minik8s.kubelet.layout import Layout
from minik8s.kubelet.site import Site
from minik8s.testing.clock import VirtualClock

from .fakes import FakeApi, FakeRuntime, Trace


@dataclass
class Stage:
    """All that a test of the whole kubelet needs."""

    clock: VirtualClock
    trace: Trace
    runtime: FakeRuntime
    api: FakeApi
    site: Site
    kubelet: Kubelet | None = None
    _informers: Informers | None = None

    async def start(self, manifests: Path | None = None) -> None:
        """Starts a kubelet (a new one after `stop`: the agent was restarted)."""
        client = Client(self.api)
        self._informers = Informers(client, self.clock, Random(1))
        self.kubelet = Kubelet(
            self.site,
            self.runtime,
            client,
            self._informers,
            self.clock,
            Random(2),
            cgroups=Cgroups(self.site.layout.root / "none"),
            manifests=manifests,
        )
        await self.kubelet.start()

    async def stop(self) -> None:
        if self.kubelet and self._informers:
            await self.kubelet.stop()
            await self._informers.stop()
            self.kubelet = None

    def add(self, pod: dict[str, Any]) -> dict[str, Any]:
        return self.api.put(PODS, pod)

    def status(self, name: str = "a") -> dict[str, Any]:
        return self.api.objects[PODS, "ns", name].get("status") or {}


@pytest.fixture
async def stage(clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Stage]:
    """On virtual time."""
    stage = made(clock, tmp_path)
    yield stage
    await stage.stop()


@pytest.fixture
async def real_stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """On real time, for what goes over sockets."""
    stage = made(RealClock(), tmp_path)
    yield stage
    await stage.stop()


def made(clock: Any, tmp_path: Path) -> Stage:
    trace = Trace(clock)
    site = Site(
        node="n1",
        layout=Layout(tmp_path / "kubelet", tmp_path / "logs", tmp_path / "storage"),
        host_ips=["192.0.2.1"],
        cluster_dns=["10.96.0.10"],
        resolv_conf=str(tmp_path / "resolv.conf"),
        hosts_file=str(tmp_path / "hosts"),
        capacity={"memory": quantity.parse("8Gi"), "cpu": quantity.parse("4")},
    )
    return Stage(clock, trace, FakeRuntime(clock, trace), FakeApi(clock, trace), site)
