"""Server-side apply and the managers of fields: KEP-555; what upstream answered stands in the tables (golden cases `apply-*`)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from minik8s.api import schema
from minik8s.api.errors import BadRequest
from minik8s.api.managed import entries, fields, resets, shapes
from minik8s.api.managed.ownership import Conflicts, Context, apply, update

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z"


def context(group: str = "", version: str = "v1", kind: str = "ConfigMap", now: str = NOW, subresource: str = "") -> Context:
    has_status = "status" in schema.fields_of(group, version, kind).fields
    return Context(
        shape=shapes.of_kind(group, version, kind),
        api_version=f"{group}/{version}" if group else version,
        now=now,
        blank=shapes.blank(group, version, kind),
        ownable=resets.of(group, kind, subresource, has_status),
        subresource=subresource,
    )


def config_map(data: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    obj: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", **metadata}}
    return obj | ({} if data is None else {"data": data})


def stored(obj: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from the store."""
    group, _, version = obj["apiVersion"].rpartition("/")
    obj, _ = schema.conform(obj, group, version, obj["kind"])
    return obj | {"metadata": {**obj["metadata"], "uid": "u"}}


def owners(obj: dict[str, Any]) -> dict[str, Any]:
    """manager -> its fields."""
    return {each["manager"]: each["fieldsV1"] for each in obj["metadata"].get("managedFields", [])}


def test_a_conversation_of_two_who_apply() -> None:
    """Golden case apply-basic."""
    a = stored(apply(None, config_map({"k": "v", "m": "n"}, labels={"l": "x"}), "one", context()))
    assert owners(a) == {"one": {"f:metadata": {"f:labels": {"f:l": {}}}, "f:data": {"f:k": {}, "f:m": {}}}}
    a = stored(apply(a, config_map({"k": "changed"}), "one", context(now=LATER)))
    assert a["data"] == {"k": "changed"}
    assert "labels" not in a["metadata"]
    assert a["metadata"]["managedFields"][0]["time"] == LATER
    a = stored(apply(a, config_map({"other": "field", "k": "changed"}), "two", context()))
    assert owners(a) == {"one": {"f:data": {"f:k": {}}}, "two": {"f:data": {"f:k": {}, "f:other": {}}}}, (
        "equal values are shared"
    )
    with pytest.raises(Conflicts) as caught:
        apply(a, config_map({"other": "field", "k": "mine"}), "two", context())
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "one": .data.k'
    assert caught.value.details == {
        "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.k"}]
    }
    a = stored(apply(a, config_map({"other": "field", "k": "mine"}), "two", context(), force=True))
    assert owners(a) == {"two": {"f:data": {"f:k": {}, "f:other": {}}}}
    a = stored(apply(a, config_map(), "one", context()))
    assert a["data"] == {"other": "field", "k": "mine"}, "what one never had stays"
    a = stored(apply(a, config_map({"other": "field"}), "two", context()))
    assert a["data"] == {"other": "field"}


def test_updates_and_applies() -> None:
    """Golden case apply-updates: who changes a field owns it; order is Apply before Update, then time, then name."""
    a = config_map({"k": "v", "m": "n"}, labels={"l": "x"}, annotations={"n": "m"})
    a["metadata"]["managedFields"] = update(None, a, "a-kubectl", context())
    assert owners(a)["a-kubectl"] == {
        "f:data": {".": {}, "f:k": {}, "f:m": {}},
        "f:metadata": {"f:annotations": {".": {}, "f:n": {}}, "f:labels": {".": {}, "f:l": {}}},
    }
    a = stored(a)
    new = stored(config_map({"k": "v", "o": "p"}, labels={"l": "y"}))
    new["metadata"]["managedFields"] = update(a, new, "b-curl", context())
    assert owners(new) == {
        "a-kubectl": {"f:data": {".": {}, "f:k": {}}, "f:metadata": {"f:labels": {}}},
        "b-curl": {"f:data": {"f:o": {}}, "f:metadata": {"f:labels": {"f:l": {}}}},
    }
    with pytest.raises(Conflicts, match=r'conflict with "a-kubectl" using v1: \.data\.k'):
        apply(new, config_map({"k": "w"}), "named", context())
    forced = stored(apply(new, config_map({"k": "w"}), "named", context(now=LATER), force=True))
    assert [(each["manager"], each["operation"]) for each in forced["metadata"]["managedFields"]] == [
        ("named", "Apply"),
        ("a-kubectl", "Update"),
        ("b-curl", "Update"),
    ]
    assert owners(forced)["a-kubectl"] == {"f:data": {}, "f:metadata": {"f:labels": {}}}


@pytest.mark.parametrize(
    ("given", "managers"),
    [
        pytest.param([], [], id="an empty list forgets all"),
        pytest.param([{}], [], id="so does one empty entry"),
        pytest.param(
            [{"manager": "x", "operation": "Steal", "apiVersion": "v1", "fieldsType": "FieldsV1"}], ["m", "p"], id="op"
        ),
        pytest.param(
            [{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "Other"}], ["m", "p"], id="type"
        ),
        pytest.param(
            [{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"bad": {}}}],
            ["m", "p"],
            id="bad path",
        ),
        pytest.param(
            [{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:l": {}}}],
            ["p", "x"],
            id="a good one counts",
        ),
    ],
)
def test_entries_that_come_with_an_update(given: list[Any], managers: list[str]) -> None:
    """Golden case apply-reset."""
    a = config_map({"k": "v", "l": "w"})
    a["metadata"] |= {"managedFields": update(None, a, "m", context()), "uid": "u"}
    new = config_map({"k": "v2", "l": "w"}, managedFields=given, uid="u")
    assert sorted(each["manager"] for each in update(a, new, "p", context())) == managers


def test_who_was_not_tracked_begins_with_the_first_apply() -> None:
    a = stored(config_map({"k": "v"}))
    assert update(a, stored(config_map({"k": "w"})), "p", context()) == []
    a = stored(apply(a, config_map({"x": "y"}), "s", context()))
    assert owners(a) == {"s": {"f:data": {"f:x": {}}}, "before-first-apply": {"f:data": {".": {}, "f:k": {}}}}


def test_from_client_side_apply() -> None:
    """Golden case apply-migration: kubectl takes over what its annotation says, others do not."""
    annotation = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"annotations":{},"name":"a"},"data":{"k":"v"}}'
    a = config_map({"k": "v", "m": "n"}, annotations={"kubectl.kubernetes.io/last-applied-configuration": annotation})
    a["metadata"]["managedFields"] = update(None, a, "kubectl-client-side-apply", context())
    a = stored(a)
    with pytest.raises(Conflicts):
        apply(a, config_map({"k": "w"}), "other", context())
    with pytest.raises(Conflicts) as caught:
        apply(a, config_map({"k": "w", "m": "o"}), "kubectl", context())
    assert [cause["field"] for cause in (caught.value.details or {})["causes"]] == [".data.m"]
    new = apply(a, config_map({"k": "w"}), "kubectl", context())
    assert new["data"] == {"k": "w", "m": "n"}
    assert new["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] == (
        '{"apiVersion":"v1","data":{"k":"w"},"kind":"ConfigMap","metadata":{"name":"a"}}\n'
    )


def deployment(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


def pods(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **spec}}


APPS = ("apps", "v1", "Deployment")


def test_lists() -> None:
    """Golden case apply-lists: items by their keys, a defaulted key counts, sets by value, atomic lists as one."""
    ports = [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]
    one = deployment(
        replicas=0, template=pods({"name": "c", "args": ["x"], "env": [{"name": "E", "value": "1"}], "ports": ports})
    )
    one["metadata"]["finalizers"] = ["g.example.com/a"]
    d = stored(apply(None, one, "one", context(*APPS)))
    in_c = owners(d)["one"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"c"}']
    assert owners(d)["one"]["f:metadata"] == {"f:finalizers": {'v:"g.example.com/a"': {}}}
    assert in_c == {
        ".": {},
        "f:name": {},
        "f:args": {},
        "f:env": {'k:{"name":"E"}': {".": {}, "f:name": {}, "f:value": {}}},
        "f:ports": {
            'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}},
            'k:{"containerPort":80,"protocol":"UDP"}': {".": {}, "f:containerPort": {}, "f:protocol": {}},
        },
    }
    two = deployment(template=pods({"name": "c", "args": ["z"], "image": "i", "env": [{"name": "E", "value": "9"}]}))
    with pytest.raises(Conflicts) as caught:
        apply(d, two, "two", context(*APPS))
    assert caught.value.message == (
        'Apply failed with 2 conflicts: conflicts with "one":\n- .spec.template.spec.containers[name="c"].args\n'
        '- .spec.template.spec.containers[name="c"].env[name="E"].value'
    )
    two = deployment(template=pods({"name": "side"}, {"name": "c", "env": [{"name": "F", "value": "2"}]}))
    d = stored(apply(d, two, "two", context(*APPS)))
    assert [each["name"] for each in d["spec"]["template"]["spec"]["containers"]] == ["side", "c"], "in the order applied"
    d = stored(apply(d, deployment(), "two", context(*APPS)))
    containers = d["spec"]["template"]["spec"]["containers"]
    assert [each["name"] for each in containers] == ["c"]
    assert containers[0]["env"] == [{"name": "E", "value": "1"}]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"extra": "field"}, ".extra: field not declared in schema"),
        ({"spec": {"replicas": "many"}}, ".spec.replicas: expected numeric (int or float), got string"),
        ({"spec": "text"}, ".spec: expected map, got text"),
        ({"spec": {"paused": "x"}}, ".spec.paused: expected boolean, got x"),
        (
            {"spec": {"template": pods({"name": "c", "env": [{"name": "E"}, {"name": "E"}]})}},
            '.spec.template.spec.containers[name="c"].env: duplicate entries for key [name="E"]',
        ),
        ({"metadata": {"name": "d", "finalizers": ["d", "d"]}}, '.metadata.finalizers: duplicate entries for key [="d"]'),
        (
            {"metadata": {"name": "d", "labels": {"a": 1}}},
            ".metadata.labels.a: expected string, got &value.valueUnstructured{Value:1}",
        ),
    ],
)
def test_bodies_that_do_not_fit(body: dict[str, Any], problem: str) -> None:
    """Golden case apply-errors (upstream's 500 is a 400 here)."""
    with pytest.raises(BadRequest) as caught:
        apply(None, deployment() | body, "m", context(*APPS))
    assert caught.value.message == f"failed to create typed patch object (/d; apps/v1, Kind=Deployment): {problem}"


def test_managed_fields_may_not_be_applied() -> None:
    with pytest.raises(BadRequest, match="managedFields must be nil"):
        apply(None, config_map(managedFields=[]), "m", context())


def test_subresources_own_for_themselves() -> None:
    """Golden cases apply-pods, apply-scale: entries name the subresource, what is reset on a path belongs to nobody."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pods({"name": "c", "image": "i"})["spec"]}
    p = stored(apply(None, pod | {"status": {"phase": "Failed"}}, "a", context(kind="Pod")))
    assert "f:status" not in owners(p)["a"]
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": NOW}
    status = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"activeDeadlineSeconds": 9}}
    p["status"] = {}
    p = stored(apply(p, status | {"status": {"conditions": [ready]}}, "k", context(kind="Pod", subresource="status")))
    assert p["metadata"]["managedFields"][1]["subresource"] == "status"
    assert owners(p)["k"] == {
        "f:status": {
            "f:conditions": {'k:{"type":"Ready"}': {".": {}, "f:type": {}, "f:status": {}, "f:lastTransitionTime": {}}}
        }
    }
    not_ready = {"conditions": [{"type": "Ready", "status": "False"}]}
    with pytest.raises(Conflicts) as caught:
        apply(p, status | {"status": not_ready}, "o", context(kind="Pod", subresource="status"))
    assert caught.value.message == (
        'Apply failed with 1 conflict: conflict with "k" with subresource "status": .status.conditions[type="Ready"].status'
    )


def test_a_resize_owns_resources_alone() -> None:
    """Upstream's reset filters of pods/resize and pods/ephemeralcontainers."""
    containers = [{"name": "c", "image": "j", "resources": {"requests": {"cpu": "2"}}}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {"containers": containers},
    }
    live = stored(apply(None, {**pod, "spec": {"containers": [{"name": "c", "image": "i"}]}}, "one", context(kind="Pod")))
    resized = apply(live, pod, "r", context(kind="Pod", subresource="resize"))
    assert owners(resized)["r"] == {
        "f:spec": {"f:containers": {'k:{"name":"c"}': {"f:resources": {"f:requests": {"f:cpu": {}}}}}}
    }


def test_not_more_than_ten_updaters() -> None:
    """Upstream's DefaultMaxUpdateManagers: the oldest are put together."""
    a = config_map({})
    a["metadata"]["managedFields"] = update(None, config_map({"k": "v"}), "m0", context())
    a["data"] = {"k": "v"}
    for i in range(1, 14):
        new = config_map(a["data"] | {f"k{i}": "v"})
        new["metadata"]["managedFields"] = update(a, new, f"m{i:02}", context(now=f"2026-01-01T00:00:{i:02}Z"))
        a = new
    named = owners(a)
    assert len(named) == entries.MAX_UPDATERS
    assert set(named["ancient-changes"]["f:data"]) == {".", "f:k", "f:k1", "f:k2", "f:k3", "f:k4"}


def test_a_repeated_apply_changes_nothing() -> None:
    a = stored(apply(None, config_map({"k": "v"}), "m", context()))
    again = stored(apply(a, config_map({"k": "v"}), "m", context(now=LATER)))
    assert again == a


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("kubectl/v1.36.2 (linux/amd64) kubernetes/abc", "kubectl"),
        ("c strange agent with spaces/1.0", "c strange agent with spaces"),
        ("/leading", ""),
        ("", ""),
        ("a" * 200, "a" * 128),
        ("a\x01b", "ab"),
    ],
)
def test_names_of_agents(agent: str, name: str) -> None:
    """Golden case apply-updates."""
    assert entries.of_agent(agent) == name


def test_paths_are_told_in_order() -> None:
    """At each level first what ends there: as upstream lists conflicts (golden case apply-crd)."""
    found = {
        "f:steps": {},
        "f:free": {"f:any": {"f:thing": {}}},
        "f:fixed": {},
        "f:list": {'k:{"port":80}': {".": {}, "f:x": {}}, "k:{}": {}},
    }
    assert [fields.shown(path) for path in fields.paths(found)] == [
        ".fixed",
        ".steps",
        ".free.any.thing",
        ".list[]",
        ".list[port=80]",
        ".list[port=80].x",
    ]


def test_entries_are_written_in_order() -> None:
    """As upstream writes FieldsV1: clients compare it byte for byte (conformance, "resize pod via the replace endpoint")."""
    ports = [{"protocol": "TCP", "port": port, "name": f"p{port}"} for port in (443, 80)]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "labels": {"z": "1", "a": "1"}}}
    made = apply(None, service | {"spec": {"selector": {"x": "y"}, "ports": ports}}, "one", context("", "v1", "Service"))
    own = {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}}
    assert orjson.dumps(made["metadata"]["managedFields"][0]["fieldsV1"]) == orjson.dumps(
        {
            "f:metadata": {"f:labels": {"f:a": {}, "f:z": {}}},
            "f:spec": {
                "f:ports": {f'k:{{"port":{port},"protocol":"TCP"}}': own for port in (80, 443)},
                "f:selector": {},
            },
        }
    )
