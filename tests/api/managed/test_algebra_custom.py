"""Laws of server-side apply for custom resources, whose schema says what is a map, a set or atomic (x-kubernetes-list-type; KEP-555)."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from minik8s.api.managed import resets, shapes
from minik8s.api.managed.ownership import Conflicts, Context, apply

TEXT = {"type": "string"}
ITEM = {"type": "object", "required": ["name"], "properties": {"name": TEXT, "a": TEXT, "b": TEXT}}
SPEC = {
    "type": "object",
    "properties": {
        "maps": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": ITEM},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": TEXT},
        "atomic": {"type": "array", "items": TEXT},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": TEXT},
        "free": {"type": "object", "additionalProperties": TEXT},
    },
}
SHAPE = shapes.of_openapi({"type": "object", "properties": {"spec": SPEC}})
API = {"apiVersion": "example.com/v1", "kind": "Widget"}
CONTEXT = Context(SHAPE, API["apiVersion"], "2026-01-01T00:00:00Z", API, resets.of("example.com", "Widget", "", False))

LETTERS = st.sampled_from("abc")
TEXTS = st.dictionaries(LETTERS, LETTERS, min_size=1, max_size=3)
ITEMS = st.lists(
    st.fixed_dictionaries({"name": LETTERS}, optional={"a": LETTERS, "b": LETTERS}),
    min_size=1,
    max_size=3,
    unique_by=lambda item: item["name"],
)
LISTS = st.lists(LETTERS, min_size=1, max_size=3, unique=True)
SPECS = st.fixed_dictionaries({}, optional={"maps": ITEMS, "set": LISTS, "atomic": LISTS, "whole": TEXTS, "free": TEXTS})


def applied(live: Any, spec: Any, manager: str, *, force: bool = False) -> Any:
    obj = apply(live, {**API, "metadata": {"name": "w"}, "spec": spec}, manager, CONTEXT, force=force)
    return obj | {"metadata": obj["metadata"] | {"uid": "u"}}


def content(obj: Any) -> Any:
    """The spec, its sets and maps in any order, without what is empty."""
    spec = obj.get("spec") or {}
    order = {"set": sorted, "maps": lambda items: sorted(items, key=lambda item: item["name"])}
    return {key: order.get(key, lambda value: value)(value) for key, value in spec.items() if value}


def managers(obj: Any) -> Any:
    return {each["manager"]: each["fieldsV1"] for each in obj["metadata"]["managedFields"]}


@given(SPECS, SPECS)
def test_twice_is_once(one: Any, two: Any) -> None:
    live = applied(applied(None, one, "one"), two, "two", force=True)
    assert applied(live, two, "two", force=True) == live


@given(SPECS, SPECS)
def test_what_one_applies_and_takes_back_leaves_what_was(one: Any, two: Any) -> None:
    before = applied(None, one, "one")
    try:
        between = applied(before, two, "two")
    except Conflicts:
        return
    assert content(applied(between, {}, "two")) == content(before)


@given(SPECS, SPECS)
def test_who_does_not_meet_commutes(one: Any, two: Any) -> None:
    try:
        here = applied(applied(None, one, "one"), two, "two")
    except Conflicts:
        return
    there = applied(applied(None, two, "two"), one, "one")
    assert content(here) == content(there)
    assert managers(here) == managers(there)
