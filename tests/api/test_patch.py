"""JSON patch and merge patch. Answers: golden patches/patch-json, patch-merge, errors/err-field-validation; oracle: jsonpatch."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minik8s.api import patch
from minik8s.api.call import PATCH_TYPES
from minik8s.api.errors import ApiError, BadRequest, Invalid, RequestTooLarge, UnsupportedMediaType

CONFIGMAP = ("", "v1", "ConfigMap")
OLD = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "finalizers": ["x/one", "x/two"], "annotations": {"a/b": "1"}, "labels": {"l": "x"}},
    "data": {"k": "v", "n": "w"},
}
FROZEN = copy.deepcopy(OLD)


def apply(kind: str, body: Any, directive: str = "Warn") -> tuple[dict[str, Any], list[str]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    result = patch.read(raw, PATCH_TYPES[kind], directive).apply(OLD, *CONFIGMAP, directive)
    assert OLD == FROZEN
    return result


@pytest.mark.parametrize(
    ("operation", "field", "value"),
    [
        ({"op": "add", "path": "/data/new", "value": "x"}, "data", {"k": "v", "n": "w", "new": "x"}),
        ({"op": "replace", "path": "/data/absent", "value": "x"}, "data", {"k": "v", "n": "w", "absent": "x"}),
        ({"op": "remove", "path": "/data/k"}, "data", {"n": "w"}),
        ({"op": "copy", "from": "/data/k", "path": "/data/c"}, "data", {"k": "v", "n": "w", "c": "v"}),
        ({"op": "move", "from": "/data/k", "path": "/data/c"}, "data", {"n": "w", "c": "v"}),
        ({"op": "test", "path": "/data/absent", "value": None}, "data", {"k": "v", "n": "w"}),
        ({"op": "add", "path": "/data/n"}, "data", {"k": "v", "n": ""}),
        ({"op": "add", "path": "/data/n", "value": None}, "data", {"k": "v", "n": ""}),
        ({"op": "remove", "path": "/data"}, "data", None),
        ({"op": "replace", "path": "/metadata/annotations/a~1b", "value": "2"}, "annotations", {"a/b": "2"}),
        ({"op": "add", "path": "/metadata/finalizers/-", "value": "x/end"}, "finalizers", ["x/one", "x/two", "x/end"]),
        ({"op": "add", "path": "/metadata/finalizers/0", "value": "x/new"}, "finalizers", ["x/new", "x/one", "x/two"]),
        ({"op": "add", "path": "/metadata/finalizers/-1", "value": "x/end"}, "finalizers", ["x/one", "x/two", "x/end"]),
        ({"op": "remove", "path": "/metadata/finalizers/1"}, "finalizers", ["x/one"]),
        ({"op": "replace", "path": "/metadata/finalizers/-1", "value": "x/3"}, "finalizers", ["x/one", "x/3"]),
    ],
)
def test_json_patch(operation: dict[str, Any], field: str, value: Any) -> None:
    obj, warnings = apply("json", [operation])
    assert (obj if field == "data" else obj["metadata"]).get(field) == value
    assert warnings == []


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/data/new"},
        {"op": "test", "path": "/data/k", "value": "wrong"},
        {"op": "add", "path": "/metadata/finalizers/9", "value": "x"},
        {"op": "remove", "path": "/metadata/finalizers/7"},
        {"op": "remove", "path": "/metadata/finalizers/-"},
        {"op": "add", "path": "/spec/deep/path", "value": "x"},
        {"op": "add", "path": "/binaryData/x", "value": "eA=="},
        {"op": "add", "path": "", "value": {}},
        {"op": "jump", "path": "/data/x", "value": "y"},
        {"path": "/data/x", "value": "y"},
        {"op": "add", "value": "y"},
        {"op": "move", "path": "/data/x"},
        {"op": "add", "path": "/data/k/x", "value": "y"},
    ],
)
def test_operations_that_fail(operation: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="the server rejected our request due to an error in our request") as raised:
        apply("json", [operation])
    assert raised.value.to_status()["details"] == {}


def test_a_path_without_a_slash_loses_its_first_part() -> None:
    obj, warnings = apply("json", [{"op": "add", "path": "data/x", "value": "y"}])
    assert obj["data"] == OLD["data"]
    assert warnings == ['unknown field "x"']


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (
            "json",
            {"op": "add"},
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        ("json", b"[{broken", "error decoding patch: invalid character 'b' looking for beginning of object key string"),
        ("json", b"", "error decoding patch: unexpected end of JSON input"),
        ("merge", [], "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ("merge", b"null", "Invalid JSON Patch"),
        ("merge", b"data:\n  yaml: works\n", "error decoding patch: invalid character 'd' looking for beginning of value"),
        ("strategic", [], "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ("strategic", b"{broken", "invalid character 'b' looking for beginning of object key string"),
    ],
)
def test_bodies_that_are_no_patch(kind: str, body: Any, message: str) -> None:
    with pytest.raises(BadRequest) as raised:
        apply(kind, body)
    assert raised.value.message == message


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (
            "merge",
            {"data": "text"},
            "json: cannot unmarshal string into Go struct field ConfigMap.data of type map[string]string",
        ),
        ("merge", {"kind": "Secret"}, "converting (v1.Secret) to (core.ConfigMap): unknown conversion"),
        (
            "json",
            [{"op": "replace", "path": "/data", "value": [1]}],
            "json: cannot unmarshal array into Go struct field ConfigMap.data",
        ),
        ("json", [{"op": "replace", "path": "", "value": [1]}], "cannot unmarshal array"),
        (
            "strategic",
            {"data": {"k": 1}},
            '"map[data:map[k:1]]": json: cannot unmarshal number into Go struct field ConfigMap.data',
        ),
    ],
)
def test_results_that_are_no_object(kind: str, body: Any, words: str) -> None:
    with pytest.raises(Invalid) as raised:
        apply(kind, body)
    status = raised.value.to_status()
    assert status["message"].startswith(' "" is invalid: patch: Invalid value: ')
    assert words in status["message"]
    assert [cause["field"] for cause in status["details"]["causes"]] == ["patch"]
    assert list(status["details"]) == ["causes"]


@pytest.mark.parametrize(
    ("body", "data"),
    [
        ({}, {"k": "v", "n": "w"}),
        ({"data": {"k": None, "new": "x"}}, {"n": "w", "new": "x"}),
        ({"data": {"absent": None}}, {"k": "v", "n": "w"}),
        ({"data": {}}, {"k": "v", "n": "w"}),
        ({"data": None}, None),
    ],
)
def test_merge_patch(body: dict[str, Any], data: Any) -> None:
    assert apply("merge", body)[0].get("data") == data


def test_strict_patches() -> None:
    repeated = b'{"data":{"d":"1","d":"2"}}'
    assert apply("merge", repeated)[1] == ['duplicate field "data.d"']
    assert apply("merge", repeated, "Ignore")[1] == []
    with pytest.raises(Invalid, match=r'strict decoding error: duplicate field "data.d"'):
        apply("merge", repeated, "Strict")
    operation = b'[{"op":"add","path":"/data/x","value":"y","extra":1}]'
    assert apply("json", operation)[1] == ['json patch unknown field "[0].extra"']
    with pytest.raises(Invalid, match='strict decoding error: unknown field "more"'):
        apply("strategic", {"more": 1}, "Strict")


def test_limits() -> None:
    with pytest.raises(RequestTooLarge, match="The allowed maximum operations in a JSON patch is 10000, got 10001"):
        apply("json", [{"op": "test", "path": "/x"}] * 10001)
    doubling = [
        {"op": "add", "path": "/data", "value": ["x" * 1000]},
        *[{"op": "copy", "from": "/data", "path": "/data/-"}] * 40,
    ]
    with pytest.raises(Invalid):
        apply("json", doubling)
    with pytest.raises(UnsupportedMediaType):
        patch.read(b"{}", "application/merge-patch+yaml")
    with pytest.raises(UnsupportedMediaType):
        patch.read(b"{}", "application/apply-patch+yaml")


key = st.sampled_from(["a", "b", "/", "~1", "0"])
value = st.recursive(
    st.sampled_from([0, 1, True, False, "x", None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(key, inner, max_size=3),
    max_leaves=8,
)
document = st.dictionaries(key, value, min_size=1, max_size=4)
steps = st.lists(
    key.map(lambda k: k.replace("~", "~0").replace("/", "~1")) | st.sampled_from(["-", "1", "2"]), min_size=1, max_size=3
)
pointer = steps.map(lambda parts: "/" + "/".join(parts))
operation = st.one_of(
    st.fixed_dictionaries({"op": st.sampled_from(["add", "replace", "test"]), "path": pointer, "value": value}),
    st.fixed_dictionaries({"op": st.just("remove"), "path": pointer}),
    st.fixed_dictionaries({"op": st.sampled_from(["copy", "move"]), "from": pointer, "path": pointer}),
)


@given(document, st.lists(operation, max_size=4))
def test_json_patch_as_its_oracle(old: dict[str, Any], operations: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(old)
    try:
        expected = jsonpatch.apply_patch(old, operations)
    except Exception:  # what RFC 6902 refuses, upstream may take: only that it ends well is asked
        try:
            patch.apply_operations(old, copy.deepcopy(operations))
        except ApiError as error:
            assert error.status_code == 422  # noqa: PT017
    else:
        given_operations = copy.deepcopy(operations)
        assert patch.apply_operations(old, given_operations) == expected
        assert given_operations == operations
    assert old == before


@given(document, document)
def test_merge_patch_gives_what_it_says(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = copy.deepcopy(old)
    result = patch.merge(old, new)
    assert old == before
    assert patch.merge(result, new) == result
    for name in new.keys() | old.keys():
        if name in new and new[name] is None:
            assert name not in result
        elif name not in new:
            assert result[name] == old[name]


def rfc_7386(target: Any, change: Any) -> Any:
    """MergePatch, as section 2 of the RFC has it; but objects within lists lose their nulls too, as Go's library has it."""
    if isinstance(change, list):
        return [rfc_7386({}, each) for each in change]
    if not isinstance(change, dict):
        return change
    result = dict(target) if isinstance(target, dict) else {}
    for name, each in change.items():
        if each is None:
            result.pop(name, None)
        else:
            result[name] = rfc_7386(result.get(name), each)
    return result


@given(document, document)
def test_merge_patch_as_its_rfc(old: dict[str, Any], change: dict[str, Any]) -> None:
    assert patch.merge(old, change) == rfc_7386(old, change)
