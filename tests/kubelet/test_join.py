"""How a node joins: the request for its certificate (Kubernetes, "TLS bootstrapping": user system:node:NAME, group system:nodes), and how
it begins where no server answers.
"""

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from minik8s.base import pki
from minik8s.base.clock import RealClock
from minik8s.client.kubeconfig import Access
from minik8s.kubelet.join import PATIENCE, Membership
from minik8s.testing.clock import VirtualClock


async def test_a_request_made_by_another_process_is_the_nodes_own(tmp_path: Path) -> None:
    membership = Membership("https://127.0.0.1:1", "", "n1", tmp_path, RealClock(), Random(1))
    key, request = await membership._new_request("system:node:n1", "system:nodes")
    asked = pki.parse_request(request)
    assert (asked.user, asked.groups) == ("system:node:n1", ("system:nodes",))
    assert asked.public_key == pki.load_key(key).public_key()


TOLD = {
    "clusterDNS": "10.43.0.10",
    "clusterDomain": "cluster.local",
    "clusterCIDR": "10.42.0.0/16",
    "serviceCIDR": "10.43.0.0/16",
    "nodeLeaseDurationSeconds": 40,
}


class Server(Membership):
    """A server that answers while `told` is something."""

    told: dict[str, Any] | None = TOLD

    async def _patiently(self, path: str, tls: Any) -> bytes:
        while self.told is None:
            await self._clock.sleep(1)
        return json.dumps(self.told).encode()

    def _access(self) -> Access:
        return Access("https://127.0.0.1:1", insecure=True)

    def _renewal(self) -> float:
        return 1000.0


async def test_a_node_that_was_here_before_begins_without_a_server(tmp_path: Path, clock: VirtualClock) -> None:
    def member() -> Server:
        return Server("https://127.0.0.1:1", "", "n1", tmp_path, clock, Random(1))

    access = Access("https://127.0.0.1:1", insecure=True)
    alone, early = member(), member()
    early.told = None
    waiting = asyncio.ensure_future(early.config(access))
    await clock.advance(PATIENCE * 10)
    assert not waiting.done(), "it knows nothing yet"
    waiting.cancel()
    first = await member().config(access)
    alone.told = None
    began = clock.monotonic()
    assert await alone.config(access) == first
    assert clock.monotonic() - began == PATIENCE


@pytest.mark.parametrize(("changed", "after"), [({}, 1000.0), ({"clusterDNS": "10.43.0.11"}, 5.0)])
async def test_it_begins_anew_where_the_server_has_other_settings(
    tmp_path: Path, clock: VirtualClock, changed: dict[str, str], after: float
) -> None:
    access = Access("https://127.0.0.1:1", insecure=True)
    member = Server("https://127.0.0.1:1", "", "n1", tmp_path, clock, Random(1))
    await member.config(access)
    member.told = None
    await member.config(access)
    began = clock.monotonic()
    outdated = asyncio.ensure_future(member.until_outdated())
    await clock.sleep(4.5)
    member.told = TOLD | changed
    await outdated
    assert clock.monotonic() - began == after
    assert (await member.config(access)).cluster_dns == changed.get("clusterDNS", "10.43.0.10")
