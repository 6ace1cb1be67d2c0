"""What rules may cost, and do cost. Source: cel-go's cost units (an identifier or a field 1, a string a tenth a character), KEP-2876."""

from typing import Any

import pytest

from minik8s.api import cel

STRING = {"type": "string"}
SCHEMA = {
    "type": "object",
    "properties": {
        "s": STRING,
        "short": {**STRING, "maxLength": 10},
        "one": {**STRING, "enum": ["ab", "abcd"]},
        "l": {"type": "array", "items": {"type": "integer"}, "maxItems": 100},
        "texts": {"type": "array", "items": {**STRING, "maxLength": 5}, "maxItems": 10},
        "m": {"type": "object", "additionalProperties": STRING, "maxProperties": 3},
        "endless": {"type": "array", "items": {"type": "boolean"}},
    },
}
DECLARED = cel.schema_type(SCHEMA)
assert DECLARED is not None
ENV = cel.Env({"self": DECLARED})
REQUEST = 3 * 1024 * 1024


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("true", 0),
        ("has(self.s)", 1),
        ("self.s == 'x'", 3),
        ("self.s == self.s", 2 + 2 + 314573),  # a tenth of what fits into a request
        ("self.short == self.s", 2 + 2 + 4),  # characters of four bytes
        ("self.s.startsWith(self.one)", 2 + 2 + 1),
        ("self.short.matches('^[a-z]+$')", 2 + 5 * 2),
        ("self.l.all(x, x > 0)", 2 + 1 + 100 * (2 + 1 + 2)),
        ("self.l.all(x, self.l.all(y, x == y))", 3 + 100 * (3 + 3 + 100 * (3 + 2))),
        ("self.l.map(x, x + 1).size() == 1", 2 + 10 + 1 + 100 * (1 + 1 + 10 + 2) + 1 + 1),
        ("self.texts.exists(t, t == self.short)", 2 + 1 + 10 * (3 + 1 + 1 + 2 + 2)),
        ("self.texts.join(',').size() < 9", 2 + (200 + 9) // 10 + 1 + 1 + 1),
        ("self.m.all(k, self.m[k] != k)", 2 + 1 + 3 * (3 + 4 + 1)),
        ("self.endless.size() < 5", 2 + 1 + 1),
        ("self.endless.all(b, b)", 2 + 1 + (REQUEST - 2) // 5 * (2 + 1 + 1)),
        ("[1, 2].sum() == 3", 10 + 2 + 1),
        ("{'a': 1}.size() == 1", 30 + 1 + 1),
        ("format.dns1123Label().validate(self.short).hasValue()", 2 + 1 + 4 * 32 + 1),
    ],
)
def test_estimates(text: str, most: int) -> None:
    assert cel.compile(text, ENV).estimate.max == most


def test_estimates_stop_at_the_largest_number() -> None:
    nested = "self.endless.all(a, self.endless.all(b, self.endless.all(c, self.endless.all(d, a == b && c == d))))"
    assert cel.compile(nested, ENV).estimate.max == (1 << 64) - 1


@pytest.mark.parametrize(
    ("schema", "cardinality"),
    [
        ({"type": "boolean"}, REQUEST // 5),
        (STRING, REQUEST // 3),
        ({"type": "object", "required": ["ab"], "properties": {"ab": STRING, "c": STRING}}, REQUEST // 11),
    ],
)
def test_cardinality(schema: dict[str, Any], cardinality: int) -> None:
    declared = cel.schema_type(schema)
    assert declared is not None
    assert declared.cardinality == cardinality


SELF = {"s": "x" * 25, "short": "short", "l": [1, 2, 3], "texts": ["a", "b"], "m": {"k": "v"}}


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("true", 0),
        ("self.s == 'x'", 3),
        ("self.s == self.s", 4 + 3),
        ("self.s.contains('xxxxxxxxxxxx')", 2 + 3 * 2),
        ("self.l.all(x, x > 0)", 2 + 1 + 3 * (3 + 2)),
        ("self.l.all(x, x > 1)", 2 + 1 + (3 + 2) + 2),
        ("self.l.exists(x, x == 1)", 2 + 1 + (4 + 2) + 3),
        ("self.l.map(x, x + 1).size() == 3", 2 + 1 + 3 * 14 + 2),
        ("self.l == [1, 2, 3]", 3),
        ("(self.l + self.l).size() > 0", 4 + 3 + 2),  # by the shorter list: else doubling one fills the memory (cel-go: 1)
        ("self.short in ['a', 'b']", 2),
        ("self.m['k'] == 'v'", 4),
        ("has(self.s) ? self.s == 'x' : self.short == 'x'", 4),
        ("true || self.s == 'x'", 0),
        ("duration('1s') < duration('2s')", 1),
    ],
)
def test_costs(text: str, cost: int) -> None:
    meter = cel.Meter()
    cel.compile(text, ENV).evaluate({"self": SELF}, meter)
    assert meter.cost == cost


def test_an_evaluation_stops_at_its_limit() -> None:
    meter = cel.Meter()
    program = cel.compile("self.l.all(x, self.l.all(y, self.l.all(z, x + y + z > 0 || 1 / 0 == 1)))", ENV)
    with pytest.raises(cel.CostError, match="operation cancelled: actual cost limit exceeded"):
        program.evaluate({"self": {"l": [1] * 100}}, meter)
    assert cel.CALL_LIMIT < meter.cost < cel.CALL_LIMIT + 1000


def test_a_meter_sums_and_counts_failures() -> None:
    meter = cel.Meter()
    program = cel.compile("self.one == 'ab'", ENV)
    with pytest.raises(cel.EvaluationError):
        program.evaluate({"self": SELF}, meter)
    program.evaluate({"self": {"one": "ab"}}, meter)
    assert meter.cost == 5
