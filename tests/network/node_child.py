"""The network, proxy and DNS of one node in a process of its own, inside a network namespace, as `agent.py` composes them.

Commands come as JSON lines, one answer each: {"objects": [[TYPE, RESOURCE, OBJECT], ...]}, {"attach": [SANDBOX, NETNS]},
{"detach": SANDBOX}, {"collect": [SANDBOX, ...]}, {"stop": true}, {"cleanup": true}.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import uvloop

from minik8s.api.call import Call, WatchEvent
from minik8s.api.resources import NODES
from minik8s.base.clock import RealClock
from minik8s.client.client import Client
from minik8s.client.informer import Informers
from minik8s.dns.server import ClusterDns
from minik8s.network.pods import PodNetwork
from minik8s.proxy.proxy import Proxy
from minik8s.proxy.rules import Site


class Told:
    """A transport: the objects are those that the test tells."""

    def __init__(self) -> None:
        self.version = 1
        self.queues: dict[str, list[asyncio.Queue[WatchEvent]]] = {}

    async def request(self, call: Call) -> Any:
        return {"metadata": {"resourceVersion": "1"}, "items": []}

    @asynccontextmanager
    async def watch(self, call: Call) -> AsyncIterator[AsyncIterator[Sequence[WatchEvent]]]:
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self.queues.setdefault(call.resource.plural, []).append(queue)

        async def batches() -> AsyncIterator[Sequence[WatchEvent]]:
            while True:
                yield [await queue.get()]

        yield batches()

    def tell(self, kind: str, plural: str, obj: dict[str, Any]) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        for queue in self.queues[plural]:
            queue.put_nowait(WatchEvent(kind, obj))

    async def close(self) -> None: ...


async def main(name: str, directory: Path, resolv_conf: Path) -> None:
    clock, rng, told = RealClock(), Random(0), Told()
    informers = Informers(Client(told), clock, rng)
    network = PodNetwork(name, directory, clock, cluster_cidr="10.42.0.0/16", service_cidr="10.43.0.0/16", local=["10.43.0.10"])
    nodes = informers.of(NODES)
    nodes.on_change(network.node_changed)
    await nodes.synced()
    await network.prepare()
    await network.start()
    dns = ClusterDns(informers, clock, rng, resolv_conf=resolv_conf, never=["10.43.0.10"])
    await dns.start("10.43.0.10")
    site = Site(name, "10.42.0.0/16", "10.43.0.0/16", local=["10.43.0.10"])
    proxy = Proxy(informers, site, clock, rng)
    proxy.start()
    await informers.synced()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(json.dumps("ready"), flush=True)
    async for line in reader:
        command = json.loads(line)
        answer: Any = None
        try:
            if "objects" in command:
                for kind, plural, obj in command["objects"]:
                    told.tell(kind, plural, obj)
                await asyncio.sleep(0)
            elif "attach" in command:
                answer = list(await network.attach(*command["attach"]))
            elif "detach" in command:
                answer = await network.detach(command["detach"])
            elif "collect" in command:
                answer = await network.collect(command["collect"])
        except OSError as error:
            answer = {"error": str(error)}
        if "stop" in command or "cleanup" in command:
            break
        print(json.dumps(answer), flush=True)
    await dns.stop()
    await proxy.stop()
    await informers.stop()
    if "cleanup" in command:
        await proxy.cleanup()
        await network.cleanup()
    else:
        await network.stop()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
