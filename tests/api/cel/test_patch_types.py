"""What mutations build, and which of two errors is told. Source: KEP-3962; cel-go's logical operators."""

from typing import Any

import pytest

from minik8s.api import cel

ENV = cel.admission_env(patches=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Object{}", {}),
        ("Object{spec: Object.spec{replicas: 3}}", {"spec": {"replicas": 3}}),
        (
            "Object{spec: Object.spec{containers: ['a'].map(n, Object.spec.containers{name: n})}}",
            {"spec": {"containers": [{"name": "a"}]}},
        ),
        ("Object{data: {'a': 'b'}, ?x: optional.none()}", {"data": {"a": "b"}}),
        (
            "[JSONPatch{op: 'add', path: '/' + jsonpatch.escapeKey('a/b'), value: 1}]",
            [{"op": "add", "path": "/a~1b", "value": 1}],
        ),
    ],
)
def test_objects_are_built_of_any_fields(text: str, expected: Any) -> None:
    assert cel.to_json(cel.compile(text, ENV).evaluate({})) == expected


def test_without_patches_there_are_no_such_types() -> None:
    with pytest.raises(cel.CompileError, match=r"undeclared reference to 'Object\.spec'"):
        cel.compile("Object.spec{replicas: 3}", cel.admission_env())


@pytest.mark.parametrize("operator", ["||", "&&"])
def test_of_two_errors_the_first_is_told(operator: str) -> None:
    program = cel.compile(f"object.a == 'x' {operator} object.b == 'y'", ENV)
    with pytest.raises(cel.EvaluationError, match="no such key: a"):
        program.evaluate({"object": {}})
