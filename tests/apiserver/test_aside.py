"""Heavy plain work beside the loop: what goes there, and that what it uses may be used by threads. Rule: nothing holds the loop for
more than 50 ms (design.md).
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from minik8s.api import schema
from minik8s.apiserver.aside import BIG, Aside
from minik8s.testing.cluster import Cluster


async def test_small_work_is_done_at_once_and_big_work_by_one_thread_at_a_time() -> None:
    aside, here = Aside(), threading.get_ident()
    assert await aside(BIG - 1, threading.get_ident) == here
    running, most = 0, 0

    def work() -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        total = sum(range(50_000))
        running -= 1
        return total * 0 + threading.get_ident()

    assert here not in await asyncio.gather(*(aside(BIG, work) for _ in range(8)))
    assert most == 1


async def test_a_big_object_is_judged_beside_the_loop(cluster: Cluster, monkeypatch: Any) -> None:
    seen: list[int] = []
    call = Aside.__call__

    async def told(self: Aside, size: int, *arguments: Any) -> Any:
        seen.append(size)
        return await call(self, size, *arguments)

    monkeypatch.setattr(Aside, "__call__", told)
    big = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"k": "v" * BIG}}
    await cluster.apply(big)
    seen.clear()
    await cluster.apply({**big, "data": {"k": "w" * BIG}})
    assert sum(size >= BIG for size in seen) >= 4, "also what a part of this process writes: the stored object is big"


def test_threads_that_meet_a_type_for_the_first_time_know_all_its_fields() -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1}]}]}}
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            schema._struct.cache_clear()
            schema._converter.cache_clear()
            found = list(pool.map(lambda _: schema.conform(pod, "", "v1", "Pod"), range(8)))
            assert [unknown for _, unknown in found] == [[]] * 8
            assert all(obj == found[0][0] for obj, _ in found)
