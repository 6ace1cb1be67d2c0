"""Bodies. Answers: golden errors/err-bodies, err-typemeta, err-field-validation, config/cfg-configmap."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minik8s.api import decode, yaml
from minik8s.api.decode import JSON, PROTOBUF, YAML
from minik8s.api.errors import ApiError, BadRequest, UnsupportedMediaType

CONFIGMAP = ("", "v1", "ConfigMap")
MUST_BE = "the object provided is unrecognized (must be of type ConfigMap): "
NO_JSON = MUST_BE + "couldn't get version/kind; json parse error: "
STRUCT = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'


def configmap(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more}


@pytest.mark.parametrize(
    ("raw", "media", "obj"),
    [
        (b"null", JSON, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}),
        (b"{}", JSON, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}),
        (b'{"kind": "", "metadata": {"name": "a"}, "data": {"k": "v"}}', JSON, configmap("a", data={"k": "v"})),
        (b'{"metadata": {"name": "a"}}', "application/json; charset=utf-8", configmap("a")),
        (b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: 'v'\n", YAML, configmap("a", data={"k": "v"})),
        (b"metadata: {name: a}\n---\nmetadata: {name: b}\n", YAML, configmap("a")),
        (
            b"metadata: {name: a}\ndata: {k: 2024-01-01, 7: 'x', yes: '12:30'}",
            YAML,
            configmap("a", data={"k": "2024-01-01", "7": "x", "true": "12:30"}),
        ),
        (
            b"base: &b {x: '1', z: '2'}\nmetadata: {name: a}\ndata: {<<: *b, z: '3'}",
            YAML,
            configmap("a", data={"x": "1", "z": "3"}),
        ),
    ],
)
def test_bodies(raw: bytes, media: str, obj: dict[str, Any]) -> None:
    assert decode.decode(raw, media, *CONFIGMAP, "Ignore") == (obj, [])


@pytest.mark.parametrize(
    ("raw", "media", "message"),
    [
        (b"{not json", JSON, NO_JSON + "invalid character 'n' looking for beginning of object key string ({not json)"),
        (b"", JSON, NO_JSON + "unexpected end of JSON input (<empty>)"),
        (b"[]", JSON, NO_JSON + f"json: cannot unmarshal array into Go value of type {STRUCT} (5b5d)"),
        (b'"text"', JSON, NO_JSON + f"json: cannot unmarshal string into Go value of type {STRUCT} (227465787422)"),
        (b"7", JSON, NO_JSON + f"json: cannot unmarshal number into Go value of type {STRUCT} (37)"),
        (
            b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"cut"}',
            JSON,
            NO_JSON + 'unexpected end of JSON input ({"apiVersion":"v1","kind":"Con ...)',
        ),
        (
            b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"tail"}} x',
            JSON,
            NO_JSON + 'invalid character \'x\' after top-level value ({"apiVersion":"v1","kind":"Con ...)',
        ),
        (
            b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml-as-json}\n",
            JSON,
            NO_JSON + "invalid character 'a' looking for beginning of value"
            " (61706956657273696f6e3a2076310a6b696e643a20436f6e6669674d6170 ...)",
        ),
        (b"a: [b", YAML, MUST_BE + "yaml: line 1: did not find expected ',' or ']' (613a205b62)"),
        (b"\tkind: x", YAML, MUST_BE + "yaml: found character that cannot start any token (096b696e643a2078)"),
        (
            b"just text",
            YAML,
            NO_JSON
            + f"json: cannot unmarshal string into Go value of type {STRUCT} (7573742074657874)".replace("(7573", "(6a7573"),
        ),
        (b'{"apiVersion": "a/b/c"}', JSON, MUST_BE + 'unexpected GroupVersion string: a/b/c ({"apiVersion": "a/b/c"})'),
        (
            b'{"apiVersion": 1}',
            JSON,
            NO_JSON + 'json: cannot unmarshal number into Go struct field .apiVersion of type string ({"apiVersion": 1})',
        ),
        (
            b"garbage",
            PROTOBUF,
            MUST_BE + "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] (67617262616765)",
        ),
        (
            b'{"kind": "Secret"}',
            JSON,
            'Secret in version "v1" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion',
        ),
        (
            b'{"kind": "Nothing"}',
            JSON,
            'Nothing in version "v1" cannot be handled as a ConfigMap: no kind "Nothing" is registered for version "v1"',
        ),
        (
            b'{"apiVersion": "apps/v1"}',
            JSON,
            'ConfigMap in version "v1" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "apps/v1"',
        ),
    ],
)
def test_bad_bodies(raw: bytes, media: str, message: str) -> None:
    with pytest.raises(BadRequest) as raised:
        decode.decode(raw, media, *CONFIGMAP)
    assert raised.value.message == message


@pytest.mark.parametrize("media", ["application/x-yaml", "text/plain", "application/merge-patch+json", "application/"])
def test_other_media(media: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="the body of the request was in an unknown format - accepted media types"):
        decode.decode(b"{}", media, *CONFIGMAP)


DUPLICATES = b'{"metadata":{"name":"dup"},"data":{"k":"1","k":"2"},"metadata":{"name":"dup2"},"extra":1}'


def test_field_validation() -> None:
    found = ['duplicate field "data.k"', 'duplicate field "metadata"', 'unknown field "extra"']
    assert decode.decode(DUPLICATES, JSON, *CONFIGMAP, "Warn")[1] == found
    assert decode.decode(DUPLICATES, JSON, *CONFIGMAP, "Ignore")[1] == []
    with pytest.raises(BadRequest) as raised:
        decode.decode(DUPLICATES, JSON, *CONFIGMAP, "Strict")
    assert raised.value.message == (
        f'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: {", ".join(found)}'
    )


def test_unknown_and_repeated_fields_are_told_in_the_order_of_the_text() -> None:
    """Conformance: "should detect unknown and duplicate fields of a typed object"."""
    raw = b'{"metadata":{"x":1,"name":"a"},"data":{"k":"1","k":"2"},"extra":1,"data":{}}'
    assert decode.decode(raw, JSON, *CONFIGMAP)[1] == [
        'unknown field "metadata.x"',
        'duplicate field "data.k"',
        'unknown field "extra"',
        'duplicate field "data"',
    ]


def test_what_comes_twice_goes_into_what_is_there() -> None:
    """Golden errors/err-field-validation#8: as a decoder fills a struct. Lists and plain values are replaced."""
    raw = b'{"metadata":{"name":"a","labels":{"a":"1"},"finalizers":["x/y"]},"data":{"k":"1"},"metadata":{"name":"b","finalizers":[]}}'
    obj, _ = decode.decode(raw, JSON, *CONFIGMAP, "Ignore")
    assert obj == configmap("b", data={"k": "1"}) | {"metadata": {"name": "b", "labels": {"a": "1"}}}


@pytest.mark.parametrize(
    ("version", "kind", "wanted", "message"),
    [
        (
            "extensions/v1beta1",
            "Deployment",
            ("apps", "v1"),
            "(extensions/v1beta1) does not match the expected API version (apps/v1)",
        ),
        ("policy/v1beta1", "PodDisruptionBudget", ("policy", "v1"), "(policy/v1beta1) does not match"),
        ("apps/v9", "Deployment", ("apps", "v1"), 'no kind "Deployment" is registered for version "apps/v9"'),
        ("extensions/v1beta1", "Secret", ("", "v1"), 'no kind "Secret" is registered'),
    ],
)
def test_versions_that_are_served_no_more(version: str, kind: str, wanted: tuple[str, str], message: str) -> None:
    """Golden errors/err-typemeta, workloads-validation/wv-deployment#16, wv-pdb#5."""
    raw = json.dumps({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}).encode()
    with pytest.raises(BadRequest) as raised:
        decode.decode(raw, JSON, *wanted, kind)
    assert message in raised.value.message


def test_an_older_eviction_is_one() -> None:
    """Golden pods-defaults/pd-eviction#11."""
    obj, _ = decode.decode(
        b'{"apiVersion":"policy/v1beta1","kind":"Eviction","metadata":{"name":"a"}}', JSON, "policy", "v1", "Eviction"
    )
    assert obj["apiVersion"] == "policy/v1"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("nope", "invalid character 'o' in literal null (expecting 'u')"),
        ("[trub]", "invalid character 'b' in literal true (expecting 'e')"),
        ("fal", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        ("\x9e", "invalid character '\\u009e' looking for beginning of value"),
        ("\x01", "invalid character '\\x01' looking for beginning of value"),
        ("\u00cf", "invalid character '\u00cf' looking for beginning of value"),
    ],
)
def test_broken_json_in_the_words_of_go(raw: str, message: str) -> None:
    """Golden config/cfg-secret#11, lists/list-pages#20, errors/err-query#17."""
    assert decode.json_error(raw.encode()) == message


def test_field_validation_of_yaml() -> None:
    raw = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ydup}\ndata: {k: a}\ndata: {k: b}\n"
    obj, warnings = decode.decode(raw, YAML, *CONFIGMAP)
    assert (obj["data"], warnings) == ({"k": "b"}, ['line 5: key "data" already set in map'])
    with pytest.raises(BadRequest) as raised:
        decode.decode(raw, YAML, *CONFIGMAP, "Strict")
    assert raised.value.message.endswith(
        'strict decoding error: yaml: unmarshal errors:\n  line 5: key "data" already set in map'
    )


ALIAS_BOMB = b"a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + b"\n".join(
    b"a%d: &a%d [%s]" % (i, i, b",".join([b"*a%d" % (i - 1)] * 10)) for i in range(1, 9)
)


def test_a_colon_in_text_is_no_duplicate() -> None:
    note = json.dumps({"a": {"b": 'c":'}})
    raw = json.dumps(configmap("a", data={"note": note, "\\": note, "x :": note})).encode()
    assert decode.decode(raw, JSON, *CONFIGMAP)[1] == []


@pytest.mark.parametrize(
    ("raw", "media", "words"),
    [
        (b'{"a":' * 300 + b"1" + b"}" * 300, JSON, "exceeded max depth"),
        (b"[" * 100_000, JSON, "unexpected end of JSON input|exceeded max depth"),
        (b"[" * 300 + b"]" * 300, YAML, "exceeded max depth"),
        (b"[" * 100_000, YAML, "depth"),
        (b"a: &a [*a]", YAML, "anchor 'a' value contains itself"),
        (b"a: *b", YAML, "anchor 'b' is unknown"),
        (ALIAS_BOMB, YAML, "excessive aliasing"),
        (b"a: .nan", YAML, "unsupported value"),
        (b"? {a: b}\n: c", YAML, "unsupported map key of type map"),
        (b"\xff\xfe\x00", YAML, "yaml"),
        (b'{"a": "\xff"}', JSON, "invalid UTF-8"),
        (b'{"a": NaN}', JSON, "invalid character"),
    ],
)  # fmt: skip
def test_hostile_bodies(raw: bytes, media: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        decode.decode(raw, media, *CONFIGMAP)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0777", 511), ("0x1F", 31), ("0b11", 3), ("1_000", 1000), ("-5", -5), ("1e3", 1000.0), (".5", 0.5), ("12:30", "12:30"),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"), ("~", None), ("off", False), ("y", True), ("'7'", "7"), ("!!str 7", "7"),
        ("!!float 7", 7.0), ("1.2.3", "1.2.3"), ("089", 89), ("=", "="), ("_1", "_1"), ("18446744073709551615", 18446744073709551615),
    ],
)  # fmt: skip
def test_yaml_scalars(text: str, value: object) -> None:
    assert yaml.parse(text.encode()) == (value, [])


json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_value, st.sampled_from([None, 1]), st.booleans())
def test_json_round_trips_without_duplicates(value: Any, indent: int | None, ascii: bool) -> None:
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii).encode(errors="replace")
    assert decode.parse(raw, JSON, strict=True) == (json.loads(raw), [])


@given(st.dictionaries(st.text(max_size=4), st.text(max_size=4), min_size=1), st.integers(0, 3))
def test_a_repeated_key_is_found(fields: dict[str, str], which: int) -> None:
    key, value = list(fields.items())[which % len(fields)]
    raw = json.dumps(fields)[:-1] + f",{json.dumps(key)}:{json.dumps(value)}}}"
    assert decode.parse(raw.encode(errors="replace"), JSON, strict=True)[1]


@given(st.binary(max_size=40) | st.text("{}[]:,&*-a1\"' \n\t!|>#", max_size=30).map(str.encode), st.sampled_from([JSON, YAML]))
def test_any_bytes_are_decoded_or_refused(raw: bytes, media: str) -> None:
    try:
        decode.decode(raw, media, *CONFIGMAP)
    except ApiError as error:
        assert error.status_code == 400  # noqa: PT017
