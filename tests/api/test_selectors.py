"""Selectors. Errors and matches: golden answers lists/list-labels and lists/list-fields; the rest from labels.Selector."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minik8s.api import selectors
from minik8s.api.errors import BadRequest
from minik8s.api.selectors import FieldRequirement, Requirement, parse_fields, parse_labels

PROD, TEST, NONE = {"env": "prod", "n": "7"}, {"env": "test", "n": "x"}, {"other": ""}


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ("", [PROD, TEST, NONE]),
        ("env=prod", [PROD]),
        ("env==prod", [PROD]),
        ("env!=prod", [TEST, NONE]),
        ("env", [PROD, TEST]),
        ("!env", [NONE]),
        ("env in (prod,test)", [PROD, TEST]),
        ("env notin (prod, in)", [TEST, NONE]),
        ("env in ()", []),
        ("env in (,prod)", [PROD]),
        ("other=", [NONE]),
        ("n>5", [PROD]),
        ("n<5", []),
        (" env = prod ", [PROD]),
        ("env=prod,env=test", []),
        ("in", []),
        ("example.com/x!=y,n", [PROD, TEST]),
    ],
)
def test_label_selectors(text: str, matched: list[dict[str, str]]) -> None:
    assert [labels for labels in (PROD, TEST, NONE) if parse_labels(text).matches(labels)] == matched


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "n>five",
            "unable to parse requirement: values[0]: Invalid value: \"five\": for 'Gt', 'Lt' operators, the value must be",
        ),
        ("env gt 5", "unable to parse requirement: found 'gt', expected: in, notin, =, ==, !=, gt, lt"),
        ("env=prod,", "found '', expected: identifier after ','"),
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        ("=", "found '=', expected: !, identifier, or 'end of string'"),
        ("a/b/c=x", 'unable to parse requirement: <nil>: Invalid value: "a/b/c": a valid label key must consist of'),
        ("env=-bad-", 'unable to parse requirement: values[0][env]: Invalid value: "-bad-": a valid label must be an empty'),
        ("env in prod", "unable to parse requirement: found 'prod' expected: '('"),
        ("env in (prod", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("!env=prod", "found '=', expected: ',' or 'end of string'"),
        ("env=prod test", "found 'test', expected: ',' or 'end of string'"),
        ("env!prod", "unable to parse requirement: found '!', expected: in, notin, =, ==, !=, gt, lt"),
        ("!!", "unable to parse requirement: found '!', expected: identifier"),
    ],
)
def test_bad_label_selectors(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as raised:
        parse_labels(text)
    assert raised.value.message.startswith(message)


def test_requirements_are_sorted_and_tell_an_index() -> None:
    selector = parse_labels("b,a in (y,x,y),c=d")
    assert selector.requirements == (
        Requirement("a", "in", ("x", "y")),
        Requirement("b", "exists"),
        Requirement("c", "=", ("d",)),
    )
    assert (selector.exact("c"), selector.exact("a"), selector.exact("z")) == ("d", None, None)
    assert str(selector) == "a in (x,y),b,c=d"


def test_label_selector_objects() -> None:
    expressions = [
        {"key": "env", "operator": "NotIn", "values": ["test"]},
        {"key": "n", "operator": "Exists"},
        {"key": "z", "operator": "DoesNotExist"},
    ]
    selector = selectors.of_object({"matchLabels": {"env": "prod"}, "matchExpressions": expressions})
    assert selector.matches(PROD)
    assert not selector.matches(TEST)
    assert not selector.matches(PROD | {"z": ""})
    assert selectors.of_object({}).matches({})
    assert not selectors.of_object(None).matches({})
    assert selectors.of_labels({"env": "prod"}).matches(PROD)


def test_label_selector_validation() -> None:
    selector = {
        "matchLabels": {"a": "b"},
        "matchExpressions": [
            {"key": "k", "operator": "In"},
            {"key": "k", "operator": "Exists", "values": ["v"]},
            {"key": "k", "operator": "Near"},
            {"key": "k", "operator": "In", "values": ["-"]},
        ],
    }
    assert [str(error)[:95] for error in selectors.validate_selector(selector, "spec.selector")] == [
        "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is ",
        "spec.selector.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'E",
        'spec.selector.matchExpressions[2].operator: Invalid value: "Near": not a valid selector operato',
        'spec.selector.matchExpressions[3].values[0]: Invalid value: "-": a valid label must be an empty',
    ]
    assert selectors.validate_selector(None, "x") == []


POD: dict[str, Any] = {"metadata": {"name": "p1,x", "namespace": "ns"}, "status": {"phase": "Pending"}}
POD_FIELDS = {"status.phase": lambda obj: str(obj["status"]["phase"])}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("metadata.name=p1\\,x", True),
        ("metadata.name==p1", False),
        ("metadata.name!=p1,", True),
        ("status.phase=Pending,metadata.namespace=ns", True),
        ("status.phase!=Pending", False),
    ],
)
def test_field_selectors(text: str, matches: bool) -> None:
    selector = parse_fields(text)
    selector.check(POD_FIELDS)
    assert selector.matches(POD, POD_FIELDS) == matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metadata.name in (p1)", "invalid selector: 'metadata.name in (p1)'; can't understand 'metadata.name in (p1)'"),
        ("bad", "invalid selector: 'bad'; can't understand 'bad'"),
        ("metadata.name=p1\\x", "invalid field selector: invalid escape sequence: \\x"),
        ("metadata.name=p1\\", "invalid field selector: invalid escape sequence: \\"),
        ("metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
    ],
)
def test_bad_field_selectors(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as raised:
        parse_fields(text)
    assert raised.value.message == message


def test_fields_that_a_kind_does_not_offer() -> None:
    selector = parse_fields("immutable=true")
    with pytest.raises(BadRequest, match="field label not supported: immutable"):
        selector.check(POD_FIELDS)
    with pytest.raises(
        BadRequest, match=r'"immutable" is not a known field selector: only "metadata.name", "metadata.namespace"'
    ):
        selector.check({})
    with pytest.raises(BadRequest, match="is not a known field selector"):
        selector.check({"name": str})  # golden storage/sto-pv#25
    with pytest.raises(BadRequest, match='field label "immutable" not supported for Job'):
        selector.check({"status.successful": str}, "Job")
    assert selector.requirements == (FieldRequirement("immutable", "=", "true"),)
    assert selector.exact("immutable") == "true"


word = st.from_regex(r"[a-z]([a-z0-9.]{0,5}[a-z0-9])?", fullmatch=True).filter(lambda w: w not in ("in", "notin"))
requirement = st.one_of(
    st.builds(Requirement, word, st.sampled_from(["=", "!="]), st.tuples(word)),
    st.builds(Requirement, word, st.sampled_from(["exists", "!"])),
    st.builds(
        Requirement,
        word,
        st.sampled_from(["in", "notin"]),
        st.sets(word, min_size=1, max_size=3).map(lambda values: tuple(sorted(values))),
    ),
)


@given(st.lists(requirement, max_size=4))
def test_what_is_shown_parses_to_the_same(requirements: list[Requirement]) -> None:
    selector = parse_labels(",".join(map(str, requirements)))
    assert sorted(map(str, selector.requirements)) == sorted(map(str, requirements))
    assert parse_labels(str(selector)) == selector


@given(st.text("ab=!(),<> in\0\\", max_size=20))
def test_any_text_is_a_selector_or_a_bad_request(text: str) -> None:
    for parse in (parse_labels, parse_fields):
        try:
            parse(text)
        except BadRequest:
            continue


_REQUIREMENTS = st.builds(
    lambda key, operator, values: selectors.Requirement(
        key, operator, tuple(sorted(values)) if operator in ("in", "notin") else tuple(sorted(values)[:1])
    ),
    st.sampled_from("ab"),
    st.sampled_from(["=", "!=", "in", "notin", "exists", "!", "gt", "lt"]),
    st.sets(st.sampled_from(["x", "1", "2", "-3"]), min_size=1),
)


@given(
    st.lists(_REQUIREMENTS, max_size=12), st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "x", "1", "2", "-3"]))
)
def test_many_requirements_mean_what_each_of_them_means(made: list[selectors.Requirement], labels: dict[str, str]) -> None:
    many = selectors.LabelSelector((*made, *made[:1] * selectors.FEW))
    assert many.matches(labels) == all(requirement.matches(labels) for requirement in made)


def test_what_a_selector_costs_depends_on_the_labels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    long = selectors.parse_labels(",".join(f"!a{i}" for i in range(1500)))
    monkeypatch.delattr(selectors.Requirement, "matches")  # which asks them one by one
    assert long.matches({"x": "y"})
    assert not long.matches({"a7": "y"})
