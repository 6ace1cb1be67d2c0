"""Laws of server-side apply, for any objects: twice is once, those who don't meet commute, what one owns alone goes with it (KEP-555).

The objects are small, so that managers often meet: labels, data, a list of maps (owner references) and a set (finalizers).
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from minik8s.api import schema
from minik8s.api.managed import fields, resets, shapes, walks
from minik8s.api.managed.fields import Fields
from minik8s.api.managed.ownership import Conflicts, Context, apply, update

NOW = "2026-01-01T00:00:00Z"
SHAPE = shapes.of_kind("", "v1", "ConfigMap")
CONTEXT = Context(SHAPE, "v1", NOW, shapes.blank("", "v1", "ConfigMap"), resets.of("", "ConfigMap", "", False))
LETTERS = st.sampled_from("abc")
MAPS = st.dictionaries(LETTERS, LETTERS, max_size=3)
OWNERS = st.lists(
    st.fixed_dictionaries({"uid": LETTERS, "name": LETTERS, "kind": LETTERS, "apiVersion": LETTERS}),
    max_size=3,
    unique_by=lambda owner: owner["uid"],
)
CONFIGS = st.builds(
    lambda data, labels, owners, finalizers: (
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "a"}
            | ({"labels": labels} if labels else {})
            | ({"ownerReferences": owners} if owners else {})
            | ({"finalizers": finalizers} if finalizers else {}),
        }
        | ({"data": data} if data else {})
    ),
    MAPS,
    MAPS,
    OWNERS,
    st.lists(LETTERS, max_size=3, unique=True),
)
STEPS = st.lists(st.tuples(st.sampled_from(["one", "two"]), CONFIGS), min_size=1, max_size=4)


def applied(live: Any, config: Any, manager: str, *, force: bool = True) -> Any:
    obj = apply(live, config, manager, CONTEXT, force=force)
    obj, _ = schema.conform(obj, "", "v1", "ConfigMap")
    return obj | {"metadata": {**obj["metadata"], "uid": "u"}}


def after(steps: list[tuple[str, Any]]) -> Any:
    live = None
    for manager, config in steps:
        live = applied(live, config, manager)
    return live


def owned(obj: Any, manager: str) -> Fields:
    return next((each["fieldsV1"] for each in obj["metadata"].get("managedFields", []) if each["manager"] == manager), {})


def content(obj: Any) -> Any:
    """The object without its managers, lists in any order."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in ("managedFields", "uid")}
    metadata["finalizers"] = sorted(metadata.get("finalizers", []))
    metadata["ownerReferences"] = sorted(metadata.get("ownerReferences", []), key=lambda each: each["uid"])
    return {**{key: value for key, value in obj.items() if value}, "metadata": {k: v for k, v in metadata.items() if v}}


@given(STEPS)
def test_twice_is_once(steps: list[tuple[str, Any]]) -> None:
    live = after(steps)
    manager, config = steps[-1]
    assert applied(live, config, manager) == live


@given(STEPS)
def test_what_is_applied_is_there_and_is_owned(steps: list[tuple[str, Any]]) -> None:
    live = after(steps)
    manager, config = steps[-1]
    mentioned = fields.difference(walks.mentioned(SHAPE, config), fields.of(("apiVersion",), ("kind",), ("metadata", "name")))
    assert owned(live, manager) == mentioned
    assert not walks.compare(SHAPE, config, live).modified
    assert not walks.compare(SHAPE, config, live).removed


@given(STEPS)
def test_an_object_is_what_its_managers_applied_last(steps: list[tuple[str, Any]]) -> None:
    """A model of ownership: where all fields were applied, each is owned by somebody, and nobody owns what is not there."""
    live = after(steps)
    there = walks.mentioned(SHAPE, {key: value for key, value in content(live).items() if key in ("data", "metadata")})
    all_owned = fields.union(owned(live, "one"), owned(live, "two"))
    assert fields.difference(there, fields.of(("metadata", "name"))) == all_owned


@given(CONFIGS, CONFIGS)
def test_who_does_not_meet_commutes(one: Any, two: Any) -> None:
    def in_order(first: Any, second: Any, names: tuple[str, str]) -> Any:
        try:
            return applied(applied(None, first, names[0]), second, names[1], force=False)
        except Conflicts:
            return None

    here, there = in_order(one, two, ("one", "two")), in_order(two, one, ("two", "one"))
    assert (here is None) == (there is None)
    if here:
        assert content(here) == content(there)
        assert all(owned(here, name) == owned(there, name) for name in ("one", "two"))


@given(STEPS, CONFIGS)
def test_an_update_owns_exactly_what_it_changed(steps: list[tuple[str, Any]], new: Any) -> None:
    live = after(steps)
    entries = update(live, new, "u", CONTEXT)
    if not live["metadata"].get("managedFields"):
        assert entries == []
        return
    changes = walks.compare(SHAPE, live, new)
    mine = next((each["fieldsV1"] for each in entries if each["manager"] == "u"), {})
    never = fields.of(("metadata", "uid"), ("metadata", "managedFields"), ("metadata", "name"))
    assert mine == fields.difference(changes.taken, never)
    for each in entries:
        if each["manager"] != "u":
            assert not fields.intersection(each["fieldsV1"], fields.union(changes.taken, changes.removed))
            assert fields.difference(each["fieldsV1"], owned(live, each["manager"])) == {}


# --- sets ----------------------------------------------------------------------------------------------------------------

PATHS = st.lists(st.lists(st.sampled_from(["f:a", "f:b", 'k:{"n":1}']), min_size=1, max_size=3).map(tuple), max_size=6)


def paths_of(found: Fields) -> set[Any]:
    return set(fields.paths(found))


@given(PATHS, PATHS)
def test_sets_are_sets(one: list[Any], two: list[Any]) -> None:
    a, b = fields.of_labels(one), fields.of_labels(two)
    assert paths_of(a) == set(one)
    assert paths_of(fields.union(a, b)) == set(one) | set(two)
    assert paths_of(fields.difference(a, b)) == set(one) - set(two)
    assert paths_of(fields.intersection(a, b)) == set(one) & set(two)
    assert paths_of(fields.without(a, b)) == {path for path in one if not any(path[: len(each)] == each for each in two)}
    assert all(fields.has(a, path) for path in one)
    assert fields.union(a, b) == fields.union(b, a)
    assert fields.read(a) == a
