"""The generic registry, lists and watches at the front desk: scenarios over a memory store, without HTTP.

Rules: API concepts (resource versions, chunking, watch), metav1.DeleteOptions, "Finalizers"; wordings are upstream's, as golden holds
them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from minik8s.api.call import PATCH_TYPES, Call
from minik8s.api.errors import AlreadyExists, ApiError, BadRequest, Conflict, Gone, Invalid, NotFound
from minik8s.api.resources import COMPONENTSTATUSES, CONFIGMAPS, DEPLOYMENTS, NAMESPACES, PODS, SECRETS, SERVICES, Resource
from minik8s.api.user import ANONYMOUS
from minik8s.apiserver.frontdesk import FrontDesk
from minik8s.apiserver.request import Request
from minik8s.apiserver.watching import Bookmark, Shown, Watch, open_watch
from minik8s.base.tasks import Owner
from minik8s.store.memory import MemoryStore
from minik8s.testing.clock import VirtualClock

Object = dict[str, Any]


class Desk:
    """The front desk, asked in a few words."""

    def __init__(self, desk: FrontDesk) -> None:
        self.desk = desk

    async def ask(self, verb: str, resource: Resource, name: str = "", body: Any = None, **more: Any) -> Any:
        namespace = more.pop("namespace", "a" if resource.namespaced else "")
        kind = more.pop("patch", "merge")
        subresource = more.pop("subresource", "")
        query = {key.rstrip("_"): str(value) for key, value in more.items()}
        content = PATCH_TYPES[kind] if verb == "patch" else "application/json"
        return await self.desk.handle(ANONYMOUS, Call(verb, resource, namespace, name, subresource, query, body, content))

    async def create(self, resource: Resource, name: str, **fields: Any) -> Mapping[str, Any]:
        metadata = {"name": name} | fields.pop("metadata", {})
        return await self.ask("create", resource, body={"metadata": metadata, **fields})

    async def watch(self, resource: Resource, **query: Any) -> Watch:
        request = Request("watch", resource, "a", query={key: str(value) for key, value in query.items()})
        return await open_watch(self.desk.cache, request, self.desk.clock)


@pytest.fixture
async def desk(clock: VirtualClock) -> AsyncIterator[Desk]:
    owner = Owner("test")
    desk = FrontDesk(MemoryStore(), clock, random.Random(1), [ipaddress.ip_network("10.43.0.0/24")])
    await desk.start(owner)
    yield Desk(desk)
    await owner.stop()


def pod(**spec: Any) -> Object:
    return {"containers": [{"name": "c", "image": "i"}], **spec}


# --- create and update -----------------------------------------------------------------------------------------------


async def test_what_is_created_is_stamped_and_read_back(desk: Desk) -> None:
    made = await desk.create(CONFIGMAPS, "x", data={"k": "v"}, metadata={"uid": "mine", "resourceVersion": "0"})
    assert made["metadata"]["uid"] != "mine"
    assert made["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert await desk.ask("get", CONFIGMAPS, "x") == made
    with pytest.raises(AlreadyExists, match='configmaps "x" already exists'):
        await desk.create(CONFIGMAPS, "x")
    with pytest.raises(BadRequest, match="resourceVersion should not be set"):
        await desk.create(CONFIGMAPS, "y", metadata={"resourceVersion": "7"})


async def test_generated_names_are_new_ones_and_a_taken_one_is_not_given(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["taken", "taken", "free1"])
    monkeypatch.setattr(desk.desk.registry, "_generated_name", lambda prefix: prefix + next(names))
    await desk.ask("create", CONFIGMAPS, body={"metadata": {"generateName": "g-"}})
    second = await desk.ask("create", CONFIGMAPS, body={"metadata": {"generateName": "g-"}})
    assert second["metadata"]["name"] == "g-free1"


async def test_an_update_with_an_old_version_is_a_conflict_one_without_is_not(desk: Desk) -> None:
    first = await desk.create(CONFIGMAPS, "x", data={"k": "1"})
    await desk.ask("update", CONFIGMAPS, "x", {**first, "data": {"k": "2"}})
    with pytest.raises(Conflict, match="the object has been modified"):
        await desk.ask("update", CONFIGMAPS, "x", {**first, "data": {"k": "3"}})
    bare = await desk.ask("update", CONFIGMAPS, "x", {"metadata": {"name": "x"}, "data": {"k": "4"}})
    assert bare["data"] == {"k": "4"}
    assert bare["metadata"]["uid"] == first["metadata"]["uid"]


async def test_an_update_that_changes_nothing_writes_nothing(desk: Desk) -> None:
    first = await desk.create(CONFIGMAPS, "x", data={"k": "1"})
    again = await desk.ask("update", CONFIGMAPS, "x", first)
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_patches_that_meet_are_all_applied(desk: Desk) -> None:
    await desk.create(CONFIGMAPS, "x")
    await asyncio.gather(*(desk.ask("patch", CONFIGMAPS, "x", {"data": {f"k{n}": "v"}}) for n in range(20)))
    assert len((await desk.ask("get", CONFIGMAPS, "x"))["data"]) == 20


async def test_generation_rises_with_the_spec_not_with_status_or_labels(desk: Desk) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()}
    await desk.create(DEPLOYMENTS, "d", spec={"selector": {"matchLabels": {"a": "b"}}, "template": template})
    labelled = await desk.ask("patch", DEPLOYMENTS, "d", {"metadata": {"labels": {"x": "y"}}})
    assert labelled["metadata"]["generation"] == 1
    scaled = await desk.ask("patch", DEPLOYMENTS, "d", {"spec": {"replicas": 2}})
    assert scaled["metadata"]["generation"] == 2
    reported = await desk.ask(
        "patch", DEPLOYMENTS, "d", {"status": {"replicas": 1}, "spec": {"replicas": 9}}, subresource="status"
    )
    assert (reported["metadata"]["generation"], reported["spec"]["replicas"], reported["status"]["replicas"]) == (2, 2, 1)


async def test_dry_runs_leave_nothing(desk: Desk) -> None:
    await desk.ask("create", CONFIGMAPS, body={"metadata": {"name": "x"}}, dryRun="All")
    with pytest.raises(NotFound):
        await desk.ask("get", CONFIGMAPS, "x")
    await desk.create(CONFIGMAPS, "x", data={"k": "1"})
    assert (await desk.ask("patch", CONFIGMAPS, "x", {"data": {"k": "2"}}, dryRun="All"))["data"] == {"k": "2"}
    await desk.ask("delete", CONFIGMAPS, "x", {"dryRun": ["All"]})
    assert (await desk.ask("get", CONFIGMAPS, "x"))["data"] == {"k": "1"}


@pytest.mark.parametrize(
    ("field", "wrong", "cause"),
    [("name", "y", "does not match the name on the URL"), ("namespace", "b", "does not match the namespace sent")],
)
async def test_a_body_names_what_the_url_names(desk: Desk, field: str, wrong: str, cause: str) -> None:
    await desk.create(CONFIGMAPS, "x")
    with pytest.raises(BadRequest, match=cause):
        await desk.ask("update", CONFIGMAPS, "x", {"metadata": {"name": "x", field: wrong}})


# --- delete ----------------------------------------------------------------------------------------------------------


async def test_finalizers_keep_a_deleted_object_until_the_last_is_gone(desk: Desk) -> None:
    await desk.create(CONFIGMAPS, "x", metadata={"finalizers": ["e.com/a", "e.com/b"]})
    kept = await desk.ask("delete", CONFIGMAPS, "x", {})
    assert kept["metadata"]["deletionTimestamp"]
    with pytest.raises(AlreadyExists, match="object is being deleted"):
        await desk.create(CONFIGMAPS, "x")
    with pytest.raises(Invalid, match="no new finalizers can be added"):
        await desk.ask("patch", CONFIGMAPS, "x", {"metadata": {"finalizers": ["e.com/a", "e.com/b", "e.com/c"]}})
    await desk.ask("patch", CONFIGMAPS, "x", {"metadata": {"finalizers": ["e.com/b"]}})
    await desk.ask("patch", CONFIGMAPS, "x", {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await desk.ask("get", CONFIGMAPS, "x")


@pytest.mark.parametrize(("policy", "finalizers"), [("Foreground", ["foregroundDeletion"]), ("Orphan", ["orphan"])])
async def test_the_garbage_collectors_policies_are_finalizers(desk: Desk, policy: str, finalizers: list[str]) -> None:
    await desk.create(CONFIGMAPS, "x")
    kept = await desk.ask("delete", CONFIGMAPS, "x", {"propagationPolicy": policy})
    assert kept["metadata"]["finalizers"] == finalizers


async def test_a_pod_on_a_node_has_its_grace_and_a_second_deletion_only_shortens_it(desk: Desk) -> None:
    await desk.create(PODS, "p", spec=pod(nodeName="n"))
    first = await desk.ask("delete", PODS, "p", {})
    assert first["metadata"]["deletionGracePeriodSeconds"] == 30
    assert first["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:30Z"
    longer = await desk.ask("delete", PODS, "p", {"gracePeriodSeconds": 60})
    assert longer["metadata"]["deletionGracePeriodSeconds"] == 30
    shorter = await desk.ask("delete", PODS, "p", {"gracePeriodSeconds": 5})
    assert shorter["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:05Z"
    await desk.ask("delete", PODS, "p", {"gracePeriodSeconds": 0})
    with pytest.raises(NotFound):
        await desk.ask("get", PODS, "p")


async def test_a_pod_without_a_node_goes_at_once(desk: Desk) -> None:
    await desk.create(PODS, "p", spec=pod())
    await desk.ask("delete", PODS, "p", {})
    with pytest.raises(NotFound):
        await desk.ask("get", PODS, "p")


@pytest.mark.parametrize("precondition", [{"uid": "other"}, {"resourceVersion": "1"}])
async def test_preconditions_protect_another_object_of_the_name(desk: Desk, precondition: Object) -> None:
    await desk.create(CONFIGMAPS, "other")
    await desk.create(CONFIGMAPS, "x")
    with pytest.raises(Conflict, match='Operation cannot be fulfilled on ConfigMap "x"'):
        await desk.ask("delete", CONFIGMAPS, "x", {"preconditions": precondition})


async def test_a_namespace_waits_for_its_finalizer(desk: Desk) -> None:
    await desk.create(NAMESPACES, "n")
    going = await desk.ask("delete", NAMESPACES, "n", {})
    assert going["status"]["phase"] == "Terminating"
    await desk.ask("update", NAMESPACES, "n", {"metadata": {"name": "n"}, "spec": {}}, subresource="finalize")
    with pytest.raises(NotFound):
        await desk.ask("get", NAMESPACES, "n")


async def test_deletecollection_takes_what_its_selector_shows(desk: Desk) -> None:
    for name, label in (("x", "1"), ("y", "1"), ("z", "2")):
        await desk.create(SECRETS, name, metadata={"labels": {"l": label}})
    gone = await desk.ask("deletecollection", SECRETS, labelSelector="l=1")
    assert [item["metadata"]["name"] for item in gone["items"]] == ["x", "y"]
    assert [item["metadata"]["name"] for item in (await desk.ask("list", SECRETS))["items"]] == ["z"]


# --- subresources ----------------------------------------------------------------------------------------------------


async def test_a_pod_is_bound_once(desk: Desk) -> None:
    await desk.create(PODS, "p", spec=pod())
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    await desk.ask("create", PODS, "p", binding, subresource="binding")
    bound = await desk.ask("get", PODS, "p")
    assert bound["spec"]["nodeName"] == "n"
    assert {"PodScheduled": "True"}.items() <= {c["type"]: c["status"] for c in bound["status"]["conditions"]}.items()
    with pytest.raises(Conflict, match="already assigned to node"):
        await desk.ask("create", PODS, "p", binding, subresource="binding")


async def test_a_scale_is_read_and_written(desk: Desk) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()}
    await desk.create(DEPLOYMENTS, "d", spec={"selector": {"matchLabels": {"a": "b"}}, "template": template})
    scale = await desk.ask("get", DEPLOYMENTS, "d", subresource="scale")
    assert (scale["spec"], scale["status"]["selector"]) == ({"replicas": 1}, "a=b")
    await desk.ask("update", DEPLOYMENTS, "d", {**scale, "spec": {"replicas": 3}}, subresource="scale")
    assert (await desk.ask("get", DEPLOYMENTS, "d"))["spec"]["replicas"] == 3
    with pytest.raises(Conflict):
        await desk.ask("update", DEPLOYMENTS, "d", {**scale, "spec": {"replicas": 4}}, subresource="scale")
    with pytest.raises(Invalid, match="must be greater than or equal to 0"):
        await desk.ask("patch", DEPLOYMENTS, "d", {"spec": {"replicas": -1}}, subresource="scale")


async def test_services_get_addresses_and_ports_and_give_them_back(desk: Desk) -> None:
    port = {"port": 80}
    made = [await desk.create(SERVICES, f"s{n}", spec={"type": "NodePort", "ports": [port]}) for n in range(20)]
    addresses = {service["spec"]["clusterIP"] for service in made}
    ports = {service["spec"]["ports"][0]["nodePort"] for service in made}
    assert len(addresses) == len(ports) == 20
    with pytest.raises(Invalid, match="already allocated"):
        await desk.create(SERVICES, "again", spec={"clusterIP": made[0]["spec"]["clusterIP"], "ports": [port]})
    await desk.ask("delete", SERVICES, "s0", {})
    again = await desk.create(SERVICES, "again", spec={"clusterIP": made[0]["spec"]["clusterIP"], "ports": [port]})
    assert again["spec"]["clusterIP"] == made[0]["spec"]["clusterIP"]


async def test_a_refused_service_leaks_no_address(desk: Desk) -> None:
    for _ in range(300):  # more than the network has
        with pytest.raises(ApiError):
            await desk.create(SERVICES, "bad", spec={"ports": [{"port": 0}]})
    await desk.create(SERVICES, "good", spec={"ports": [{"port": 80}]})


# --- lists -----------------------------------------------------------------------------------------------------------


async def names(desk: Desk, **query: Any) -> list[str]:
    return [item["metadata"]["name"] for item in (await desk.ask("list", SECRETS, **query))["items"]]


async def test_pages_show_the_state_at_the_first_page(desk: Desk) -> None:
    for name in "abcd":
        await desk.create(SECRETS, name)
    page = await desk.ask("list", SECRETS, limit=2)
    await desk.ask("delete", SECRETS, "c", {})
    await desk.create(SECRETS, "cc")
    rest = await desk.ask("list", SECRETS, limit=10, continue_=page["metadata"]["continue"])
    assert [item["metadata"]["name"] for item in page["items"] + rest["items"]] == ["a", "b", "c", "d"]
    assert page["metadata"]["resourceVersion"] == rest["metadata"]["resourceVersion"]
    assert "continue" not in rest["metadata"]


async def test_a_list_at_an_exact_version(desk: Desk) -> None:
    first = await desk.create(SECRETS, "a")
    await desk.create(SECRETS, "b")
    version = first["metadata"]["resourceVersion"]
    assert await names(desk, resourceVersion=version, resourceVersionMatch="Exact") == ["a"]
    assert await names(desk, resourceVersion=version, resourceVersionMatch="NotOlderThan") == ["a", "b"]


async def test_a_version_that_never_comes_is_a_timeout(desk: Desk) -> None:
    with pytest.raises(ApiError, match="Too large resource version") as caught:
        await desk.ask("list", SECRETS, resourceVersion=10**9)
    assert caught.value.status_code == 504


@pytest.mark.parametrize(
    ("selector", "expected"),
    [("l=1", "ac"), ("l in (1,2)", "abc"), ("l!=1", "bd"), ("!l", "d"), ("l=1,m=x", "c"), ("m", "c"), ("l=9", "")],
)
async def test_label_selectors_with_and_without_an_index(desk: Desk, selector: str, expected: str) -> None:
    for name, labels in (("a", {"l": "1"}), ("b", {"l": "2"}), ("c", {"l": "1", "m": "x"}), ("d", {})):
        await desk.create(SECRETS, name, metadata={"labels": labels} if labels else {})
    assert "".join(await names(desk, labelSelector=selector)) == expected


async def test_an_expired_token_comes_with_one_that_goes_on(desk: Desk, clock: VirtualClock) -> None:
    for name in "abc":
        await desk.create(SECRETS, name)
    page = await desk.ask("list", SECRETS, limit=1)
    await clock.advance("11m")
    await desk.create(SECRETS, "z")
    await clock.advance("11m")
    with pytest.raises(Gone, match="continue parameter is too old") as expired:
        await desk.ask("list", SECRETS, limit=1, continue_=page["metadata"]["continue"])
    token = expired.value.to_status()["metadata"]["continue"]
    page = await desk.ask("list", SECRETS, limit=2, continue_=token)
    assert [item["metadata"]["name"] for item in page["items"]] == ["b", "c"]


# --- watches ---------------------------------------------------------------------------------------------------------


def shown(batch: list[Shown | Bookmark]) -> list[str]:
    return [f"{s.type} {s.entry.name}" if isinstance(s, Shown) else "BOOKMARK" for s in batch]


async def test_a_watch_without_a_version_begins_with_what_is_there(desk: Desk) -> None:
    await desk.create(SECRETS, "a")
    watch = await desk.watch(SECRETS)
    assert shown(await watch.next()) == ["ADDED a"]
    await desk.create(SECRETS, "b")
    assert shown(await watch.next()) == ["ADDED b"]
    watch.close()


async def test_a_watch_from_a_version_shows_what_came_after(desk: Desk) -> None:
    first = await desk.create(SECRETS, "a")
    await desk.ask("patch", SECRETS, "a", {"data": {"k": "MQ=="}})
    await desk.ask("delete", SECRETS, "a", {})
    watch = await desk.watch(SECRETS, resourceVersion=first["metadata"]["resourceVersion"])
    assert shown(await watch.next()) == ["MODIFIED a", "DELETED a"]
    watch.close()


async def test_objects_enter_and_leave_a_selectors_stream(desk: Desk) -> None:
    watch = await desk.watch(SECRETS, labelSelector="l=1")
    await desk.create(SECRETS, "a")
    await desk.ask("patch", SECRETS, "a", {"metadata": {"labels": {"l": "1"}}})
    await desk.ask("patch", SECRETS, "a", {"metadata": {"labels": {"m": "2"}}})
    left = await desk.ask("patch", SECRETS, "a", {"metadata": {"labels": {"l": None}}})
    batch = await watch.next()
    assert shown(batch) == ["ADDED a", "MODIFIED a", "DELETED a"]
    last = batch[-1]
    assert isinstance(last, Shown)
    assert last.entry.obj["metadata"]["labels"] == {"l": "1", "m": "2"}
    assert last.entry.obj["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]
    watch.close()


async def test_a_quiet_watch_is_told_where_it_stands(desk: Desk, clock: VirtualClock) -> None:
    watch = await desk.watch(SECRETS, allowWatchBookmarks="true", timeoutSeconds=600)
    await desk.create(CONFIGMAPS, "elsewhere")
    began = clock.monotonic()
    (bookmark,) = await watch.next()
    assert clock.monotonic() - began == 60
    assert isinstance(bookmark, Bookmark)
    assert bookmark.revision == desk.desk.cache.revision
    watch.close()


async def test_a_client_behind_what_its_selection_never_shows_is_told_too(desk: Desk, clock: VirtualClock) -> None:
    """Else its revision would be too old one day, though it missed nothing (found by tests/fuzz)."""
    made = await desk.create(CONFIGMAPS, "elsewhere")
    await desk.create(SECRETS, "a")
    watch = await desk.watch(
        SECRETS, resourceVersion=made["metadata"]["resourceVersion"], labelSelector="none", allowWatchBookmarks="true"
    )
    await desk.create(SECRETS, "b")
    (bookmark,) = await watch.next()
    assert isinstance(bookmark, Bookmark)
    assert bookmark.revision == desk.desk.cache.revision
    watch.close()


async def test_a_watch_ends_with_its_time(desk: Desk, clock: VirtualClock) -> None:
    watch = await desk.watch(SECRETS, timeoutSeconds=5)
    began = clock.monotonic()
    assert await watch.next() == []
    assert clock.monotonic() - began == 5


async def test_a_streaming_list_ends_with_a_bookmark_of_its_own(desk: Desk) -> None:
    await desk.create(SECRETS, "a")
    watch = await desk.watch(SECRETS, sendInitialEvents="true", resourceVersionMatch="NotOlderThan", allowWatchBookmarks="true")
    *added, end = await watch.next()
    assert shown(added) == ["ADDED a"]
    assert isinstance(end, Bookmark)
    assert end.initial_end
    watch.close()


async def test_a_watch_that_can_not_keep_up_is_cut_off(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minik8s.apiserver.cache.PENDING_LIMIT", 3)
    watch = await desk.watch(SECRETS)
    for name in "abcdef":
        await desk.create(SECRETS, name)
    with pytest.raises(Gone):
        await watch.next()
    watch.close()


@pytest.mark.parametrize("seed", range(4))
async def test_what_a_watch_builds_equals_a_fresh_list(desk: Desk, seed: int) -> None:
    """The set built from any selector watch equals a LIST at its revision."""
    rng = random.Random(seed)
    watch = await desk.watch(SECRETS, labelSelector="l in (1,2)")
    built: dict[str, str] = {}
    alive: set[str] = set()
    for _ in range(120):
        name = rng.choice("abcdef")
        label = {"metadata": {"labels": {"l": rng.choice("0123")}}}
        if name not in alive:
            await desk.create(SECRETS, name, **label)
            alive.add(name)
        elif rng.random() < 0.3:
            await desk.ask("delete", SECRETS, name, {})
            alive.remove(name)
        else:
            await desk.ask("patch", SECRETS, name, label)
    await desk.create(SECRETS, "last", metadata={"labels": {"l": "1"}})
    while "last" not in built:
        for event in await watch.next():
            if isinstance(event, Shown) and event.type == "DELETED":
                del built[event.entry.name]
            elif isinstance(event, Shown):
                built[event.entry.name] = event.entry.obj["metadata"]["resourceVersion"]
    listed = await desk.ask("list", SECRETS, labelSelector="l in (1,2)")
    assert built == {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in listed["items"]}
    watch.close()


# --- what is not stored ----------------------------------------------------------------------------------------------


async def test_components_are_looked_at_at_each_ask(desk: Desk) -> None:
    listed = await desk.ask("list", COMPONENTSTATUSES)
    assert [(each["metadata"]["name"], each["conditions"][0]["status"]) for each in listed["items"]] == [("etcd-0", "True")]
    desk.desk.components = {"etcd-0": lambda: "gone"}
    found = await desk.ask("get", COMPONENTSTATUSES, "etcd-0")
    assert found["conditions"] == [{"type": "Healthy", "status": "False", "message": "gone"}]
    with pytest.raises(NotFound, match='componentstatus "nope" not found'):
        await desk.ask("get", COMPONENTSTATUSES, "nope")


async def test_a_dry_run_of_a_scale_changes_nothing(desk: Desk) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    await desk.create(DEPLOYMENTS, "d", spec=spec)
    call = Call("patch", DEPLOYMENTS, "a", "d", "scale", {"dryRun": "All"}, {"spec": {"replicas": 7}}, PATCH_TYPES["merge"])
    assert (await desk.desk.handle(ANONYMOUS, call))["spec"] == {"replicas": 7}
    assert (await desk.ask("get", DEPLOYMENTS, "d"))["spec"]["replicas"] == 1


async def test_a_grace_period_beyond_all_years_ends_with_them(desk: Desk) -> None:
    await desk.create(PODS, "p", spec=pod(terminationGracePeriodSeconds=2**62, nodeName="n"))
    ending = await desk.ask("delete", PODS, "p")
    assert ending["metadata"]["deletionTimestamp"] == "9999-12-31T23:59:59Z"
    await desk.ask("delete", PODS, "p", body={"gracePeriodSeconds": 0})
    with pytest.raises(NotFound):
        await desk.ask("get", PODS, "p")


async def test_a_nameless_service_with_a_bad_address_is_the_clients_mistake(desk: Desk) -> None:
    """Found by fuzzing: the address is looked at before the name is."""
    with pytest.raises(Invalid):
        await desk.ask("create", SERVICES, body={"spec": {"clusterIP": "banana", "ports": [{"port": 80}]}})
