"""Heavy plain work beside the loop: what goes there, and that what it uses may be used by threads. Rule: nothing holds the loop for
more than 50 ms (design.md).
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from minik8s.api import names, schema
from minik8s.api.call import Call
from minik8s.api.errors import MOST_CAUSES, Invalid, RequestTooLarge
from minik8s.api.kinds import crd_validation
from minik8s.api.structural import rules
from minik8s.api.structural.version import Version
from minik8s.apiserver import registry
from minik8s.apiserver.aside import BIG, Aside
from minik8s.apiserver.authn import ADMIN
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


OURS = {"l", "p", "f", "g", "h", "farms.example.com"}
BARE = pytest.mark.cluster(nodes=0, controllers=[], scheduler=False)
CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "farms.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"plural": "farms", "kind": "Farm"},
        "scope": "Namespaced",
        "versions": [{"name": "v1", "served": True, "storage": True}],
    },
}
ITEMS = {
    "type": "array",
    "maxItems": 100_000,
    "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= 0"}]},
}
CRD["spec"]["versions"][0]["schema"] = {
    "openAPIV3Schema": {"type": "object", "properties": {"metadata": {"type": "object"}, "list": ITEMS}}
}


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, bool]]:
    """(what is judged of the objects here, whether by the loop's own thread)."""
    seen: set[tuple[str, bool]] = set()
    here = threading.get_ident()

    def watch(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            obj = next(each for each in arguments if isinstance(each, dict) and "metadata" in each)
            if obj["metadata"].get("name") in OURS:
                seen.add((name, threading.get_ident() == here))
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, watched)

    watch(names, "validate_metadata")
    watch(registry, "raise_invalid")
    watch(crd_validation, "validate_create")
    watch(rules, "tried")
    watch(Version, "complete")
    return seen


@BARE
async def test_metadata_and_errors_of_a_big_object_are_beside_the_loop_too(
    cluster: Cluster, threads: set[tuple[str, bool]]
) -> None:
    labels = {f"-{i}": "_" for i in range(8000)}
    threads.clear()
    with pytest.raises(Invalid, match=r"and \d+ more errors\]") as refusal:
        await post(cluster, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "l", "labels": labels}})
    assert threads == {("validate_metadata", False), ("raise_invalid", False)}
    assert refusal.value.details is not None
    assert len(refusal.value.details["causes"]) == MOST_CAUSES, "nobody reads more"


@BARE
async def test_what_defaults_make_too_big_is_not_looked_at_any_more(cluster: Cluster, threads: set[tuple[str, bool]]) -> None:
    """A pod of 60,000 empty containers is 200 kB; with its defaults it is more than can be stored."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{}] * 60_000}}
    threads.clear()
    with pytest.raises(RequestTooLarge, match="limit is 4194304"):
        await post(cluster, pod)
    assert threads == set()


@BARE
async def test_custom_objects_and_their_definitions_are_judged_beside_the_loop(
    cluster: Cluster, threads: set[tuple[str, bool]]
) -> None:
    """Rules are compiled by the first object, however small; what they find out is not told of another object."""
    threads.clear()
    await cluster.apply(CRD)
    assert ("validate_create", False) in threads
    assert ("validate_create", True) not in threads
    farm: dict[str, Any] = {"apiVersion": "example.com/v1", "kind": "Farm", "metadata": {"name": "f"}, "list": [1]}
    threads.clear()
    await post(cluster, farm)
    assert ("tried", False) in threads
    threads.clear()
    await post(cluster, farm | {"metadata": {"name": "g"}})
    assert ("tried", True) in threads
    threads.clear()
    await post(cluster, farm | {"metadata": {"name": "h"}, "list": [1] * 50_000})
    assert threads == {("validate_metadata", False), ("raise_invalid", False), ("tried", False), ("complete", False)}


async def post(cluster: Cluster, obj: dict[str, Any]) -> None:
    """As over HTTP: the body is bytes, whose length counts."""
    row = cluster.plane.desk.catalogue.of(obj)
    assert row is not None
    await cluster.plane.desk.handle(ADMIN, Call("create", row, "default", body=orjson.dumps(obj)))
