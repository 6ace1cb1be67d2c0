"""Strategic merge patch. Answers: golden patches/patch-strategic-containers, patch-strategic-misc."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minik8s.api import schema, strategic
from minik8s.api.errors import BadRequest

POD = schema.definition("", "v1", "Pod")
OLD: dict[str, Any] = {
    "metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["x/a", "x/b"]},
    "spec": {
        "containers": [
            {
                "name": "c",
                "image": "c:1",
                "args": ["x", "y"],
                "env": [{"name": "E", "value": "1"}, {"name": "F", "value": "2"}],
                "ports": [{"containerPort": 80}, {"containerPort": 81, "name": "extra"}],
            },
            {"name": "e", "image": "e:1"},
        ],
        "tolerations": [{"key": "t", "operator": "Exists"}],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "cm"}}],
    },
}
FROZEN = copy.deepcopy(OLD)
C, E = OLD["spec"]["containers"]


def spec(**patch: Any) -> dict[str, Any]:
    result = strategic.merge(OLD, {"spec": patch}, POD)["spec"]
    assert OLD == FROZEN
    return result


def meta(**patch: Any) -> dict[str, Any]:
    result = strategic.merge(OLD, {"metadata": patch}, POD)["metadata"]
    assert OLD == FROZEN
    return result


@pytest.mark.parametrize(
    ("patch", "containers"),
    [
        ([{"name": "c", "image": "c:2"}], [C | {"image": "c:2"}, E]),
        ([{"name": "new", "image": "n:1"}], [{"name": "new", "image": "n:1"}, C, E]),
        ([{"name": "e", "$patch": "delete"}], [C]),
        ([{"name": "c", "env": [{"name": "F", "$patch": "delete"}]}], [C | {"env": [{"name": "E", "value": "1"}]}, E]),
        (
            [{"name": "c", "env": [{"name": "E", "value": "one"}, {"name": "G", "value": "3"}]}],
            [C | {"env": [{"name": "E", "value": "one"}, {"name": "G", "value": "3"}, {"name": "F", "value": "2"}]}, E],
        ),
        ([{"name": "c", "ports": [{"containerPort": 81, "$patch": "delete"}]}], [C | {"ports": [{"containerPort": 80}]}, E]),
        ([{"name": "c", "args": ["z"]}], [C | {"args": ["z"]}, E]),
        ([{"name": "c", "args": None, "env": None, "ports": None}], [{"name": "c", "image": "c:1"}, E]),
        ([{"$patch": "replace"}, {"name": "solo", "image": "s:1"}], [{"name": "solo", "image": "s:1"}]),
    ],
)  # fmt: skip
def test_lists_merge_by_key(patch: list[Any], containers: list[Any]) -> None:
    assert spec(containers=patch)["containers"] == containers


def test_order() -> None:
    order = {"$setElementOrder/containers": [{"name": "e"}, {"name": "c"}]}
    assert spec(**order, containers=[{"name": "e", "image": "e:2"}, {"name": "c"}])["containers"] == [E | {"image": "e:2"}, C]
    assert spec(**order)["containers"] == [E, C]
    with pytest.raises(BadRequest, match="doesn't match \\$setElementOrder list"):
        spec(**order, containers=[{"name": "c"}, {"name": "e"}])
    ordered = meta(**{"$setElementOrder/finalizers": ["x/c", "x/d", "x/b"], "finalizers": ["x/d"]})
    assert ordered["finalizers"] == ["x/d", "x/a", "x/b"]
    assert meta(finalizers=["x/c"])["finalizers"] == ["x/c", "x/a", "x/b"]


def test_lists_that_are_replaced() -> None:
    assert spec(tolerations=[{"key": "u"}])["tolerations"] == [{"key": "u"}]


def test_primitive_lists() -> None:
    assert meta(**{"$deleteFromPrimitiveList/finalizers": ["x/a"]})["finalizers"] == ["x/b"]
    assert meta(**{"$deleteFromPrimitiveList/finalizers": "x/a"})["finalizers"] == ["x/a", "x/b"]


def test_maps() -> None:
    assert meta(labels={"c": "d"})["labels"] == {"a": "b", "c": "d"}
    assert meta(labels={"a": None})["labels"] == {}
    assert meta(labels={"$patch": "replace", "c": "d"})["labels"] == {"c": "d"}
    assert meta(labels={"$patch": "delete"})["labels"] == {}
    assert "annotations" not in meta(annotations={"$patch": "merge", "x": "y"})
    assert meta(annotations={"x": "y", "gone": None})["annotations"] == {"x": "y"}


def test_retain_keys() -> None:
    volume = {"name": "w", "emptyDir": {}}
    retained = spec(volumes=[{"$retainKeys": ["name", "emptyDir"], **volume}])["volumes"]
    assert next(each for each in retained if each["name"] == "w") == volume
    merged = spec(volumes=[volume])["volumes"]
    assert next(each for each in merged if each["name"] == "w") == {"configMap": {"name": "cm"}} | volume
    with pytest.raises(BadRequest, match="retainKeys"):
        spec(volumes=[{"$retainKeys": ["name"], **volume}])


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"containers": [{"image": "x"}]}, "map: map[image:x] does not contain declared merge key: name"),
        ({"containers": ["text"]}, "list element types are not identical: "),
        (
            {"securityContext": {}, "containers": [{"name": "c", "$patch": "nonsense"}]},
            "unknown patch type: nonsense in map: map[",
        ),
        ({"$patch": "nonsense"}, "unknown patch type: nonsense in map: map[$patch:nonsense]"),
        ({"containers": [{"name": {}}]}, "invalid merge key: map[]"),
        ({"$setElementOrder/containers": "c"}, "invalid patch format of setElementOrder list"),
        ({"$setElementOrder/containers": [{}]}, "map: map[] does not contain declared merge key: name"),
    ],
)
def test_bad_patches(patch: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest) as raised:
        spec(**patch)
    assert raised.value.message.startswith(message)


def test_long_lists_merge_quickly() -> None:
    names = [{"name": str(i)} for i in range(20_000)]
    old = {"spec": {"containers": names}}
    patch = {"spec": {"containers": [*({"name": str(i), "image": "i"} for i in range(10_000, 30_000))]}}
    assert len(strategic.merge(old, patch, POD)["spec"]["containers"]) == 30_000


named = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abcd")}, optional={"image": st.sampled_from("xyz")}),
    max_size=4,
    unique_by=lambda c: c["name"],
)


@given(named, named, st.permutations("abcd"))
def test_merging_by_key_gives_what_the_patch_says(old: list[Any], new: list[Any], order: list[str]) -> None:
    frozen = copy.deepcopy((old, new))
    patch = {"spec": {"containers": new}}
    merged = strategic.merge({"spec": {"containers": old}}, patch, POD)["spec"]["containers"]
    assert (old, new) == frozen
    found = {c["name"]: c for c in merged}
    before = {c["name"]: c for c in old}
    assert found == before | {c["name"]: before.get(c["name"], {}) | c for c in new}
    assert [c["name"] for c in merged if c["name"] in {n["name"] for n in new}] == [n["name"] for n in new]
    again = {"spec": {"$setElementOrder/containers": [{"name": n} for n in order]}}
    ordered = strategic.merge({"spec": {"containers": merged}}, again, POD)["spec"]["containers"]
    assert [c["name"] for c in ordered] == [n for n in order if n in found]
