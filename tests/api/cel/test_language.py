"""Expressions of the language: what they answer, and what is said of wrong ones. Source: the CEL specification, cel-go's words."""

from typing import Any

import pytest

from minik8s.api import cel

SCHEMA = {
    "type": "object",
    "properties": {
        "replicas": {"type": "integer"},
        "maxReplicas": {"type": "integer"},
        "a": {"type": "string"},
        "l": {"type": "array", "items": {"type": "string"}},
        "m": {"type": "object", "additionalProperties": {"type": "integer"}},
        "absent": {"type": "string"},
    },
}
ENV = cel.Env({"self": cel.schema_type(SCHEMA, root=True), "d": cel.DYN})
SELF = {"replicas": 1, "maxReplicas": 2, "a": "x", "l": ["a", "b"], "m": {"one": 1, "two": 2}}


def evaluate(text: str, d: Any = None) -> Any:
    return cel.compile(text, ENV).evaluate({"self": SELF, "d": d})


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("self.replicas <= self.maxReplicas", True),
        ("has(self.absent) || self.a == 'x'", True),
        ("!has(self.absent)", True),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7u / 2u", 3),
        ("1.0 / 0.0 > 1e308", True),
        ("0x10 + 1", 17),
        ("1 < 1.5 && 2u > 1 && 1.5 < 2u", True),
        ("dyn(1.0) == 1 && dyn(1u) == 1 && dyn(1) != 'a'", True),
        ("[1, 2] == [1, 2] && {'a': 1} == {'a': 1}", True),
        ("'a' + 'b' + \"c\" + '''d'''", "abcd"),
        (r"r'\n' + '\x41\u00e9\U0001F600\101'", "\\nAé😀A"),
        (r"b'\xff' + b'a'", b"\xffa"),
        ("size('é😀') == 2 && size(b'é') == 2", True),
        ("type(1) == int && type(type(1)) == type && type([]) == list && type(null) == null_type", True),
        ("int('7') + int(1.9) + int(3u)", 11),
        ("string(1.0) + string(1e21) + string(1.5e-7) + string(true)", "11e+211.5e-07true"),
        (
            "string(b'abc') + string(duration('90m')) + string(timestamp('2020-01-01T01:00:00+01:00'))",
            "abc5400s2020-01-01T01:00:00+01:00",
        ),
        ("bool('true') && !bool('0')", True),
        ("timestamp('2020-02-29T12:30:45.5Z').getDayOfYear()", 59),
        ("timestamp('2020-01-01T00:30:00Z').getHours('-01:00')", 23),
        ("timestamp('2020-01-02T00:00:00Z') - timestamp('2020-01-01T00:00:00Z') == duration('24h')", True),
        ("duration('1h30m').getMinutes()", 90),
        ("self.l.all(x, x.startsWith('a'))", False),
        ("self.l.exists(x, x == 'b')", True),
        ("self.l.exists_one(x, x != 'b')", True),
        ("self.l.map(x, x + '!')", ["a!", "b!"]),
        ("self.l.map(x, x != 'a', x + x)", ["bb"]),
        ("[1, 2, 3].filter(x, x > 1).size()", 2),
        ("self.m.all(k, self.m[k] > 0) && 'one' in self.m && !('three' in self.m)", True),
        ("self.m.transformMap(k, v, v > 1, v + 1)", {"two": 3}),
        ("self.m.transformMapEntry(k, v, {k + k: v})", {"oneone": 1, "twotwo": 2}),
        ("self.l.transformList(i, v, string(i) + v)", ["0a", "1b"]),
        ("self.l.exists(i, v, i == 1 && v == 'b') && self.m.existsOne(k, v, v == 2)", True),
        ("self.?absent.orValue('z') + self.?a.orValue('y')", "zx"),
        ("self.l[?5].hasValue() || self.m[?'one'].value() == 1", True),
        ("self.?a.optMap(v, v + v).orValue('') + self.?absent.optFlatMap(v, optional.of(v)).orValue('none')", "xxnone"),
        ("[?self.?absent, 'b'] + {?'k': self.?a, 'l': 'm'}.map(k, k)", ["b", "k", "l"]),
        ("optional.ofNonZeroValue('').or(optional.of('q')).value()", "q"),
        ("1 / 0 == 1 || true", True),
        ("false && 1 / 0 == 1", False),
        ("[1, 0].exists(x, 1 / x == 1)", True),
        ("[0, 2].all(x, 4 / x == 1)", False),
        ("d.a[1].b", "deep"),
        ("has(d.n.x) || has(d.a[0].x)", False),
        ("has(self.m.one)", True),
    ],
)
def test_answers(text: str, answer: Any) -> None:
    found = evaluate(text, {"a": [0, {"b": "deep"}], "n": None})
    assert found == answer
    assert type(found) is type(answer) or isinstance(found, cel.UInt)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("self.absent == ''", "no such key: absent"),
        ("self.m.three == 1", "no such key: three"),
        ("self.m['three'] == 1", "no such key: three"),
        ("d.a == 1", "no such key: a"),
        ("self.l[2] == ''", "index out of bounds: 2"),
        ("self.l[-1] == ''", "index out of bounds: -1"),
        ("1 / 0 == 1", "division by zero"),
        ("1 % 0 == 1", "modulus by zero"),
        ("9223372036854775807 + 1 == 0", "integer overflow"),
        ("-9223372036854775808 / -1 == 0", "integer overflow"),
        ("-(-9223372036854775808) == 0", "integer overflow"),
        ("1u - 2u == 0u", "unsigned integer overflow"),
        ("int(1e19) == 0", "integer overflow"),
        ("uint(-1) == 0u", "unsigned integer overflow"),
        ("int('x') == 0", "type conversion error from 'string' to 'int'"),
        ("bool('yes')", "type conversion error from 'string' to 'bool'"),
        ("dyn(1) + 'a' == 'a'", "no such overload"),
        ("d < 1", "no such overload: _<_"),
        ("dyn('a') ? true : false", "no such overload"),
        ("dyn(1) || false", "no such overload"),
        ("dyn(1).startsWith('a')", "no such overload: startsWith(int, string)"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("[1, 0].all(x, 1 / x == 1)", "division by zero"),
        ("[0, 0].map(x, 1 / x) == []", "division by zero"),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s') == timestamp(0)", "timestamp overflow"),
        ("self.a.matches(self.a + '(')", "error parsing regexp: missing closing ): `x(`"),
        ("double('nan') < 1.0", "NaN values cannot be ordered"),
    ],
)
def test_errors(text: str, error: str) -> None:
    with pytest.raises(cel.EvaluationError) as caught:
        evaluate(text)
    assert str(caught.value) == error


EXPECTING = (
    "expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
)


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("self.a ==", [f"1:10: Syntax error: mismatched input '<EOF>' {EXPECTING}"]),
        ("[self.a", ["1:8: Syntax error: mismatched input '<EOF>' expecting {']', ','}"]),
        ("self.a self", ["1:8: Syntax error: extraneous input 'self' expecting <EOF>"]),
        (
            "self.a == $",
            [
                "1:11: Syntax error: token recognition error at: '$'",
                f"1:12: Syntax error: mismatched input '<EOF>' {EXPECTING}",
            ],
        ),
        ("namespace == 1", ["1:1: reserved identifier: namespace"]),
        ("9223372036854775808", ["1:1: invalid int literal"]),
        ("self.l.all(1, true)", ["1:12: argument must be a simple name"]),
        ("self.l.all(x, x, true)", ["1:15: duplicate variable name: x"]),
        ("self.`a` == 'x'", ["1:6: unsupported syntax: '`'"]),
        ("has(self)", ["1:5: invalid argument to has() macro"]),
        (
            "nothing.x == 1 && other",
            [
                "1:1: undeclared reference to 'nothing' (in container '')",
                "1:19: undeclared reference to 'other' (in container '')",
            ],
        ),
        ("unheard(self)", ["1:8: undeclared reference to 'unheard' (in container '')"]),
        ("self.wrong == 1", ["1:5: undefined field 'wrong'"]),
        ("self.a.b == 1", ["1:7: type 'string' does not support field selection"]),
        ("self.a > 3", ["1:8: found no matching overload for '_>_' applied to '(string, int)'"]),
        ("self.replicas + self.a", ["1:15: found no matching overload for '_+_' applied to '(int, string)'"]),
        ("d.startsWith(3)", ["1:13: found no matching overload for 'startsWith' applied to 'dyn.(int)'"]),
        (
            "self.a.all(c, true)",
            ["1:5: expression of type 'string' cannot be range of a comprehension (must be list, map, or dynamic)"],
        ),
        ("self.l.all(x, x)", ["1:15: expected type 'bool' but found 'string'"]),
        ("self.a in ['a', 1]", ["1:17: expected type 'string' but found 'int'"]),
        (
            "{'a': 1, 2: 'b'} == d",
            ["1:10: expected type 'string' but found 'int'", "1:13: expected type 'int' but found 'string'"],
        ),
        ("timestamp('yesterday') == d", ["1:11: invalid timestamp argument"]),
        ("duration('1 hour') == d", ["1:10: invalid duration argument"]),
        ("self.a.matches('a[')", ["1:16: invalid matches argument"]),
        (
            "'%d'.format(['a'])",
            ["1:14: error during formatting: decimal clause can only be used on integers, was given string"],
        ),
        (
            "cel.bind(x, 1, x)",
            ["1:1: undeclared reference to 'cel' (in container '')", "1:9: undeclared reference to 'bind' (in container '')"],
        ),
        ("Some{a: 1}", ["1:5: undeclared reference to 'Some' (in container '')"]),
        ("int{a: 1}", ["1:4: 'int' is not a message type"]),
    ],
)
def test_complaints(text: str, complaints: list[str]) -> None:
    with pytest.raises(cel.CompileError) as caught:
        cel.compile(text, ENV)
    lines = str(caught.value).split("\n")
    assert [line for line in lines if line.startswith("ERROR")][: len(complaints)] == [
        f"ERROR: <input>:{complaint}" for complaint in complaints
    ]


def test_a_complaint_shows_its_line() -> None:
    with pytest.raises(cel.CompileError) as caught:
        cel.compile("true &&\n'é' == self.wrong", ENV)
    assert str(caught.value) == "ERROR: <input>:2:12: undefined field 'wrong'\n | 'é' == self.wrong\n | .．.........^"


@pytest.mark.parametrize("text", ["(" * 400 + "1" + ")" * 400, "-" * 400 + "(" * 300, "!" + ".a" * 2000, "1" + "+1" * 3000])
def test_too_deep_expressions_are_refused(text: str) -> None:
    with pytest.raises(cel.CompileError):
        cel.compile(text, ENV)


def test_long_chains_of_logic_are_fine() -> None:
    assert evaluate(" || ".join(["self.a == 'y'"] * 2000 + ["true"])) is True


def test_an_expression_too_long_is_refused() -> None:
    with pytest.raises(cel.CompileError, match="expression code point size exceeds limit: size: 100001, limit 100000"):
        cel.compile("a" * 100_001, ENV)


def test_uses() -> None:
    program = cel.compile("self.l.all(d, d == 'a')", ENV)
    assert program.uses("self")
    assert not program.uses("d")  # that one is the macro's own
