"""Random expressions against Google's CEL in C++ (cel-expr-python): the same answers, or an error from both."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minik8s.api import cel

oracle = pytest.importorskip("cel_expr_python.cel", reason="cel-expr-python isn't installed")

BINDINGS: dict[str, Any] = {"i": 7, "s": "abc", "l": [3, 1, 2], "b": True, "d": {"k": 1, "n": [1, "x"]}, "f": 2.5}
ENV = cel.Env(
    {"i": cel.INT, "s": cel.STRING, "l": cel.list_of(cel.INT), "b": cel.BOOL, "d": cel.DYN, "f": cel.DOUBLE},
)
T = oracle.Type
THEIRS = oracle.NewEnv(variables={"i": T.INT, "s": T.STRING, "l": T.List(T.INT), "b": T.BOOL, "d": T.DYN, "f": T.DOUBLE})

Text = st.SearchStrategy[str]


def _call(form: str, *parts: Text) -> Text:
    return st.tuples(*parts).map(lambda found: form.format(*found))


def _expressions() -> Text:
    """Expressions of all kinds, of which each is made of ones that are mostly of the right type."""
    ints: Text = st.sampled_from(
        ["0", "1", "-1", "7", "9223372036854775807", "-9223372036854775808", "i", "l[1]", "size(s)", "d.k", "d.nothing", "0x1F"]
    )
    doubles: Text = st.sampled_from(["0.0", "1.5", "-2.0", "1e300", "f", "double(i)", "7.0", "double('x')"])
    texts: Text = st.sampled_from(["''", "'a'", '"abc"', "s", "r'\\n'", "'\\u00e9'", "string(i)", "string(f)", "d.n[1]", "'7'"])
    bools: Text = st.sampled_from(["true", "false", "b", "has(d.k)", "has(d.nothing)", "1 / 0 == 1", "d.nothing == 1"])
    lists: Text = st.sampled_from(["l", "[]", "[1, 2]", "d.n", "[i, 7]"])

    def deeper(inner: Text) -> Text:
        return st.one_of(
            _call("({0} + {1})", inner, inner),
            _call("({0} - {1})", inner, inner),
            _call("({0} * {1})", inner, inner),
            _call("({0} / {1})", inner, inner),
            _call("({0} % {1})", inner, inner),
            _call("-({0})", inner),
            _call("({0} == {1})", inner, inner),
            _call("({0} != {1})", inner, inner),
            _call("({0} < {1})", inner, inner),
            _call("({0} >= {1})", inner, inner),
            _call("({0} && {1})", inner, inner),
            _call("({0} || {1})", inner, inner),
            _call("!({0})", inner),
            _call("({0} ? {1} : {2})", inner, inner, inner),
            _call("dyn({0})", inner),
            _call("int({0})", inner),
            _call("uint({0})", inner),
            _call("double({0})", inner),
            _call("string({0})", inner),
            _call("size({0})", inner),
            _call("({0} in [{1}])", inner, inner),
            _call("({0}).contains({1})", inner, inner),
            _call("({0}).startsWith({1})", inner, inner),
            _call("[{0}, {1}][{2}]", inner, inner, inner),
            _call("{{'a': {0}}}.a", inner),
            _call("{{string({0}): 1}}[string({1})]", inner, inner),
            _call("({0}).all(x, x < {1})", lists, inner),
            _call("({0}).exists(x, x == {1})", lists, inner),
            _call("({0}).exists_one(x, x == {1})", lists, inner),
            _call("({0}).map(x, {1})", lists, inner),
            _call("({0}).filter(x, x != {1})", lists, inner),
            _call("(type({0}) == type({1}))", inner, inner),
        )

    return st.recursive(st.one_of(ints, doubles, texts, bools), deeper, max_leaves=6)


def _ours(text: str) -> tuple[str, Any]:
    try:
        program = cel.compile(text, ENV)
    except cel.CompileError as error:
        return "compile", str(error)
    try:
        return "value", program.evaluate(BINDINGS)
    except cel.EvaluationError as error:
        return "error", str(error)


def _theirs(text: str) -> tuple[str, Any]:
    try:
        program = THEIRS.compile(text)
    except RuntimeError as error:
        return "compile", str(error)
    value = program.eval(data=BINDINGS)
    return ("error", value.plain_value()) if value.type().name() == "ERROR" else ("value", value.plain_value())


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, cel.Type) else value


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(_expressions())
def test_answers_as_the_oracle(text: str) -> None:
    kind, ours = _ours(text)
    their_kind, theirs = _theirs(text)
    if "compile" in (kind, their_kind):
        return  # literals of mixed types are errors of Kubernetes alone, and the checkers' words differ
    assert kind == their_kind, f"{text}: {ours} against {theirs}"
    if kind == "value":
        assert _plain(ours) == _plain(theirs), text
