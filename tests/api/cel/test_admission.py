"""The environments of policies: variables, composed variables, the authorizer, types of built-in kinds. Source: KEP-3488, KEP-3962."""

from typing import Any

import pytest

from minik8s.api import cel


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("request.operation", "string"),
        ("request.userInfo.extra['a'][0]", "string"),
        ("request.options.dryRun", "dyn"),
        ("namespaceObject.metadata.labels", "map(string, string)"),
        ("authorizer.requestResource.check('get')", "kubernetes.authorization.Decision"),
        ("params.spec.max", "dyn"),
        ("[JSONPatch{op: 'add', path: '/a', value: 1}]", "list(JSONPatch)"),
        ("Object{spec: Object.spec{}}", "Object"),
        ("null", "null_type"),
        ("timestamp('2020-01-01T00:00:00Z')", "google.protobuf.Timestamp"),
    ],
)
def test_types(text: str, kind: str) -> None:
    assert str(cel.compile(text, cel.admission_env(params=cel.DYN, patches=True)).type) == kind


@pytest.mark.parametrize("name", ["params", "variables", "authorizer"])
def test_variables_that_are_not_there(name: str) -> None:
    with pytest.raises(cel.CompileError, match=f"undeclared reference to '{name}'"):
        cel.compile(f"{name}.x == 1", cel.admission_env(authorizer=False))


def test_composed_variables_are_read_once_and_when_needed() -> None:
    env = cel.admission_env(variables={})
    bindings: dict[str, Any] = {"object": {"n": 2}}
    meter = cel.Meter()
    runs: list[str] = []
    programs: dict[str, cel.Program] = {}

    def reader(name: str) -> Any:
        runs.append(name)
        return programs[name].evaluate(bindings, meter)

    for name, text in (("n", "object.n + 1"), ("double", "variables.n * 2"), ("broken", "object.missing")):
        programs[name] = cel.compile(text, env)
        env = env.with_variable(name, programs[name].type)
    bindings["variables"] = cel.Lazy({name: lambda name=name: reader(name) for name in programs})  # type: ignore[misc]
    assert cel.compile("variables.double + variables.n", env).evaluate(bindings, meter) == 9
    assert runs == ["double", "n"]
    with pytest.raises(cel.EvaluationError, match='composited variable "broken" fails to evaluate: no such key: missing'):
        cel.compile("variables.broken == 1", env).evaluate(bindings, meter)
    with pytest.raises(cel.CompileError, match="undefined field 'other'"):
        cel.compile("variables.other", env)


def test_the_authorizer_gathers_and_asks() -> None:
    asked: list[cel.Check] = []

    def ask(check: cel.Check) -> tuple[bool, str, str]:
        asked.append(check)
        return check.verb == "get", "said so", "" if check.verb == "get" else "went wrong"

    authorizer = cel.Authorizer(ask, cel.Check(group="apps", resource="deployments", namespace="n", name="d"))
    env = cel.admission_env()

    def evaluate(text: str) -> Any:
        return cel.compile(text, env).evaluate({"authorizer": authorizer})

    assert (
        evaluate("authorizer.group('').resource('pods').subresource('log').namespace('n').name('p').check('get').allowed()")
        is True
    )
    assert evaluate("authorizer.path('/healthz').check('get').reason()") == "said so"
    assert (
        evaluate(
            "authorizer.serviceAccount('n', 's').requestResource"
            if False
            else "authorizer.requestResource.check('put').error()"
        )
        == "went wrong"
    )
    assert (
        evaluate("authorizer.serviceAccount('n', 's').group('').resource('x').fieldSelector('a=b').check('get').errored()")
        is False
    )
    assert asked == [
        cel.Check(verb="get", resource="pods", subresource="log", namespace="n", name="p"),
        cel.Check(verb="get", path="/healthz"),
        cel.Check(verb="put", group="apps", resource="deployments", namespace="n", name="d"),
        cel.Check(verb="get", resource="x", field_selector="a=b", service_account=("n", "s")),
    ]
    with pytest.raises(cel.CostError):
        evaluate("[1, 2, 3].all(i, authorizer.path('/').check('get').allowed())")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("object.spec.replicas < 5 && object.spec.template.spec.containers.all(c, c.image != '')", None),
        ("object.metadata.labels['a'] == 'b' && object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')", None),
        ("object.spec.template.spec.containers[0].resources.limits['cpu'] == 1", None),
        ("object.spec.nothere > 3", "undefined field 'nothere'"),
        ("object.spec.replicas == 'three'", "found no matching overload for '_==_' applied to '(int, string)'"),
    ],
)
def test_builtin_kinds_have_types(text: str, complaint: str | None) -> None:
    deployment = cel.builtin_type("apps", "v1", "Deployment")
    assert deployment is not None
    env = cel.admission_env(deployment)
    if complaint is None:
        cel.compile(text, env)
    else:
        with pytest.raises(cel.CompileError) as caught:
            cel.compile(text, env)
        assert complaint in str(caught.value)


def test_an_unknown_kind_has_no_type() -> None:
    assert cel.builtin_type("example.com", "v1", "Widget") is None


@pytest.mark.parametrize(
    ("text", "json"),
    [
        ("{'a': [dyn(1), dyn(2u), dyn(1.5), dyn(true), dyn(null)]}", {"a": [1, 2, 1.5, True, None]}),
        ("[dyn(b'hi'), dyn(timestamp('2020-01-01T00:00:00Z')), dyn(duration('1m'))]", ["aGk=", "2020-01-01T00:00:00Z", "60s"]),
        ("Object{a: optional.of(3)}", {"a": 3}),
    ],
)
def test_answers_as_json(text: str, json: Any) -> None:
    assert cel.to_json(cel.compile(text, cel.admission_env(patches=True)).evaluate({})) == json


@pytest.mark.parametrize("text", ["{1: 2}", "type(1)", "ip('::1')"])
def test_what_has_no_json(text: str) -> None:
    with pytest.raises(cel.EvaluationError, match="has no form as JSON"):
        cel.to_json(cel.compile(text, cel.Env({})).evaluate({}))
