"""Ownership in custom resources, whose shapes come from their structural schema: golden case apply-crd, step by step."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api.errors import BadRequest
from minik8s.api.managed import resets, shapes
from minik8s.api.managed.ownership import Conflicts, Context, apply, update

TEXT = {"type": "string"}
LIST_MAP = {"type": "array", "x-kubernetes-list-type": "map"}
MEMBER = {"name": TEXT, "value": TEXT, "port": {"type": "integer", "default": 80}}
PAIR = {"host": TEXT, "port": {"type": "integer", "default": 443}, "note": TEXT}
SPEC = {
    "replicas": {"type": "integer"},
    "members": LIST_MAP | {"x-kubernetes-list-map-keys": ["name"], "items": {"type": "object", "properties": MEMBER}},
    "pairs": LIST_MAP | {"x-kubernetes-list-map-keys": ["host", "port"], "items": {"type": "object", "properties": PAIR}},
    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": TEXT},
    "steps": {"type": "array", "items": TEXT},
    "fixed": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": TEXT},
    "open": {"type": "object", "additionalProperties": TEXT},
    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "mixed": {"x-kubernetes-int-or-string": True},
}
STATUS = {"replicas": {"type": "integer"}, "note": TEXT}
SCHEMA = {
    "type": "object",
    "properties": {"spec": {"type": "object", "properties": SPEC}, "status": {"type": "object", "properties": STATUS}},
}
API = {"apiVersion": "g.example.com/v1", "kind": "Widget"}
SHAPE = shapes.of_openapi(SCHEMA)


def context(subresource: str = "") -> Context:
    ownable = resets.of("g.example.com", "Widget", subresource, True)
    return Context(SHAPE, API["apiVersion"], "2026-01-01T00:00:00Z", API, ownable, subresource)


def widget(**spec: Any) -> dict[str, Any]:
    return {**API, "metadata": {"name": "w"}, "spec": spec}


def stored(obj: dict[str, Any]) -> dict[str, Any]:
    """With the defaults of its schema, and a uid."""
    for member in obj["spec"].get("members", []):
        member.setdefault("port", 80)
    for pair in obj["spec"].get("pairs", []):
        pair.setdefault("port", 443)
    return obj | {"metadata": obj["metadata"] | {"uid": "u"}}


def owners(obj: dict[str, Any]) -> dict[str, Any]:
    return {each["manager"]: each["fieldsV1"].get("f:spec") for each in obj["metadata"].get("managedFields", [])}


ONE = {
    "members": [{"name": "a", "value": "1"}, {"name": "b", "value": "2", "port": 81}],
    "pairs": [{"host": "h"}, {"host": "h", "port": 80}],
    "tags": ["x", "y"],
    "steps": ["s", "t"],
    "fixed": {"f": "g"},
    "open": {"o": "p"},
    "free": {"any": {"thing": [1, 2]}},
    "mixed": 5,
}
ONE_OWNS = {
    "f:fixed": {},
    "f:free": {"f:any": {".": {}, "f:thing": {}}},
    "f:members": {
        'k:{"name":"a"}': {".": {}, "f:name": {}, "f:value": {}},
        'k:{"name":"b"}': {".": {}, "f:name": {}, "f:port": {}, "f:value": {}},
    },
    "f:mixed": {},
    "f:open": {"f:o": {}},
    "f:pairs": {
        'k:{"host":"h","port":443}': {".": {}, "f:host": {}},
        'k:{"host":"h","port":80}': {".": {}, "f:host": {}, "f:port": {}},
    },
    "f:steps": {},
    "f:tags": {'v:"x"': {}, 'v:"y"': {}},
}


def test_the_story_of_a_widget() -> None:
    w = stored(apply(None, widget(**ONE), "one", context()))
    assert owners(w) == {"one": ONE_OWNS}

    two = {"members": [{"name": "c"}], "pairs": [{"host": "h", "note": "n"}], "tags": ["z", "x"], "free": {"more": True}}
    w = stored(apply(w, widget(**two), "two", context()))
    assert w["spec"]["tags"] == ["z", "x", "y"]
    assert w["spec"]["pairs"] == [{"host": "h", "port": 443, "note": "n"}, {"host": "h", "port": 80}]
    assert w["spec"]["free"] == {"any": {"thing": [1, 2]}, "more": True}
    assert owners(w)["two"] == {
        "f:free": {"f:more": {}},
        "f:members": {'k:{"name":"c"}': {".": {}, "f:name": {}}},
        "f:pairs": {'k:{"host":"h","port":443}': {".": {}, "f:host": {}, "f:note": {}}},
        "f:tags": {'v:"x"': {}, 'v:"z"': {}},
    }

    wrong = widget(
        members=[{"name": "a", "value": "other"}],
        steps=["u"],
        fixed={"h": "i"},
        open={"o": "other"},
        free={"any": {"thing": [3]}},
        mixed="5",
    )
    with pytest.raises(Conflicts) as caught:
        apply(w, wrong, "two", context())
    assert [cause["field"] for cause in (caught.value.details or {})["causes"]] == [
        ".spec.fixed",
        ".spec.mixed",
        ".spec.steps",
        ".spec.free.any.thing",
        '.spec.members[name="a"].value',
        ".spec.open.o",
    ]

    w = stored(apply(w, widget(steps=["u"], fixed={"h": "i"}, tags=["z"]), "two", context(), force=True))
    assert w["spec"]["tags"] == ["z", "x", "y"], "x is one's too"
    assert [each["name"] for each in w["spec"]["members"]] == ["a", "b"]
    assert owners(w)["two"] == {"f:fixed": {}, "f:steps": {}, "f:tags": {'v:"z"': {}}}
    assert owners(w)["one"] == {name: rest for name, rest in ONE_OWNS.items() if name not in ("f:fixed", "f:steps")}

    w = stored(apply(w, widget(members=[{"name": "b"}], replicas=2), "one", context()))
    members = [{"name": "b", "port": 80}]
    assert w["spec"] == {"fixed": {"h": "i"}, "members": members, "replicas": 2, "steps": ["u"], "tags": ["z"]}

    new = stored({**w, "spec": {**w["spec"], "members": [{"name": "e", "port": 80}], "open": {"e": "f"}}})
    new["metadata"]["managedFields"] = update(w, new, "editor", context())
    assert owners(new) == {
        "two": {"f:fixed": {}, "f:steps": {}, "f:tags": {'v:"z"': {}}},
        "one": {"f:replicas": {}},
        "editor": {
            "f:members": {'k:{"name":"e"}': {".": {}, "f:name": {}, "f:port": {}}},
            "f:open": {".": {}, "f:e": {}},
        },
    }


def test_a_status_is_owned_by_its_own_managers() -> None:
    w = stored(apply(None, widget(replicas=2), "one", context()))
    w = apply(w, widget(replicas=9) | {"status": {"note": "hi"}}, "st", context("status"))
    assert w["metadata"]["managedFields"][1]["fieldsV1"] == {"f:status": {"f:note": {}}}


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"unknown": "field"}, ".spec.unknown: field not declared in schema"),
        ({"tags": ["d", "d"]}, '.spec.tags: duplicate entries for key [="d"]'),
        ({"members": [{"name": "d"}, {"name": "d"}]}, '.spec.members: duplicate entries for key [name="d"]'),
        (
            {"members": [{"value": "nameless"}]},
            '.spec.members: element 0: associative list with keys has an element that omits all key fields ["name"] '
            "(and doesn't have default values for any key fields)",
        ),
        ({"replicas": "many"}, ".spec.replicas: expected numeric (int or float), got string"),
    ],
)
def test_what_does_not_fit_its_schema(spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        apply(None, widget(**spec), "m", context())
    assert caught.value.message == f"failed to create typed patch object (/w; g.example.com/v1, Kind=Widget): {problem}"


def test_without_a_schema_maps_are_granular_and_lists_are_not() -> None:
    shape = shapes.of_openapi(None)
    anything = Context(shape, API["apiVersion"], "2026-01-01T00:00:00Z", API, resets.of("g", "Widget", "", False))
    w = stored(apply(None, widget(a={"b": 1}, c=[1]), "one", anything))
    assert owners(w) == {"one": {".": {}, "f:a": {".": {}, "f:b": {}}, "f:c": {}}}
    w = stored(apply(w, widget(a={"d": 2}), "two", anything))
    assert w["spec"]["a"] == {"b": 1, "d": 2}
    with pytest.raises(Conflicts):
        apply(w, widget(a={"b": {"now": "a map"}}), "two", anything)
