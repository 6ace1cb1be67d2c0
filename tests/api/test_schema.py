"""Schema facts and `conform`. Messages and shapes: golden answers errors/err-types, errors/err-field-validation, config/cfg-*."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minik8s.api import schema
from minik8s.api.errors import BadRequest
from minik8s.api.generate_schema import generate
from minik8s.api.schema import MalformedError, conform, fields_of, type_of


def test_the_file_equals_its_sources() -> None:
    assert schema._read() == generate()


def test_every_type_can_be_conformed_to() -> None:
    for name in schema.types():
        for kind in type_of(name).kinds:
            conform({}, *kind)


def meta(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **more}}


def pod(spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", **meta(), "spec": spec}


def test_a_pod_as_upstream_would_write_it() -> None:
    body = pod(
        {
            "containers": [{"name": "c", "image": "i", "args": [], "stdin": False, "env": [{"name": "E", "value": ""}]}],
            "nodeSelector": {},
            "securityContext": {},
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": "",
            "hostNetwork": None,
            "volumes": [{"name": "v", "emptyDir": {}}],
        }
    )
    before = copy.deepcopy(body)
    obj, unknown = conform(body, "", "v1", "Pod")
    assert obj == pod(
        {
            "containers": [{"name": "c", "image": "i", "env": [{"name": "E"}], "resources": {}}],
            "securityContext": {},
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "v", "emptyDir": {}}],
        }
    ) | {"status": {}}
    assert (unknown, body) == ([], before)


@pytest.mark.parametrize(
    ("kind", "body", "given"),
    [
        (("rbac.authorization.k8s.io", "v1", "Role"), {"rules": []}, {"rules": None}),
        (("discovery.k8s.io", "v1", "EndpointSlice"), {"addressType": "IPv4"}, {"endpoints": None, "ports": None}),
        (("coordination.k8s.io", "v1", "Lease"), {}, {"spec": {}}),
        (("", "v1", "ConfigMap"), {"data": {"k": None}}, {"data": {"k": ""}}),
        (("", "v1", "ConfigMap"), {"data": {}, "immutable": False}, {"immutable": False}),
        (("", "v1", "Secret"), {"data": {"k": "eA\n=="}}, {"data": {"k": "eA=="}}),
        (("", "v1", "LimitRange"), {}, {"spec": {"limits": None}}),
        (("", "v1", "Event"), {}, {"eventTime": None, "firstTimestamp": None, "lastTimestamp": None, "source": {}}),
        (
            ("apps", "v1", "Deployment"),
            {},
            {"spec": {"strategy": {}, "template": {"metadata": {}, "spec": {}}}, "status": {}},
        ),
        (("", "v1", "Service"), {"spec": {"ports": [{"port": 80}]}}, {"spec": {"ports": [{"port": 80, "targetPort": 0}]}}),
        (("apps", "v1", "ControllerRevision"), {"data": {"a": None}, "revision": 1}, {"data": {"a": None}, "revision": 1}),
    ],
)
def test_what_is_empty_or_absent(kind: tuple[str, str, str], body: dict[str, Any], given: dict[str, Any]) -> None:
    obj, unknown = conform(meta() | body, *kind)
    assert given.items() <= obj.items()
    assert unknown == []
    assert conform(obj, *kind)[0] == obj


def test_values_become_canonical() -> None:
    body = pod(
        {
            "containers": [
                {
                    "name": "c",
                    "resources": {"requests": {"cpu": 0.5, "memory": "1024Mi", "x/y": 2}},
                    "readinessProbe": {"httpGet": {"port": "web"}},
                }
            ]
        }
    )
    body["metadata"]["creationTimestamp"] = "2024-02-03T06:05:06.7+02:00"
    obj, _ = conform(body, "", "v1", "Pod")
    container = obj["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi", "x/y": "2"}
    assert container["readinessProbe"] == {"httpGet": {"port": "web"}}
    assert obj["metadata"]["creationTimestamp"] == "2024-02-03T04:05:06Z"
    lease, _ = conform({"spec": {"renewTime": "2024-02-03T04:05:06.500000+01:00"}}, "coordination.k8s.io", "v1", "Lease")
    assert lease["spec"]["renewTime"] == "2024-02-03T03:05:06.500000Z"


def test_unknown_fields() -> None:
    containers = [{"name": "c", "imagee": "x", "env": [{"name": "E", "valu": "x"}], "ports": [{"port": 80}]}]
    body = pod({"containers": containers, "nodename": "n"}) | {"Spec": 1}
    body["metadata"]["nonsense"] = 2
    obj, unknown = conform(body, "", "v1", "Pod")
    assert unknown == [
        'unknown field "metadata.nonsense"',
        'unknown field "spec.containers[0].imagee"',
        'unknown field "spec.containers[0].env[0].valu"',
        'unknown field "spec.containers[0].ports[0].port"',
        'unknown field "spec.nodename"',
        'unknown field "Spec"',
    ]
    assert "imagee" not in obj["spec"]["containers"][0]


DEPLOYMENT = ("apps", "v1", "Deployment")
CONFIGMAP = ("", "v1", "ConfigMap")
POD = ("", "v1", "Pod")


@pytest.mark.parametrize(
    ("kind", "body", "cause"),
    [
        (
            CONFIGMAP,
            {"data": [1]},
            "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string",
        ),
        (CONFIGMAP, {"data": {"k": 1}}, "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"),
        (
            CONFIGMAP,
            {"immutable": "true"},
            "json: cannot unmarshal string into Go struct field ConfigMap.immutable of type bool",
        ),
        (
            CONFIGMAP,
            {"metadata": ["a"]},
            "json: cannot unmarshal array into Go struct field ConfigMap.metadata of type v1.ObjectMeta",
        ),
        (
            CONFIGMAP,
            {"metadata": {"name": 7}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string",
        ),
        (
            CONFIGMAP,
            {"metadata": {"labels": {"a": True}}},
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (CONFIGMAP, {"binaryData": {"k": "not base64"}}, "illegal base64 data at input byte 3"),
        (CONFIGMAP, {"binaryData": {"k": "%%%"}}, "illegal base64 data at input byte 0"),
        (
            CONFIGMAP,
            {"metadata": {"creationTimestamp": "yesterday"}},
            'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"',
        ),
        (
            CONFIGMAP,
            {"metadata": {"creationTimestamp": "2024-13-01T00:00:00Z"}},
            'parsing time "2024-13-01T00:00:00Z": month out of range',
        ),
        (
            ("coordination.k8s.io", "v1", "Lease"),
            {"spec": {"renewTime": "2026-01-02T03:04:06.5Z"}},
            'parsing time "2026-01-02T03:04:06.5Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse ".5Z" as ".000000"',
        ),
        (
            DEPLOYMENT,
            {"spec": []},
            "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            DEPLOYMENT,
            {"spec": {"replicas": "3"}},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            {"spec": {"replicas": 1.5}},
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            {"spec": {"replicas": 3000000000}},
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            {"spec": {"template": {"spec": {"containers": {"name": "c"}}}}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            POD,
            {"spec": {"containers": ["c"]}},
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type v1.Container",
        ),
        (
            POD,
            {"spec": {"containers": [{"env": [{"name": "E", "value": 1}]}]}},
            "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            POD,
            {"spec": {"containers": [{"command": "sh"}]}},
            "json: cannot unmarshal string into Go struct field Container.spec.containers.command of type []string",
        ),
        (
            POD,
            {"spec": {"containers": [{"resources": {"requests": {"cpu": "lots"}}}]}},
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ],
)
def test_wrong_types(kind: tuple[str, str, str], body: dict[str, Any], cause: str) -> None:
    with pytest.raises(MalformedError) as raised:
        conform(body, *kind)
    assert raised.value.cause == cause
    assert raised.value.message == f'{kind[2]} in version "{kind[1]}" cannot be handled as a {kind[2]}: {cause}'


def test_look_ups() -> None:
    spec = fields_of("", "v1", "Pod").fields["spec"].type
    assert spec is not None
    containers = spec.fields["containers"]
    assert (containers.list_type, containers.map_keys) == ("map", ("name",))
    assert (containers.strategies, containers.merge_key) == (("merge",), "name")
    assert containers.type is not None
    assert containers.type.go_name == "v1.Container"
    assert containers.type.fields["ports"].map_keys == ("containerPort", "protocol")
    assert spec.fields["volumes"].strategies == ("merge", "retainKeys")
    with pytest.raises(LookupError):
        fields_of("", "v1", "Nothing")


json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "spec", "metadata", "containers", "ports", "labels", "data", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(
    st.sampled_from([POD, CONFIGMAP, DEPLOYMENT, ("", "v1", "Service")]),
    st.dictionaries(st.text(max_size=8), json_value) | json_value,
)
def test_any_json_conforms_or_is_a_bad_request(kind: tuple[str, str, str], body: Any) -> None:
    try:
        obj, _ = conform(body, *kind)
    except BadRequest:
        return
    again, unknown = conform(obj, *kind)
    assert (again, unknown) == (obj, [])


def test_schemas_within_schemas_are_read_as_schemas() -> None:
    """`items` and `additionalProperties` of a JSONSchemaProps: unknown fields go untold, as upstream's own decoders have it."""

    def read(schema_of_items: Any) -> Any:
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"items": schema_of_items}}}
        body = {"metadata": {"name": "a"}, "spec": {"group": "a.b", "versions": [version]}}
        obj, unknown = schema.conform(body, "apiextensions.k8s.io", "v1", "CustomResourceDefinition")
        return obj["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["items"], unknown

    given = {"type": "object", "colour": 1, "title": None, "additionalProperties": {"items": [{"x": 1}]}}
    assert read(given) == ({"type": "object", "additionalProperties": {"items": [{}]}}, [])
    with pytest.raises(schema.MalformedError, match=r"into Go struct field JSONSchemaProps\.properties\.type of type string"):
        read({"properties": {"a": {"type": 5}}})
    with pytest.raises(schema.MalformedError, match="boolean or JSON schema expected"):
        read({"additionalProperties": 5})
