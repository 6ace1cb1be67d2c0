"""A whole API server with its policies: in force as soon as they are written, also for custom resources and with them as parameters.

Sources: conformance's MutatingAdmissionPolicy and ValidatingAdmissionPolicy; e2e "should type check a CRD".
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from minik8s.api import resources
from minik8s.api.call import Call
from minik8s.api.errors import ApiError
from minik8s.api.resources import CONFIGMAPS, DEPLOYMENTS, VALIDATINGADMISSIONPOLICIES, Resource
from minik8s.api.user import AUTHENTICATED, MASTERS, User
from minik8s.base.clock import RealClock
from minik8s.base.pki import new_key
from minik8s.base.tasks import Owner
from minik8s.controllers import admissionpolicies
from minik8s.controlplane import ControlPlane, Settings
from minik8s.store.memory import MemoryStore

ADMIN = User("admin", (MASTERS, AUTHENTICATED))
API = "admissionregistration.k8s.io/v1"
GROUP = "example.com"


@dataclass
class Server:
    plane: ControlPlane

    async def do(
        self, verb: str, resource: Resource, name: str = "", body: Any = None, subresource: str = "", user: User = ADMIN
    ) -> Any:
        namespace = "ns" if resource.namespaced else ""
        media = "application/merge-patch+json" if verb == "patch" else "application/json"
        return await self.plane.desk.handle(user, Call(verb, resource, namespace, name, subresource, {}, body, media))

    async def create(self, obj: dict[str, Any]) -> Any:
        resource = resources.of(obj)
        assert resource
        return await self.do("create", resource, body=obj)

    async def policy(self, name: str, on: str, *, mutating: bool = False, bound: Any = None, **spec: Any) -> None:
        """A policy on `group/version/resource`, and its binding."""
        group, version, resource = on.split("/", 2)
        rule = {"apiGroups": [group], "apiVersions": [version], "operations": ["CREATE", "UPDATE"], "resources": [resource]}
        kind, more = ("Mutating", {"reinvocationPolicy": "Never"}) if mutating else ("Validating", {})
        constraints = {"resourceRules": [rule]}
        whole = {"matchConstraints": constraints, **more, **spec}
        await self.create({"apiVersion": API, "kind": f"{kind}AdmissionPolicy", "metadata": {"name": name}, "spec": whole})
        binding = {"policyName": name, **({} if mutating else {"validationActions": ["Deny"]}), **(bound or {})}
        await self.create(
            {"apiVersion": API, "kind": f"{kind}AdmissionPolicyBinding", "metadata": {"name": name}, "spec": binding}
        )

    async def serve_limits(self) -> tuple[Resource, Resource]:
        """The rows of both versions of a custom resource."""
        fields = {"max": {"type": "integer", "default": 3}, "note": {"type": "string"}}
        schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
        versions = [
            {"name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}}
            for name in ("v1", "v2")
        ]
        names = {"plural": "limits", "singular": "limit", "kind": "Limit", "listKind": "LimitList"}
        spec = {"group": GROUP, "scope": "Namespaced", "names": names, "versions": versions}
        metadata = {"name": f"limits.{GROUP}"}
        await self.create(
            {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata, "spec": spec}
        )
        table = self.plane.desk.catalogue
        while (GROUP, "v2", "limits") not in table.by_path:
            await asyncio.sleep(0.01)
        return table.by_path[GROUP, "v1", "limits"], table.by_path[GROUP, "v2", "limits"]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    settings = Settings(
        service_networks=[ipaddress.ip_network("10.96.0.0/24")],
        service_account_key=new_key(),
    )
    plane, owner = ControlPlane(MemoryStore(), RealClock(), Random(1), settings), Owner("test")
    async with AsyncExitStack() as stack:
        await plane.start_api(owner)
        stack.push_async_callback(owner.stop)
        stack.push_async_callback(plane.caller.close)
        await plane.start_controllers(stack, {admissionpolicies.NAME: admissionpolicies.start})
        server = Server(plane)
        await server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
        yield server


def config_map(name: str = "a", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def limit(version: str = "v1", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/{version}", "kind": "Limit", "metadata": {"name": "lim"}, "spec": spec}


def deployment(replicas: int) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "c:1"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


def apply(expression: str) -> list[dict[str, Any]]:
    return [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]


async def refusal(work: Any) -> str:
    with pytest.raises(ApiError) as refused:
        await work
    return refused.value.message


async def test_policies_are_in_force_as_soon_as_they_are_written(server: Server) -> None:
    await server.policy("p", "/v1/configmaps", validations=[{"expression": "object.data.k != 'bad'"}])
    assert "failed expression" in await refusal(server.create(config_map(k="bad")))
    await server.create(config_map(k="good"))
    assert "failed expression" in await refusal(server.do("patch", CONFIGMAPS, "a", {"data": {"k": "bad"}}))
    await server.do("delete", VALIDATINGADMISSIONPOLICIES, "p")
    await server.do("patch", CONFIGMAPS, "a", {"data": {"k": "bad"}})


async def test_a_deployment_is_mutated_and_nobody_owns_what_was_set(server: Server) -> None:
    """Conformance: should mutate a Deployment."""
    await server.policy("p", "apps/v1/deployments", mutating=True, mutations=apply("Object{spec: Object.spec{replicas: 1337}}"))
    made = await server.create(deployment(1))
    assert made["spec"]["replicas"] == 1337
    changed = await server.do("patch", DEPLOYMENTS, "d", {"spec": {"replicas": 2}})
    assert changed["spec"]["replicas"] == 1337


async def test_custom_resources_are_parameters_in_the_version_of_the_policy(server: Server) -> None:
    v1, _ = await server.serve_limits()
    rule = {
        "expression": "object.spec.replicas <= params.spec.max",
        "messageExpression": "'at most ' + string(params.spec.max) + ', says ' + params.apiVersion",
    }
    bound = {"paramRef": {"name": "lim", "parameterNotFoundAction": "Deny"}}
    kind = {"apiVersion": f"{GROUP}/v2", "kind": "Limit"}
    await server.policy("p", "apps/v1/deployments", bound=bound, paramKind=kind, validations=[rule])
    assert "no params found" in await refusal(server.create(deployment(4)))
    await server.do("create", v1, body=limit())
    assert f"at most 3, says {GROUP}/v2" in await refusal(server.create(deployment(4)))
    await server.create(deployment(3))


async def test_custom_resources_are_mutated_in_the_version_that_is_matched(server: Server) -> None:
    v1, _ = await server.serve_limits()
    note = "object.apiVersion + ' ' + request.requestKind.version"
    change = f"Object{{spec: Object.spec{{note: {note}, max: object.spec.max + 1}}}}"
    await server.policy("p", f"{GROUP}/v2/limits", mutating=True, mutations=apply(change))
    made = await server.do("create", v1, body=limit())
    assert (made["apiVersion"], made["spec"]) == (f"{GROUP}/v1", {"note": f"{GROUP}/v2 v1", "max": 4})
    await server.policy("q", f"{GROUP}/v1/limits", mutating=True, mutations=apply("Object{spec: Object.spec{mux: 1}}"))
    assert "field not declared in schema" in await refusal(server.do("patch", v1, "lim", {"spec": {"max": 9}}))


async def test_policies_are_type_checked(server: Server) -> None:
    await server.serve_limits()
    checks = [{"expression": "object.spec.max > 1"}, {"expression": "object.spec.mux > 1"}]
    await server.policy("p", f"{GROUP}/v1/limits", validations=checks)
    while "observedGeneration" not in (policy := await server.do("get", VALIDATINGADMISSIONPOLICIES, "p"))["status"]:
        await asyncio.sleep(0.01)
    (warning,) = policy["status"]["typeChecking"]["expressionWarnings"]
    assert warning["fieldRef"] == "spec.validations[1].expression"
    assert warning["warning"].startswith(f"{GROUP}/v1, Kind=Limit: ERROR: <input>:1:12: undefined field 'mux'")
