"""What an informer promises whatever its server does (client-go: tools/cache/reflector)."""

from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from minik8s.api.errors import Gone, InternalError, ServiceUnavailable
from minik8s.api.resources import NODES, PODS
from minik8s.client.client import Client
from minik8s.client.informer import Informer, Informers
from minik8s.testing.clock import VirtualClock

NS = "default"


@pytest.fixture
async def informers(client: Client, clock: VirtualClock) -> AsyncIterator[Informers]:
    informers = Informers(client, clock, Random(0))
    yield informers
    await informers.stop()


def pod(app: str = "", node: str = "") -> dict[str, Any]:
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"labels": {"app": app}}, "spec": {"nodeName": node}}


def record(informer: Informer) -> list[str]:
    seen: list[str] = []

    def show(obj: Any) -> str:
        return "-" if obj is None else f"{obj['metadata']['name']}@{obj['metadata']['resourceVersion']}"

    informer.on_change(lambda old, new: seen.append(f"{show(old)} > {show(new)}"))
    return seen


async def test_lists_then_watches(api: Any, informers: Informers, clock: VirtualClock) -> None:
    api.put(("pods", NS, "a"), pod())
    informer = informers.of(PODS)
    seen = record(informer)
    assert not informer.has_synced
    await informers.synced()
    assert seen == ["- > a@101"]
    api.put(("pods", NS, "b"), pod())
    api.put(("pods", NS, "a"), pod())
    api.remove(("pods", NS, "b"))
    await clock.settle()
    assert seen == ["- > a@101", "- > b@102", "a@101 > a@103", "b@104 > -"]  # a deletion tells the last state
    assert informer.get(NS, "b") is None
    assert informer.get(NS, "a") is not None
    assert [p["metadata"]["name"] for p in informer.list("other")] == []
    assert len(informer) == 1
    assert api.calls == ["list /api/v1/pods", "watch /api/v1/pods from 101"]


async def test_items_of_a_list_get_their_kind(api: Any, informers: Informers) -> None:
    api.put(("nodes", "", "n"), {})
    informer = informers.of(NODES)
    await informer.synced()
    node = informer.get("", "n")
    assert node is not None
    assert (node["kind"], node["apiVersion"]) == ("Node", "v1")


async def test_a_big_kind_comes_in_pages(api: Any, informers: Informers) -> None:
    api.page = 2
    for i in range(5):
        api.put(("pods", NS, f"p{i}"), pod())
    informer = informers.of(PODS)
    await informer.synced()
    assert len(informer) == 5
    assert api.calls.count("list /api/v1/pods") == 3


async def test_an_ended_watch_goes_on_where_it_was(api: Any, informers: Informers, clock: VirtualClock) -> None:
    informer = informers.of(PODS)
    await informer.synced()
    await clock.advance(300)
    api.revision = 150
    api.bookmark("pods")
    await clock.settle()
    api.end_watches()
    await clock.settle()
    assert api.calls[1:] == ["watch /api/v1/pods from 100", "watch /api/v1/pods from 150"]
    assert informer.resource_version == "150"


async def test_gone_lists_again_and_tells_the_difference(api: Any, informers: Informers, clock: VirtualClock) -> None:
    for name in "abc":
        api.put(("pods", NS, name), pod())
    informer = informers.of(PODS)
    await informer.synced()
    await clock.advance(60)
    seen = record(informer)
    seen.clear()
    api.faults += [ConnectionError("gone away")]
    api.end_watches()
    await clock.settle()
    api.remove(("pods", NS, "a"))
    api.put(("pods", NS, "b"), pod())
    api.put(("pods", NS, "d"), pod())
    api.compacted = api.revision
    await clock.advance(10)
    assert sorted(seen) == ["- > d@106", "a@101 > -", "b@102 > b@105"]  # c is as it was
    assert api.calls[-3:] == ["watch /api/v1/pods from 103", "list /api/v1/pods", "watch /api/v1/pods from 106"]


async def test_a_name_used_again_is_another_object(api: Any, informers: Informers, clock: VirtualClock) -> None:
    api.put(("pods", NS, "a"), pod())
    informer = informers.of(PODS)
    seen = record(informer)
    await informer.synced()
    await clock.advance(60)
    api.faults += [Gone("too old")]
    api.end_watches()
    api.remove(("pods", NS, "a"))
    api.put(("pods", NS, "a"), pod())
    await clock.advance(10)
    assert seen == ["- > a@101", "a@101 > -", "- > a@103"]


async def test_errors_back_off(api: Any, informers: Informers, clock: VirtualClock) -> None:
    api.faults += [ConnectionError("refused"), ServiceUnavailable("starting"), InternalError("oops"), Gone("list too old")]
    informer = informers.of(PODS)
    await informer.synced()
    assert clock.monotonic() >= 0.8 + 1.6 + 3.2 + 6.4  # client-go: 0.8 s doubled up to 30 s, up to twice that by jitter
    assert clock.monotonic() <= 2 * (0.8 + 1.6 + 3.2 + 6.4)


async def test_a_server_that_ends_watches_at_once_is_not_asked_in_a_loop(
    api: Any, informers: Informers, clock: VirtualClock
) -> None:
    informer = informers.of(PODS)
    await informer.synced()
    for _ in range(20):
        api.end_watches()
        await clock.advance(0.5)
    assert len(api.calls) < 12


async def test_a_late_handler_hears_of_what_is_there(api: Any, informers: Informers) -> None:
    api.put(("pods", NS, "a"), pod())
    informer = informers.of(PODS)
    await informer.synced()
    assert record(informer) == ["- > a@101"]


async def test_a_handler_that_fails_stops_nobody(
    api: Any, informers: Informers, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    informer = informers.of(PODS)
    informer.on_change(lambda old, new: print(1 / 0))
    seen = record(informer)
    await informer.synced()
    api.put(("pods", NS, "a"), pod())
    await clock.settle()
    assert seen == ["- > a@101"]
    assert "ZeroDivisionError" in caplog.text


async def test_indexes_follow(api: Any, informers: Informers, clock: VirtualClock) -> None:
    informer = informers.of(PODS)
    await informer.synced()
    api.put(("pods", NS, "a"), pod(node="n1"))
    await clock.settle()
    informer.add_index("node", lambda obj: [obj["spec"]["nodeName"]])
    api.put(("pods", NS, "b"), pod(node="n1"))
    api.put(("pods", NS, "c"), pod(node="n2"))
    await clock.settle()

    def on(node: str) -> list[str]:
        return sorted(obj["metadata"]["name"] for obj in informer.indexed("node", node))

    assert (on("n1"), on("n2"), on("n3")) == (["a", "b"], ["c"], [])
    api.put(("pods", NS, "a"), pod(node="n2"))
    api.remove(("pods", NS, "b"))
    await clock.settle()
    assert (on("n1"), on("n2")) == ([], ["a", "c"])


async def test_one_informer_for_all_who_ask_the_same(api: Any, informers: Informers) -> None:
    assert informers.of(PODS) is informers.of(PODS)
    assert informers.of(PODS, fields="spec.nodeName=n") is not informers.of(PODS)
    await informers.synced()
    assert api.calls.count("list /api/v1/pods") == 2


async def test_a_namespace_alone(api: Any, informers: Informers) -> None:
    api.put(("pods", "x", "a"), pod())
    api.put(("pods", "y", "b"), pod())
    informer = informers.of(PODS, "x")
    await informer.synced()
    assert [obj["metadata"]["name"] for obj in informer.list()] == ["a"]
    assert api.calls[0] == "list /api/v1/namespaces/x/pods"


def labelled(obj: Any) -> Any:
    return {"metadata": {**obj["metadata"], "labels": None}} if obj["metadata"]["labels"]["app"] else None


async def test_what_is_not_kept_is_told_all_the_same(api: Any, informers: Informers, clock: VirtualClock) -> None:
    api.put(("pods", NS, "a"), pod("web"))
    api.put(("pods", NS, "b"), pod())
    informer = informers.of(PODS, keep=labelled)
    informer.add_index("name", lambda obj: [obj["metadata"]["name"]])
    seen, lists = record(informer), list[str]()
    informer.on_relist(lambda: lists.append(informer.resource_version))
    await informer.synced()
    assert [obj["metadata"] for obj in informer.list()] == [informer.get(NS, "a")["metadata"]]  # type: ignore[index]
    assert informer.get(NS, "b") is None
    assert "spec" not in (informer.get(NS, "a") or {})
    seen.clear()
    api.put(("pods", NS, "b"), pod())
    api.remove(("pods", NS, "b"))
    api.put(("pods", NS, "a"), pod())
    await clock.settle()
    assert seen == ["- > b@103", "b@104 > -", "a@101 > a@105"]
    assert len(informer) == len(informer.indexed("name", "a")) == 0
    assert lists == []
    await clock.advance(60)
    api.faults += [Gone("too old")]
    api.end_watches()
    await clock.advance(10)
    assert lists == ["105"]  # what happened meanwhile to what is not held, nobody knows


@pytest.mark.parametrize(
    ("namespace", "selection", "held"),
    [
        ("", {}, True),
        (NS, {}, False),
        ("", {"fields": "spec.nodeName=n"}, False),
        ("", {"labels": "app=web"}, False),
        ("", {"keep": labelled}, False),
    ],
)
async def test_only_who_holds_everything_says_so(
    api: Any, informers: Informers, clock: VirtualClock, namespace: str, selection: dict[str, Any], held: bool
) -> None:
    """A server in the same process keeps decoded what an informer holds anyway."""
    informers.of(PODS, namespace, **selection)
    await informers.synced()
    await clock.settle()
    assert len(api.calls) == 2
    assert api.held == {held}
