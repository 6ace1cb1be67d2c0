"""Expressions of the language: what they answer, what they cost nothing to say, and what is said of wrong ones (source: the CEL specification)."""

import pytest

from minik8s.api import cel

SCHEMA = {
    "type": "object",
    "properties": {
        "replicas": {"type": "integer"},
        "maxReplicas": {"type": "integer"},
        "a": {"type": "string"},
        "l": {"type": "array", "items": {"type": "string"}},
    },
}
ENV = cel.Env({"self": cel.schema_type(SCHEMA, root=True)})
SELF = {"replicas": 1, "maxReplicas": 2, "a": "x", "l": ["a", "b"]}


def evaluate(text: str) -> object:
    return cel.compile(text, ENV).evaluate({"self": SELF})


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("self.replicas <= self.maxReplicas", True),
        ("self.l.all(x, x.startsWith('a'))", False),
        ("self.l.exists(x, x == 'b')", True),
        ("self.l.map(x, x + '!')", ["a!", "b!"]),
        ("self.?a.orValue('z')", "x"),
        ("[1, 2, 3].filter(x, x > 1).size()", 2),
        ("type(1) == int", True),
        ("dyn(1.0) == 1", True),
        ("{'a': 1}.transformMap(k, v, v + 1)", {"a": 2}),
        ("timestamp('2020-01-01T00:00:00Z').getFullYear()", 2020),
    ],
)
def test_answers(text: str, answer: object) -> None:
    assert evaluate(text) == answer
