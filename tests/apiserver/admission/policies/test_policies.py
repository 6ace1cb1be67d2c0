"""What policies in force do to requests: through the plugins, over a shelf of objects. Words follow upstream's recorded answers.

Sources: "Validating Admission Policy" and "Mutating Admission Policy" of the Kubernetes documentation; conformance's
ValidatingAdmissionPolicy and MutatingAdmissionPolicy.
"""

from __future__ import annotations

import asyncio
import copy
from random import Random
from typing import Any

import pytest

from minik8s.api import resources
from minik8s.api.errors import ApiError
from minik8s.api.kinds.table import rules_of
from minik8s.api.user import AUTHENTICATED, MASTERS, User
from minik8s.apiserver import bootstrap
from minik8s.apiserver.admission import plugins
from minik8s.apiserver.authz import authorizer_for
from minik8s.apiserver.contract import Admission, Operation
from minik8s.base.clock import RealClock
from minik8s.base.metrics import Metrics

ADMIN = User("admin", (MASTERS, AUTHENTICATED))
JANE = User("jane", (AUTHENTICATED,), extra={"authentication.kubernetes.io/node-name": ("n1",)})
GROUP = "admissionregistration.k8s.io/v1"
CONFIGMAPS = {
    "resourceRules": [
        {
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE", "DELETE"],
            "resources": ["configmaps"],
            "scope": "*",
        }
    ]
}


class Door:
    """The plugins before a shelf; policies are put on it, with the defaults of their kinds."""

    def __init__(self, shelf: Any) -> None:
        self.shelf = shelf
        self.metrics = Metrics()
        self.plugins = plugins(shelf, authorizer_for(shelf), RealClock(), Random(1), metrics=self.metrics)
        self.versions = 0

    def put(self, kind: str, name: str, spec: dict[str, Any], **bound: Any) -> None:
        """A policy, or a binding; of a policy, its binding too."""
        self.versions += 1
        obj = {
            "apiVersion": GROUP,
            "kind": kind,
            "metadata": {"name": name, "generation": self.versions},
            "spec": spec,
        }
        resource = resources.of(obj)
        assert resource
        rules = rules_of(resource)
        rules.default(obj)
        assert rules.validate(obj) + rules.validate_create(obj) == []
        self.shelf.put(obj)
        if not kind.endswith("Binding"):
            actions = {} if kind.startswith("Mutating") else {"validationActions": ["Deny"]}
            self.put(f"{kind}Binding", name, {"policyName": name, **actions, **bound})

    def validating(self, name: str = "p", bound: dict[str, Any] | None = None, **spec: Any) -> None:
        self.put("ValidatingAdmissionPolicy", name, {"matchConstraints": copy.deepcopy(CONFIGMAPS), **spec}, **(bound or {}))

    def mutating(self, name: str = "p", bound: dict[str, Any] | None = None, **spec: Any) -> None:
        constraints = copy.deepcopy(CONFIGMAPS)
        constraints["resourceRules"][0]["operations"] = ["CREATE", "UPDATE"]
        wanted = {"matchConstraints": constraints, "reinvocationPolicy": "Never", **spec}
        self.put("MutatingAdmissionPolicy", name, wanted, **(bound or {}))

    async def __call__(self, obj: dict[str, Any] | None, old: dict[str, Any] | None = None, user: User = ADMIN) -> Admission:
        shown = obj or old
        assert shown
        resource = resources.of(shown)
        assert resource
        operation = Operation.DELETE if obj is None else Operation.UPDATE if old else Operation.CREATE
        metadata = shown["metadata"]
        request = Admission(
            user, operation, resource, "", metadata.get("namespace", ""), metadata["name"], copy.deepcopy(obj), old
        )
        for again in (False, True):
            request.again = again
            for plugin in self.plugins:
                if plugin.handles(request):
                    await plugin.admit(request)
            if not request.reinvoke:
                break
        for plugin in self.plugins:
            if plugin.handles(request):
                await plugin.validate(request)
        return request

    async def refusal(self, *args: Any, **more: Any) -> ApiError:
        with pytest.raises(ApiError) as error:
            await self(*args, **more)
        return error.value


@pytest.fixture
def door(shelf: Any) -> Door:
    labels = {"kubernetes.io/metadata.name": "ns"}
    shelf.put(*bootstrap.objects(), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns", "labels": labels}})
    return Door(shelf)


def config_map(name: str = "a", data: dict[str, str] | None = None, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ns"} | ({"labels": labels} if labels else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata} | ({"data": data} if data else {})


def apply(expression: str) -> dict[str, Any]:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def json_patch(expression: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


# --- validating --------------------------------------------------------------------------------------------------------


async def test_a_failed_validation_refuses_in_upstreams_words(door: Door) -> None:
    door.validating(
        validations=[{"expression": "object.data.k != 'bad'", "message": "k must not be bad", "reason": "Forbidden"}]
    )
    await door(config_map(data={"k": "good"}))
    error = await door.refusal(config_map(data={"k": "bad"}))
    text = "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: k must not be bad"
    assert error.to_status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f'configmaps "a" is forbidden: {text}',
        "reason": "Forbidden",
        "details": {"name": "a", "kind": "configmaps", "causes": [{"message": text}]},
        "code": 403,
    }


async def test_without_a_message_the_expression_is_the_message(door: Door) -> None:
    door.validating(validations=[{"expression": "object.data.k != 'bad'"}])
    error = await door.refusal(config_map(data={"k": "bad"}))
    assert error.message.endswith("denied request: failed expression: object.data.k != 'bad'")
    assert (error.status_code, error.status_reason) == (422, "Invalid")


async def test_a_message_expression_wins_unless_it_fails(door: Door) -> None:
    rule = {"expression": "false", "message": "the fallback"}
    door.validating(validations=[rule | {"messageExpression": "'got ' + object.data.k"}])
    assert (await door.refusal(config_map(data={"k": "v"}))).message.endswith("denied request: got v")
    assert (await door.refusal(config_map())).message.endswith("denied request: the fallback")


async def test_variables_are_composed(door: Door) -> None:
    """Conformance: should allow expressions to refer variables."""
    door.validating(
        variables=[
            {"name": "k", "expression": "has(object.data) ? object.data.k : 'none'"},
            {"name": "double", "expression": "variables.k + variables.k"},
        ],
        validations=[{"expression": "variables.double != 'xx'", "messageExpression": "'doubled to ' + variables.double"}],
    )
    await door(config_map())
    assert (await door.refusal(config_map(data={"k": "x"}))).message.endswith("denied request: doubled to xx")


async def test_an_error_refuses_by_the_failure_policy(door: Door) -> None:
    door.validating(validations=[{"expression": "object.data.none == 'x'", "message": "not shown"}])
    error = await door.refusal(config_map(data={"a": "b"}))
    assert error.message.endswith("expression 'object.data.none == 'x'' resulted in error: no such key: none")
    door.validating(validations=[{"expression": "object.data.none == 'x'"}], failurePolicy="Ignore")
    await door(config_map(data={"a": "b"}))


async def test_match_conditions_come_first(door: Door) -> None:
    conditions = [{"name": "named-f", "expression": "object.metadata.name.startsWith('f') || object.data.none == 'x'"}]
    door.validating(matchConditions=conditions, validations=[{"expression": "false"}])
    await door(config_map("other", {"none": "y"}))
    assert "failed expression: false" in (await door.refusal(config_map("f"))).message
    assert "no such key: data" in (await door.refusal(config_map("other"))).message
    assert "no such key: metadata" in (await door.refusal(None, config_map("f"))).message  # a DELETE has no object


async def test_request_namespace_and_authorizer_are_there(door: Door) -> None:
    shown = "[request.operation, request.name, request.kind.kind, request.userInfo.username, namespaceObject.metadata.name]"
    door.validating(validations=[{"expression": "false", "messageExpression": f"{shown}.join(' ')"}])
    assert (await door.refusal(config_map())).message.endswith("denied request: CREATE a ConfigMap admin ns")
    door.validating(
        validations=[
            {
                "expression": "authorizer.group('').resource('secrets').namespace('ns').check('get').allowed()",
                "message": "secrets",
            },
            {"expression": "!authorizer.requestResource.check('create').allowed()", "message": "may create"},
        ]
    )
    assert (await door.refusal(config_map())).message.endswith("may create")
    assert (await door.refusal(config_map(), user=JANE)).message.endswith("secrets")


async def test_the_extra_of_a_user_is_optional(door: Door) -> None:
    """As the per-node policy of upstream's e2e tests reads it."""
    node = "request.userInfo.extra[?'authentication.kubernetes.io/node-name'][0].orValue('')"
    name = "(request.operation == 'DELETE' ? oldObject : object).?metadata.name.orValue('')"
    variables = [{"name": "node", "expression": node}, {"name": "name", "expression": name}]
    door.validating(variables=variables, validations=[{"expression": "variables.node == variables.name"}])
    await door(config_map("n1"), user=JANE)
    await door(None, config_map("n1"), user=JANE)
    await door.refusal(config_map("n2"), user=JANE)


async def test_warnings_and_audit_annotations(door: Door) -> None:
    bound = {"validationActions": ["Warn", "Audit"]}
    annotations = [{"key": "seen", "valueExpression": "'k=' + object.data.k"}]
    door.validating(bound=bound, validations=[{"expression": "false", "message": "no"}], auditAnnotations=annotations)
    request = await door(config_map(data={"k": "v"}))
    assert request.warnings == ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p': no"]
    assert request.annotations == {
        "p/seen": "k=v",
        "validation.policy.admission.k8s.io/validation_failure": (
            '[{"message":"no","policy":"p","binding":"p","expressionIndex":0,"validationActions":["Warn","Audit"]}]'
        ),
    }


async def test_failures_and_mutations_are_counted(door: Door) -> None:
    """Under upstream's names: apiserver_validating_admission_policy_check_total."""
    door.validating(
        bound={"validationActions": ["Warn", "Audit"]}, validations=[{"expression": "false"}, {"expression": "true"}]
    )
    door.validating("q", validations=[{"expression": "object.data.none == 'x'"}], failurePolicy="Ignore")
    door.mutating("m", mutations=[apply("Object{data: {'a': 'b'}}")])
    await door(config_map())
    text = door.metrics.text()
    for labels in (
        'validating_admission_policy_check_total{policy="p",policy_binding="p",error_type="invalid_error",enforcement_action="warn"} 1',
        'validating_admission_policy_check_total{policy="p",policy_binding="p",error_type="invalid_error",enforcement_action="audit"} 1',
        'validating_admission_policy_check_total{policy="q",policy_binding="q",error_type="invalid_error",enforcement_action="allow"} 1',
        'mutating_admission_policy_check_total{policy="m",policy_binding="m",error_type="no_error"} 1',
    ):
        assert f"apiserver_{labels}" in text


async def test_what_costs_too_much_is_refused(door: Door) -> None:
    many = "[1,2,3,4,5,6,7,8,9,10]"
    nested = many
    for letter in "abcdef":
        nested = f"{many}.map({letter}, {nested})"
    door.validating(validations=[{"expression": f"{nested}.size() > 0"}])
    assert "cost" in (await door.refusal(config_map())).message


async def test_what_takes_long_is_done_beside_the_loop(door: Door) -> None:
    """A quick look first; then a thread, which asks of rights in the loop."""
    many = "[" + ",".join(map(str, range(200))) + "]"
    may = "authorizer.group('').resource('secrets').check('get').allowed()"
    variables = [{"name": "slow", "expression": f"{many}.all(x, {many}.all(y, x + y >= 0))"}]
    door.validating(variables=variables, validations=[{"expression": f"variables.slow && {may}", "message": "no"}])
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await door(config_map())
    assert (await door.refusal(config_map(), user=JANE)).message.endswith("denied request: no")
    counting.cancel()
    assert turns > 10


async def test_policies_change_at_once(door: Door) -> None:
    await door(config_map())
    door.validating(validations=[{"expression": "false"}])
    await door.refusal(config_map())
    door.validating(validations=[{"expression": "true"}])
    await door(config_map())
    door.validating(validations=[{"expression": "false"}])
    door.shelf.drop(resources.VALIDATINGADMISSIONPOLICYBINDINGS, "", "p")
    await door(config_map())


# --- parameters --------------------------------------------------------------------------------------------------------


def account(name: str, most: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ns", "annotations": {"max": most}, "labels": labels}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


LIMIT = {
    "paramKind": {"apiVersion": "v1", "kind": "ServiceAccount"},
    "validations": [
        {
            "expression": "size(object.metadata.name) <= int(params.metadata.annotations.max)",
            "messageExpression": "'longer than ' + params.metadata.annotations.max + ' of ' + params.metadata.name",
        }
    ],
}


async def test_parameters_by_name_and_by_selector(door: Door) -> None:
    door.shelf.put(account("one", "3", param="yes"), account("two", "2", param="yes"))
    door.validating(bound={"paramRef": {"name": "one", "parameterNotFoundAction": "Deny"}}, **LIMIT)
    await door(config_map("abc"))
    assert (await door.refusal(config_map("abcd"))).message.endswith("longer than 3 of one")
    selected = {"selector": {"matchLabels": {"param": "yes"}}, "parameterNotFoundAction": "Deny"}
    door.validating(bound={"paramRef": selected}, **LIMIT)
    assert (await door.refusal(config_map("abc"))).message.endswith("longer than 2 of two")


async def test_missing_parameters(door: Door) -> None:
    door.validating(bound={"paramRef": {"name": "none", "namespace": "ns", "parameterNotFoundAction": "Allow"}}, **LIMIT)
    await door(config_map("abcdef"))
    door.validating(bound={"paramRef": {"name": "none", "namespace": "ns", "parameterNotFoundAction": "Deny"}}, **LIMIT)
    assert (await door.refusal(config_map())).message.endswith(
        "with binding 'p' denied request: failed to configure binding: no params found for policy binding with `Deny` "
        "parameterNotFoundAction"
    )


async def test_parameters_of_a_kind_that_is_not_served(door: Door) -> None:
    kind = {"apiVersion": "example.com/v1", "kind": "Absent"}
    door.validating(paramKind=kind, validations=[{"expression": "params == null"}])
    assert (await door.refusal(config_map())).message.endswith(
        "ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find resource referenced by "
        "paramKind: 'example.com/v1, Kind=Absent'"
    )


async def test_who_may_not_read_parameters_may_not_write_their_policy(door: Door) -> None:
    policy = {
        "apiVersion": GROUP,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"},
        "spec": {"paramKind": {"apiVersion": "v1", "kind": "Secret"}},
    }
    error = await door.refusal(policy, user=JANE)
    assert error.status_code == 422
    assert 'spec.paramKind: Forbidden: user jane must have "get" permission on all objects' in error.message
    await door(policy)


# --- mutating ----------------------------------------------------------------------------------------------------------


async def test_an_apply_configuration(door: Door) -> None:
    """Conformance: should mutate a Deployment with annotations."""
    door.mutating(
        variables=[{"name": "who", "expression": "request.userInfo.username"}],
        mutations=[apply("Object{metadata: Object.metadata{labels: {'by': variables.who}}, data: {'added': 'yes'}}")],
    )
    request = await door(config_map(data={"k": "v"}, own="x"))
    assert request.object is not None
    assert request.object["metadata"]["labels"] == {"own": "x", "by": "admin"}
    assert request.object["data"] == {"k": "v", "added": "yes"}


async def test_json_patches_see_what_those_before_them_did(door: Door) -> None:
    door.mutating(
        mutations=[
            json_patch("[JSONPatch{op: 'add', path: '/data', value: {'n': string(size(object.metadata.name))}}]"),
            json_patch("[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('a/b'), value: object.data.n + '!'}]"),
            json_patch("[JSONPatch{op: 'test', path: '/data/n', value: 'no'}, JSONPatch{op: 'remove', path: '/data'}]"),
        ]
    )
    request = await door(config_map("abc"))
    assert request.object is not None
    assert request.object["data"] == {"n": "3", "a/b": "3!"}


async def test_a_failed_mutation_refuses_by_the_failure_policy(door: Door) -> None:
    door.mutating(mutations=[apply("Object{data: {'x': object.data.none}}")])
    error = await door.refusal(config_map(data={"a": "b"}))
    assert error.message == (
        "policy 'p' with binding 'p' denied request: expression 'Object{data: {'x': object.data.none}}' resulted in error: "
        "no such key: none"
    )
    assert (error.status_code, error.status_reason) == (403, "Invalid")
    door.mutating(mutations=[apply("Object{data: {'x': object.data.none}}")], failurePolicy="Ignore")
    await door(config_map(data={"a": "b"}))


async def test_objects_have_the_types_of_their_places(door: Door) -> None:
    door.mutating(mutations=[apply("Object{metadata: Object.wrong{labels: {}}}")])
    error = await door.refusal(config_map())
    assert error.message.endswith(
        'type mismatch: unexpected type name "Object.wrong", expected "Object.metadata", which matches field name path from root '
        "Object type"
    )


async def test_policies_are_asked_again_if_needed(door: Door) -> None:
    """reinvocationPolicy: `first` sees what `second` did in the second round alone."""
    seen = "Object{data: {'seen': has(object.data) && 'late' in object.data ? 'yes' : 'no'}}"
    door.mutating("first", mutations=[apply(seen)], reinvocationPolicy="IfNeeded")
    door.mutating("second", mutations=[apply("Object{data: {'late': 'x'}}")])
    request = await door(config_map())
    assert request.object is not None
    assert request.object["data"] == {"seen": "yes", "late": "x"}
    door.mutating("first", mutations=[apply(seen)], reinvocationPolicy="Never")
    request = await door(config_map())
    assert request.object is not None
    assert request.object["data"] == {"seen": "no", "late": "x"}


async def test_match_conditions_and_parameters_of_mutating_policies(door: Door) -> None:
    door.shelf.put(account("one", "3"))
    door.mutating(
        bound={"paramRef": {"name": "one", "parameterNotFoundAction": "Deny"}},
        paramKind={"apiVersion": "v1", "kind": "ServiceAccount"},
        matchConditions=[{"name": "wanted", "expression": "object.metadata.name != 'spared'"}],
        mutations=[apply("Object{data: {'max': params.metadata.annotations.max}}")],
    )
    request = await door(config_map())
    assert request.object is not None
    assert request.object["data"] == {"max": "3"}
    request = await door(config_map("spared"))
    assert request.object is not None
    assert "data" not in request.object
