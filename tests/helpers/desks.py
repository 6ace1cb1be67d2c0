"""A front desk over a store in memory, with its HTTP face on a unix socket."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from minik8s.api.user import ANONYMOUS
from minik8s.apiserver.frontdesk import FrontDesk
from minik8s.apiserver.http import Authenticate, HttpFace, PageHandler
from minik8s.apiserver.metrics import RequestMetrics
from minik8s.base.clock import RealClock
from minik8s.base.metrics import Metrics
from minik8s.base.tasks import Owner
from minik8s.store.memory import MemoryStore


@asynccontextmanager
async def desk_at(
    path: Path,
    authenticate: Authenticate = lambda _: ANONYMOUS,
    pages: Mapping[str, PageHandler] | None = None,
    seats: int | None = None,
) -> AsyncIterator[FrontDesk]:
    """The desk, while it listens at `path`; with as many `seats` as it has by itself unless told. Nobody may connect to a pod."""

    async def connect(*_: Any) -> Any:
        raise AssertionError

    owner = Owner("test")
    desk = FrontDesk(MemoryStore(), RealClock(), random.Random(1), [ipaddress.ip_network("10.43.0.0/24")])
    if seats is not None:
        desk.flow.seats = seats
    await desk.start(owner)
    protocol = HttpFace(desk, authenticate, pages or {}, connect, RequestMetrics(Metrics())).server()
    listener = await asyncio.get_running_loop().create_unix_server(protocol, str(path))
    yield desk
    listener.close()
    await protocol.shutdown(timeout=0.05)
    await owner.stop()
