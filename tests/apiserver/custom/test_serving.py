"""Custom resources at the front desk: scenarios over a memory store. Rules: kubernetes.io "Extend the Kubernetes API with
CustomResourceDefinitions", "Versions in CustomResourceDefinitions"; golden crds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from minik8s.api.errors import ApiError, Conflict, Forbidden, InternalError, Invalid, NotFound, RequestTooLarge
from minik8s.api.resources import CUSTOMRESOURCEDEFINITIONS, Resource
from minik8s.apiserver.watching import Shown
from minik8s.testing.clock import VirtualClock

from .conftest import SPEC, Desk, definition, version

TWO = (version("v1"), version("v2", storage=False))
WEBHOOK = {
    "strategy": "Webhook",
    "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://converter.example.com"}},
}


async def change(desk: Desk, patch: Any, name: str = "widgets.example.com") -> None:
    await desk.ask("patch", CUSTOMRESOURCEDEFINITIONS, name, patch)
    await desk.settled()


# --- coming and going --------------------------------------------------------------------------------------------------


async def test_what_is_defined_is_served_and_established(desk: Desk) -> None:
    generation = desk.desk.catalogue.generation
    await desk.define(definition())
    conditions = (await desk.defined())["status"]["conditions"]
    assert [(c["type"], c["status"]) for c in conditions] == [("NamesAccepted", "True"), ("Established", "True")]
    assert desk.desk.catalogue.generation > generation
    made = await desk.create("x", spec={"n": 1, "unknown": 2})
    assert made["spec"] == {"n": 1, "size": "big"}
    assert made["metadata"]["generation"] == 1
    assert await desk.ask("get", desk.row(), "x") == made


async def test_a_status_is_written_only_where_it_changes(desk: Desk) -> None:
    await desk.define(definition())
    before = (await desk.defined())["metadata"]["resourceVersion"]
    await desk.settled()
    assert (await desk.defined())["metadata"]["resourceVersion"] == before


async def test_a_name_that_is_taken_is_free_again_when_its_holder_goes(desk: Desk) -> None:
    await desk.define(definition())
    await desk.define(definition(plural="gadgets"))  # of the same kind
    waiting = (await desk.defined("gadgets.example.com"))["status"]
    assert waiting["conditions"][0]["message"] == '"WidgetList" is already in use'
    assert ("example.com", "v1", "gadgets") not in desk.desk.catalogue.by_path
    await desk.ask("delete", CUSTOMRESOURCEDEFINITIONS, "widgets.example.com")
    await desk.settled()
    assert ("example.com", "v1", "gadgets") in desk.desk.catalogue.by_path


async def test_a_definition_takes_its_objects_along(desk: Desk) -> None:
    await desk.define(definition())
    await desk.create("x")
    row = desk.row()
    await desk.ask("delete", CUSTOMRESOURCEDEFINITIONS, "widgets.example.com")
    await desk.settled()
    with pytest.raises(NotFound):
        await desk.defined()
    with pytest.raises(NotFound):
        await desk.ask("list", row)
    await desk.define(definition())
    assert (await desk.ask("list", desk.row()))["items"] == []


async def test_a_definition_waits_for_finalizers_and_nothing_is_created_meanwhile(desk: Desk) -> None:
    await desk.define(definition())
    await desk.ask("create", desk.row(), body={"metadata": {"name": "x", "finalizers": ["example.com/hold"]}})
    await desk.ask("delete", CUSTOMRESOURCEDEFINITIONS, "widgets.example.com")
    await desk.settled()
    terminating = (await desk.defined())["status"]["conditions"][2]
    assert (terminating["type"], terminating["reason"]) == ("Terminating", "InstanceDeletionInProgress")
    with pytest.raises(Forbidden, match="create not allowed while custom resource definition is terminating"):
        await desk.create("y")
    await desk.clock.sleep(61)
    assert (await desk.defined())["status"]["conditions"][2]["reason"] == "InstanceDeletionCheck"
    await desk.ask("patch", desk.row(), "x", {"metadata": {"finalizers": None}})
    await desk.settled()
    with pytest.raises(NotFound):
        await desk.defined()


async def test_what_a_definition_left_behind_is_there_again_with_the_next(desk: Desk) -> None:
    """Who takes the finalizer of a definition away by force, leaves its objects."""
    await desk.define(definition())
    await desk.ask("create", desk.row(), body={"metadata": {"name": "x", "finalizers": ["example.com/hold"]}})
    await desk.ask("delete", CUSTOMRESOURCEDEFINITIONS, "widgets.example.com")
    await desk.settled()
    await change(desk, {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await desk.defined()
    await desk.define(definition())
    assert [item["metadata"]["name"] for item in (await desk.ask("list", desk.row()))["items"]] == ["x"]


async def test_after_a_restart_all_is_there_at_once(clock: VirtualClock, desk: Desk) -> None:
    await desk.define(definition(*TWO))
    made = await desk.create("x")
    await desk.owner.stop()
    again = Desk(desk.store, clock)
    await again.desk.start(again.owner)
    assert await again.ask("get", again.row(), "x") == made
    assert (await again.ask("get", again.row("v2"), "x"))["apiVersion"] == "example.com/v2"
    await again.settled()
    watch = await again.watch(again.row(), resourceVersion=int(made["metadata"]["resourceVersion"]) - 1)
    assert [event.type for event in await watch.next() if isinstance(event, Shown)] == ["ADDED"]
    watch.close()
    await again.owner.stop()


# --- versions ----------------------------------------------------------------------------------------------------------


async def test_the_stored_bytes_are_the_answer_where_nothing_is_to_be_done(desk: Desk) -> None:
    await desk.define(definition(*TWO))
    await desk.create("x")
    entry = desk.desk.cache.of(desk.row()).get("a", "x")
    assert entry is not None
    assert await desk.raw("get", desk.row(), "x") is entry.item
    listed = orjson.loads(await desk.raw("list", desk.row()))
    assert listed["items"] == [orjson.loads(entry.item)]
    assert (listed["kind"], listed["metadata"]["continue"]) == ("WidgetList", "")


async def test_each_version_shows_the_object_under_its_name(desk: Desk) -> None:
    await desk.define(definition(*TWO))
    await desk.create("x", desk.row("v2"), spec={"n": 1})
    for name in ("v1", "v2"):
        assert (await desk.ask("get", desk.row(name), "x"))["apiVersion"] == f"example.com/{name}"
        listed = orjson.loads(await desk.raw("list", desk.row(name)))
        assert [item["apiVersion"] for item in listed["items"]] == [f"example.com/{name}"]


async def test_what_is_stored_is_read_by_the_schema_of_today(desk: Desk) -> None:
    await desk.define(definition())
    made = await desk.create("x", spec={"n": 1})
    schema = {
        "type": "object",
        "properties": {"spec": {**SPEC, "properties": {"colour": {"type": "string", "default": "red"}}}},
    }
    await change(desk, {"spec": {"versions": [version() | {"schema": {"openAPIV3Schema": schema}}]}})
    read = await desk.ask("get", desk.row(), "x")
    assert read["spec"] == {"colour": "red"}
    assert read["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    written = await desk.ask("update", desk.row(), "x", read)  # changes nothing but what is stored
    assert written["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    assert await desk.ask("update", desk.row(), "x", written) == written


async def test_objects_are_moved_to_a_new_storage_version_by_writing_them(desk: Desk) -> None:
    await desk.define(definition(*TWO))
    made = await desk.create("x")
    await change(desk, {"spec": {"versions": [version("v1", storage=False), version("v2")]}})
    assert await desk.ask("get", desk.row("v1"), "x") == made
    await desk.ask("update", desk.row("v1"), "x", made)
    snapshot = await desk.store.snapshot("/registry/example.com/widgets/")
    assert b'"apiVersion":"example.com/v2"' in snapshot.entries[0].value
    assert (await desk.defined())["status"]["storedVersions"] == ["v1", "v2"]


async def test_a_version_that_is_served_no_more_is_gone(desk: Desk) -> None:
    await desk.define(definition(*TWO))
    old = desk.row("v2")
    await change(desk, {"spec": {"versions": [version("v1"), version("v2", served=False, storage=False)]}})
    assert [row.version for row in desk.desk.catalogue.custom] == ["v1"]
    with pytest.raises(NotFound):
        await desk.ask("list", old)


async def test_a_row_of_another_time_still_asks_for_what_is_served_now(desk: Desk) -> None:
    await desk.define(definition())
    held = Resource("example.com", "v1", "widgets", "Widget")
    await desk.create("x")
    assert (await desk.ask("list", held))["items"][0]["kind"] == "Widget"


# --- conversion by a webhook ---------------------------------------------------------------------------------------------


def renamed(obj: Any, wanted: str) -> Any:
    """v1's n is v2's number."""
    spec = dict(obj.get("spec") or {})
    if wanted.endswith("v2") and "n" in spec:
        spec["number"] = spec.pop("n")
    elif wanted.endswith("v1") and "number" in spec:
        spec["n"] = spec.pop("number")
    return {**obj, "apiVersion": wanted, "spec": spec}


def converted_by_webhook() -> Any:
    second = version("v2", storage=False)
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["number"] = {"type": "integer"}
    return definition(version("v1"), second, conversion=WEBHOOK)


async def test_a_webhook_converts_a_whole_list_at_once_and_is_not_asked_again(desk: Desk) -> None:
    desk.webhook.convert = renamed
    await desk.define(converted_by_webhook())
    for n in range(3):
        await desk.create(f"x{n}", spec={"n": n})
    desk.webhook.asked.clear()
    for _ in range(2):
        listed = await desk.ask("list", desk.row("v2"))
        assert [item["spec"]["number"] for item in listed["items"]] == [0, 1, 2]
    assert desk.webhook.asked == [3]
    assert (await desk.ask("get", desk.row("v1"), "x2"))["spec"]["n"] == 2
    assert desk.webhook.asked == [3]


async def test_writes_and_watches_of_a_converted_version(desk: Desk) -> None:
    desk.webhook.convert = renamed
    await desk.define(converted_by_webhook())
    watch = await desk.watch(desk.row("v2"))
    await desk.create("x", desk.row("v2"), spec={"number": 5})
    assert (await desk.ask("get", desk.row("v1"), "x"))["spec"]["n"] == 5
    changed = await desk.ask("patch", desk.row("v2"), "x", {"spec": {"number": 6}})
    assert (changed["apiVersion"], changed["spec"]["number"]) == ("example.com/v2", 6)
    await desk.ask("delete", desk.row("v1"), "x")
    seen: list[Any] = []
    while len(seen) < 3:
        seen += await watch.next()
    assert [(event.type, event.entry.obj["spec"]["number"]) for event in seen] == [
        ("ADDED", 5),
        ("MODIFIED", 6),
        ("DELETED", 6),
    ]
    assert {event.entry.obj["apiVersion"] for event in seen} == {"example.com/v2"}
    watch.close()


async def test_an_apply_knows_its_fields_in_every_version(desk: Desk) -> None:
    desk.webhook.convert = renamed
    await desk.define(converted_by_webhook())

    def config(name: str, field: str, value: int) -> Any:
        return {"apiVersion": f"example.com/{name}", "kind": "Widget", "metadata": {"name": "x"}, "spec": {field: value}}

    await desk.ask("patch", desk.row("v1"), "x", config("v1", "n", 1), patch="apply", fieldManager="one")
    with pytest.raises(Conflict, match=r'conflict with "one": \.spec\.n'):
        await desk.ask("patch", desk.row("v2"), "x", config("v2", "number", 2), patch="apply", fieldManager="two")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"result": {"status": "Failed", "message": "no"}}, "failed: no"),
        ({"result": {"status": "Success"}, "convertedObjects": []}, "returned 0 objects, expected 1"),
        ({"uid": "another", "result": {"status": "Success"}}, "failed: expected response.uid="),
    ],
)
async def test_what_a_webhook_gets_wrong_is_told(desk: Desk, answer: Any, told: str) -> None:
    await desk.define(converted_by_webhook())
    await desk.create("x")
    desk.webhook.review = lambda request: {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "ConversionReview",
        "response": {"uid": request["uid"], **answer},
    }
    with pytest.raises(InternalError) as caught:
        await desk.ask("get", desk.row("v2"), "x")
    assert str(caught.value).startswith("conversion webhook for example.com/v1, Kind=Widget")
    assert told in str(caught.value)
    with pytest.raises(InternalError):
        await desk.watch(desk.row("v2"))
    assert not list(desk.desk.cache.of(desk.row()).watchers())


# --- selecting, watching, subresources -----------------------------------------------------------------------------------


async def test_selectable_fields_select_in_lists_and_watches(desk: Desk) -> None:
    await desk.define(definition(version(selectableFields=[{"jsonPath": ".spec.size"}])))
    watch = await desk.watch(desk.row(), fieldSelector="spec.size=big")
    await desk.create("x", spec={})
    await desk.create("y", spec={"size": "small"})
    listed = await desk.ask("list", desk.row(), fieldSelector="spec.size=big")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["x"]
    await desk.ask("patch", desk.row(), "x", {"spec": {"size": "small"}})
    seen: list[Any] = []
    while len(seen) < 2:
        seen += await watch.next()
    assert [(event.type, event.entry.name) for event in seen] == [("ADDED", "x"), ("DELETED", "x")]
    watch.close()


async def test_a_changed_definition_ends_its_watches_in_order(desk: Desk) -> None:
    await desk.define(definition())
    watch = await desk.watch(desk.row())
    await change(
        desk,
        {"spec": {"versions": [version(additionalPrinterColumns=[{"name": "N", "type": "integer", "jsonPath": ".spec.n"}])]}},
    )
    assert await watch.next() == []
    watch.close()


async def test_a_watch_sees_the_objects_of_a_definition_go_and_then_ends(desk: Desk) -> None:
    await desk.define(definition())
    await desk.create("x")
    watch = await desk.watch(desk.row())
    await desk.ask("delete", CUSTOMRESOURCEDEFINITIONS, "widgets.example.com")
    await desk.settled()
    assert [event.type for event in [*await watch.next(), *await watch.next()] if isinstance(event, Shown)] == [
        "ADDED",
        "DELETED",
    ]
    assert await watch.next() == []
    watch.close()


async def test_pages_of_a_list(desk: Desk) -> None:
    await desk.define(definition(*TWO))
    for n in range(5):
        await desk.create(f"x{n}")
    names, token = [], ""
    while True:
        page = await desk.ask("list", desk.row("v2"), limit=2, continue_=token)
        names += [item["metadata"]["name"] for item in page["items"]]
        if not (token := page["metadata"].get("continue", "")):
            break
    assert names == ["x0", "x1", "x2", "x3", "x4"]


async def test_scale_is_kept_where_the_definition_says(desk: Desk) -> None:
    scale = {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}
    await desk.define(definition(version(subresources={"scale": scale})))
    await desk.create("x")
    with pytest.raises(ApiError, match=r'the spec replicas field "\.spec\.n" does not exist'):
        await desk.ask("get", desk.row(), "x", subresource="scale")
    shown = await desk.ask("patch", desk.row(), "x", {"spec": {"replicas": 3}}, subresource="scale")
    assert shown["spec"] == {"replicas": 3}
    assert (await desk.ask("get", desk.row(), "x"))["spec"]["n"] == 3
    shown = await desk.ask("get", desk.row(), "x", subresource="scale")
    assert (shown["kind"], shown["status"]) == ("Scale", {"replicas": 0})


async def test_a_status_is_written_on_its_own_path(desk: Desk) -> None:
    await desk.define(definition(version(subresources={"status": {}})))
    made = await desk.create("x", status={"a": 1}, spec={})
    assert "status" not in made
    body = {**made, "spec": {"n": 9}}
    after = await desk.ask("update", desk.row(), "x", body, subresource="status")
    assert after["spec"] == {"size": "big"}
    assert after["metadata"]["generation"] == 1


async def test_an_update_names_its_version(desk: Desk) -> None:
    await desk.define(definition())
    made = await desk.create("x")
    bare = {**made, "metadata": {"name": "x"}}
    with pytest.raises(Invalid, match=r"metadata\.resourceVersion: Invalid value: 0: must be specified for an update"):
        await desk.ask("update", desk.row(), "x", bare)


def test_rows_hold_still_under_replace() -> None:
    """A row is compared by identity: another one is another time's."""
    row = Resource("example.com", "v1", "widgets", "Widget")
    assert replace(row) != row


async def test_defaults_unfold_no_object_beyond_what_is_stored(desk: Desk) -> None:
    """A request of some kilobytes would else be an object of a hundred megabytes (found by fuzzing)."""
    item = {"type": "object", "properties": {"x": {"type": "string", "default": "y" * 1000}}}
    root = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "array", "items": item}}}}}
    await desk.define(definition(version() | {"schema": {"openAPIV3Schema": root}}))
    with pytest.raises(RequestTooLarge):
        await desk.create("x", spec={"a": [{}] * 5000})
    await desk.create("x", spec={"a": [{}] * 100})
