"""What schemas make of JSON. Source: the documentation of x-kubernetes-validations."""

from typing import Any

import pytest

from minik8s.api import cel


def check(schema: dict[str, Any], value: Any, text: str, old: Any = None, root: bool = False) -> Any:
    declared = cel.schema_type(schema, root)
    assert declared is not None
    return cel.compile(text, cel.Env({"self": declared, "oldSelf": declared})).evaluate({"self": value, "oldSelf": old})


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


STRING = {"type": "string"}
ESCAPED = {"namespace": "n", "a-b": "dash", "a.b": "dot", "a/b": "slash", "a__b": "under", "if": "word", "_x": "x"}


@pytest.mark.parametrize(
    ("identifier", "value"),
    [
        ("__namespace__", "n"),
        ("namespace", "n"),
        ("a__dash__b", "dash"),
        ("a__dot__b", "dot"),
        ("a__slash__b", "slash"),
        ("a__underscores__b", "under"),
        ("__if__", "word"),
        ("_x", "x"),
    ],
)
def test_fields_are_escaped(identifier: str, value: str) -> None:
    schema = obj(**dict.fromkeys(ESCAPED, STRING))
    assert check(schema, ESCAPED, f"self.{identifier}") == value
    assert check(schema, ESCAPED, f"has(self.{identifier})") is True


@pytest.mark.parametrize("name", ["1a", "a b", "é", ""])
def test_some_names_no_expression_can_say(name: str) -> None:
    assert cel.escape(name) is None


@pytest.mark.parametrize(
    ("schema", "value", "text", "answer"),
    [
        ({"type": "number"}, 1, "self / 2.0", 0.5),
        ({"type": "string", "format": "date-time"}, "2020-01-01T00:00:00Z", "self.getFullYear()", 2020),
        ({"type": "string", "format": "date"}, "2020-03-01", "self.getMonth()", 2),
        ({"type": "string", "format": "duration"}, "1h30m", "self > duration('1h')", True),
        ({"type": "string", "format": "byte"}, "aGVsbG8=", "self == b'hello'", True),
        ({"type": "string", "format": "unheard"}, "a", "self + 'b'", "ab"),
        ({"x-kubernetes-int-or-string": True}, 3, "type(self) == int ? self < 5 : self == 'auto'", True),
        ({"x-kubernetes-int-or-string": True}, "auto", "type(self) == int ? self < 5 : self == 'auto'", True),
        ({"type": "array", "items": {"type": "number"}}, [1, 2], "self[1] / 4.0", 0.5),
        (
            {"type": "object", "additionalProperties": {"type": "string", "format": "duration"}},
            {"a": "1s"},
            "self.a.getSeconds()",
            1,
        ),
        (
            obj(when={"type": "string", "format": "date"}),
            {"when": "2020-03-01"},
            "self.?when.optMap(t, t.getDate()).orValue(0)",
            1,
        ),
        (obj(a=STRING), {"a": None}, "has(self.a)", False),
        (obj(a=STRING), {"a": None}, "self.?a.hasValue()", False),
        (obj(a={"type": "number"}), {"a": None}, "has(self.a)", False),
        (
            {"type": "array", "items": {**STRING, "nullable": True}},
            ["a", None],
            "self[1] != 'a'",
            True,
        ),
        (obj(o=obj(s=STRING)), {"o": {"s": "x"}}, "self.o == self.o && self == self", True),
    ],
)
def test_values(schema: dict[str, Any], value: Any, text: str, answer: Any) -> None:
    assert check(schema, value, text) == answer


@pytest.mark.parametrize(
    ("schema", "visible"),
    [
        ({}, False),
        ({"x-kubernetes-preserve-unknown-fields": True}, False),
        ({"type": "array"}, False),
        ({"type": "array", "items": {"x-kubernetes-preserve-unknown-fields": True}}, False),
        ({"type": "object", "additionalProperties": {}}, False),
        ({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, True),
        ({"type": "object", "additionalProperties": True}, True),
    ],
)
def test_what_has_no_type_is_not_seen(schema: dict[str, Any], visible: bool) -> None:
    assert (cel.schema_type(schema) is not None) is visible
    field = cel.schema_type(obj(f=schema))
    assert field is not None
    assert ("f" in field.fields) is visible


def test_the_root_of_a_resource_has_its_meta() -> None:
    widget = {"apiVersion": "v1", "kind": "Widget", "metadata": {"name": "w", "labels": {}}}
    assert check(obj(), widget, "self.metadata.name + self.kind + self.apiVersion", root=True) == "wWidgetv1"
    with pytest.raises(cel.CompileError, match="undefined field 'labels'"):
        check(obj(), widget, "has(self.metadata.labels)", root=True)
    with pytest.raises(cel.CompileError, match="undefined field 'metadata'"):
        check(obj(), widget, "has(self.metadata)")
    embedded = obj(template={"type": "object", "x-kubernetes-embedded-resource": True})
    assert check(embedded, {"template": widget}, "self.template.kind") == "Widget"


SET = {"type": "array", "items": STRING, "x-kubernetes-list-type": "set"}
MAP = {
    "type": "array",
    "items": obj(k=STRING, v={"type": "integer"}),
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["k"],
}


@pytest.mark.parametrize(
    ("schema", "value", "old", "text", "answer"),
    [
        (SET, ["a", "b"], ["b", "a"], "self == oldSelf", True),
        (SET, ["a", "b"], ["b", "c"], "self == oldSelf", False),
        (SET, ["a", "b"], ["b", "c"], "(self + oldSelf).size()", 3),
        ({**SET, "x-kubernetes-list-type": "atomic"}, ["a", "b"], ["b", "a"], "self == oldSelf", False),
        (MAP, [{"k": "a", "v": 1}, {"k": "b"}], [{"k": "b"}, {"k": "a", "v": 1}], "self == oldSelf", True),
        (MAP, [{"k": "a", "v": 1}], [{"k": "a", "v": 2}], "self == oldSelf", False),
        (MAP, [{"k": "a", "v": 1}], [{"k": "a", "v": 2}, {"k": "b"}], "(self + oldSelf).map(i, i.?v.orValue(0))", [2, 0]),
        (obj(s=SET), {"s": ["a", "b"]}, {"s": ["b", "a"]}, "self == oldSelf && self.s == oldSelf.s", True),
    ],
)
def test_lists_of_a_type(schema: dict[str, Any], value: Any, old: Any, text: str, answer: Any) -> None:
    assert check(schema, value, text, old) == answer


def test_an_old_value_may_be_optional() -> None:
    declared = cel.schema_type({"type": "string", "format": "duration"})
    assert declared is not None
    env = cel.Env({"self": declared, "oldSelf": declared.optional()})
    program = cel.compile("oldSelf.hasValue() ? self > oldSelf.value() : self > duration('1s')", env)
    assert program.evaluate({"self": "2s", "oldSelf": cel.NONE}) is True
    assert program.evaluate({"self": "2s", "oldSelf": cel.Optional("3s")}) is False
    with pytest.raises(cel.CompileError, match=r"'_==_' applied to '\(duration, optional_type\(duration\)\)'"):
        cel.compile("self == oldSelf", env)


def test_values_are_not_changed() -> None:
    value = {"s": ["b", "a"], "n": 1}
    check(obj(s=SET, n={"type": "number"}), value, "(self.s + ['c']).size() > 0 && self.n > 0.5")
    assert value == {"s": ["b", "a"], "n": 1}
