"""Another API server behind this one: a real one, over TLS, reached as a Service through its node's tunnel.

Rules: the Kubernetes documentation, "Kubernetes API Aggregation Layer" and "Configure the Aggregation Layer"; upstream's reasons, golden
cases policies-apiservice; upstream's conformance test "Should be able to support the 1.17 Sample API Server using the current Aggregator".
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import aiohttp
import pytest

from minik8s.api.call import Call
from minik8s.api.errors import ApiError, Forbidden, MethodNotAllowed, NotFound
from minik8s.api.resources import APISERVICES, CUSTOMRESOURCEDEFINITIONS, ENDPOINTSLICES, SERVICES, Resource
from minik8s.api.user import AUTHENTICATED, User, service_account
from minik8s.apiserver.aggregation.content import RemoteContent
from minik8s.apiserver.authn import ADMIN
from minik8s.apiserver.discovery import AGGREGATED
from minik8s.apiserver.provision import provision_defaults
from tests.apiserver.aggregation.backend import BASE, GROUP, VERSION
from tests.apiserver.aggregation.conftest import NAME, World

FLUNDERS = f"{BASE}/namespaces/a/flunders"
UNAVAILABLE = (503, "service unavailable\n")

# --- requests -----------------------------------------------------------------------------------------------------------


async def test_all_verbs_go_through(world: World) -> None:
    await world.serve()
    flunder = {"metadata": {"name": "x"}}
    assert await world.ask(FLUNDERS, "POST", json=flunder) == (201, json.dumps(flunder))
    assert await world.json(f"{FLUNDERS}/x") == flunder
    changed = {"metadata": {"name": "x"}, "spec": 1}
    headers = {"Content-Type": "application/merge-patch+json"}
    assert (await world.ask(f"{FLUNDERS}/x?fieldManager=me", "PATCH", json=changed, headers=headers))[0] == 200
    assert world.backend.asked[-1][1] == f"{FLUNDERS}/x?fieldManager=me"
    assert world.backend.asked[-1][2]["Content-Type"] == "application/merge-patch+json"
    assert (await world.json(FLUNDERS))["items"] == [changed]
    assert await world.ask(f"{FLUNDERS}/x", "DELETE") == (200, json.dumps(changed))
    assert (await world.ask(f"{FLUNDERS}/missing"))[0] == 404
    assert (await world.json(BASE))["groupVersion"] == f"{GROUP}/{VERSION}"


async def test_a_part_of_this_process_reads_there_too(world: World) -> None:
    """As the autoscaler does with custom metrics: under its own name, authorized here, and errors are the family's."""
    await world.serve()
    row = Resource(GROUP, VERSION, "flunders", "Flunder")
    part = service_account("kube-system", "horizontal-pod-autoscaler")
    world.backend.flunders = {"x": {"metadata": {"name": "x"}}}
    handle = world.plane.desk.handle
    with pytest.raises(Forbidden, match='cannot list resource "flunders"'):
        await handle(part, Call("list", row, "a"))
    query = {"labelSelector": "a in (b, c)"}
    assert (await handle(ADMIN, Call("list", row, "a", query=query)))["items"] == [{"metadata": {"name": "x"}}]
    assert world.backend.asked[-1][1] == f"{FLUNDERS}?labelSelector=a+in+%28b%2C+c%29"
    assert world.backend.asked[-1][2]["X-Remote-User"] == ADMIN.name
    with pytest.raises(NotFound, match="could not find the requested resource"):
        await handle(ADMIN, Call("get", row, "a", "missing"))
    with pytest.raises(MethodNotAllowed):
        await handle(ADMIN, Call("delete", row, "a", "x"))
    world.backend.mood = "broken"
    with pytest.raises(ApiError, match="out of order"):
        await handle(ADMIN, Call("get", row, "a", "x"))


async def test_a_watch_streams(world: World) -> None:
    await world.serve()
    world.backend.mood = "patient"
    async with world.session.get(f"http://minik8s{FLUNDERS}?watch=true") as answer:
        names = [json.loads(await answer.content.readline())["object"]["metadata"]["name"] for _ in range(2)]
    assert names == ["first", "second"]


async def test_an_upgrade_joins_both_sides(world: World) -> None:
    await world.serve()
    async with world.session.ws_connect(f"http://minik8s{FLUNDERS}/x/exec", protocols=["v5.channel.k8s.io"]) as socket:
        assert socket.protocol == "v5.channel.k8s.io"
        await socket.send_bytes(b"hello")
        assert (await socket.receive(timeout=5)).data == b"HELLO"


async def test_the_body_of_a_get_stays_here(world: World) -> None:
    """As in the other proxies; nor is one announced, for which the other server would wait."""
    await world.serve()
    assert (await world.ask(FLUNDERS, data=b"{}", timeout=aiohttp.ClientTimeout(total=5)))[0] == 200
    assert "Content-Length" not in world.backend.asked[-1][2]


async def test_nobody_is_sent_elsewhere(world: World) -> None:
    """CVE-2022-3172."""
    await world.serve()
    world.backend.mood = "elsewhere"
    told = await world.ask(FLUNDERS, allow_redirects=False)
    assert told == (502, "the backend attempted to redirect this request, which is not permitted")


async def test_the_other_server_is_told_who_asks(world: World) -> None:
    await world.serve()
    world.user = User("jané", ("system:masters", "b,c"), "u-1", {"Scopes.Example.com/A%": ("1", "2")})
    spoofed = {"X-Remote-User": "admin", "X-Remote-Extra-Evil": "1", "Authorization": "Bearer secret", "Accept": "a/b"}
    assert (await world.ask(FLUNDERS, headers=spoofed))[0] == 200
    headers = world.backend.asked[-1][2]
    assert [headers.getall(f"X-Remote-{name}") for name in ("User", "Uid", "Group")] == [
        ["jané"],
        ["u-1"],
        ["system:masters", "b,c"],
    ]
    assert headers.getall("X-Remote-Extra-scopes.example.com%2Fa%25") == ["1", "2"]
    assert "X-Remote-Extra-Evil" not in headers
    assert "Authorization" not in headers
    assert (headers["Accept"], headers["Host"]) == ("a/b", "api.default.svc")


async def test_this_server_authorizes_too(world: World) -> None:
    await world.serve()
    asked = len(world.backend.asked)
    world.user = User("nobody", (AUTHENTICATED,))
    code, text = await world.ask(f"{FLUNDERS}?watch=1")
    assert (code, json.loads(text)["message"]) == (
        403,
        f'flunders.{GROUP} is forbidden: User "nobody" cannot watch resource "flunders" in API group "{GROUP}" in the namespace "a"',
    )
    assert len(world.backend.asked) == asked
    assert (await world.ask(BASE))[0] == 403
    await provision_defaults(world.plane.desk, [ipaddress.ip_network("10.96.0.0/24")])
    assert (await world.ask(BASE))[0] == 200  # discovery, which everybody may read


async def test_impersonation_is_granted_here(world: World) -> None:
    await world.serve()
    headers = {"Impersonate-User": "jane", "Impersonate-Group": "system:masters"}
    assert (await world.ask(FLUNDERS, headers=headers))[0] == 200
    seen = world.backend.asked[-1][2]
    assert seen["X-Remote-User"] == "jane"
    assert "Impersonate-User" not in seen


# --- availability -------------------------------------------------------------------------------------------------------


async def test_each_thing_that_lacks_has_its_reason(world: World) -> None:
    await world.register()
    assert await world.says("ServiceNotFound") == 'service/api in "default" is not present'
    assert await world.ask(BASE) == UNAVAILABLE
    metadata = {"name": "api", "namespace": "default"}
    await world.make(SERVICES, {"metadata": metadata, "spec": {"ports": [{"port": 80}]}})
    assert await world.says("ServicePortError") == 'service/api in "default" is not listening on port 443'
    ports = {"spec": {"ports": [{"port": 443, "targetPort": 8443}]}}
    await world.plane.desk.handle(
        ADMIN, Call("patch", SERVICES, "default", "api", body=ports, content_type="application/merge-patch+json")
    )
    assert await world.says("EndpointsNotFound") == 'cannot find endpointslices for service/api in "default"'
    unready = world.slice()
    unready["endpoints"][0]["conditions"] = {"ready": False}
    await world.make(ENDPOINTSLICES, unready)
    told = await world.says("MissingEndpoints")
    assert told == 'endpointslices for service/api in "default" have no addresses with port name ""'
    patch = {"endpoints": world.slice()["endpoints"]}
    await world.plane.desk.handle(
        ADMIN, Call("patch", ENDPOINTSLICES, "default", "api-1", body=patch, content_type="application/merge-patch+json")
    )
    assert await world.says("Passed") == "all checks passed"
    await world.until(lambda: world.plane.desk.catalogue.remote[GROUP, VERSION].available)
    assert (await world.ask(BASE))[0] == 200


async def test_a_server_that_is_down_and_comes_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minik8s.apiserver.aggregation.aggregation.RECHECK", 0.1)
    await world.serve()
    port = world.backend.port
    await world.backend.stop()
    told = await world.says("FailedDiscoveryCheck")
    assert told.startswith("failing or missing response from https://10.96.0.")
    assert "connection refused" in told.lower()
    await world.until(lambda: not world.plane.desk.catalogue.remote[GROUP, VERSION].available)
    assert await world.ask(FLUNDERS) == UNAVAILABLE
    lines = world.plane.metrics.text().splitlines()
    assert f'aggregator_unavailable_apiservice{{name="{NAME}"}} 1' in lines
    assert f'aggregator_unavailable_apiservice_total{{name="{NAME}",reason="FailedDiscoveryCheck"}} 1' in lines
    await world.backend.start(port)
    await world.says("Passed")
    assert f'aggregator_unavailable_apiservice{{name="{NAME}"}} 0' in world.plane.metrics.text().splitlines()


async def test_it_dies_between_two_checks(world: World) -> None:
    await world.serve()
    await world.backend.stop()
    code, text = await world.ask(FLUNDERS)
    assert code == 503
    assert text.startswith("error trying to reach service: ")
    assert text.endswith("connection refused\n")


@pytest.mark.parametrize(
    ("mood", "words"), [("broken", "bad status from https://10.96.0."), ("slow", "context deadline exceeded")]
)
async def test_it_answers_badly(world: World, monkeypatch: pytest.MonkeyPatch, mood: str, words: str) -> None:
    monkeypatch.setattr("minik8s.apiserver.aggregation.aggregation.PATIENCE", 0.2)
    world.backend.mood = mood
    await world.offer()
    await world.register()
    assert words in await world.says("FailedDiscoveryCheck")


async def test_its_certificate_is_of_another_authority(world: World) -> None:
    await world.offer()
    await world.register(caBundle=world.wrong_ca)
    assert "x509: certificate signed by unknown authority" in await world.says("FailedDiscoveryCheck")
    patch = {"spec": {"caBundle": None, "insecureSkipTLSVerify": True}}
    await world.plane.desk.handle(
        ADMIN, Call("patch", APISERVICES, name=NAME, body=patch, content_type="application/merge-patch+json")
    )
    await world.says("Passed")


async def test_without_the_front_proxys_certificate_nobody_is_believed(world: World) -> None:
    await world.offer()
    world.plane.aggregation._identity = ""
    await world.register()
    assert (await world.says("FailedDiscoveryCheck")).endswith(f"{BASE}: 401")


async def test_it_goes_away(world: World) -> None:
    await world.serve()
    await world.plane.desk.handle(ADMIN, Call("delete", APISERVICES, name=NAME))
    await world.until(lambda: not world.plane.desk.catalogue.remote)
    assert await world.ask(BASE) == (404, "404 page not found\n")


async def test_it_becomes_local(world: World) -> None:
    await world.register()
    await world.says("ServiceNotFound")
    patch = {"spec": {"service": None, "caBundle": None}}
    await world.plane.desk.handle(
        ADMIN, Call("patch", APISERVICES, name=NAME, body=patch, content_type="application/merge-patch+json")
    )
    assert await world.says("Local") == "Local APIServices are always available"
    assert not world.plane.desk.catalogue.remote


async def test_custom_resources_are_registered(world: World) -> None:
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    schema = {"openAPIV3Schema": {"type": "object"}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    spec = {"group": "example.com", "scope": "Cluster", "names": names, "versions": [version]}
    name, reader = "v1.example.com", world.plane.desk.reader
    await world.make(CUSTOMRESOURCEDEFINITIONS, {"metadata": {"name": "things.example.com"}, "spec": spec})
    await world.until(lambda: reader.get(APISERVICES, "", name) is not None)
    made = reader.get(APISERVICES, "", name)
    assert made is not None
    assert made["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "true"}
    assert made["status"]["conditions"][0]["reason"] == "Local"
    await world.plane.desk.handle(ADMIN, Call("delete", CUSTOMRESOURCEDEFINITIONS, name="things.example.com"))
    await world.until(lambda: reader.get(APISERVICES, "", name) is None)


# --- discovery and OpenAPI ----------------------------------------------------------------------------------------------


async def test_it_is_discovered(world: World) -> None:
    await world.serve()
    group = {
        "name": GROUP,
        "versions": [{"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}],
        "preferredVersion": {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION},
    }
    assert await world.json(f"/apis/{GROUP}") == {"kind": "APIGroup", "apiVersion": "v1", **group}
    groups = (await world.json("/apis"))["groups"]
    assert groups[0]["name"] == "apiregistration.k8s.io"
    assert groups[-1] == group  # of the least priority
    items = (await world.json("/apis", headers={"Accept": AGGREGATED}))["items"]
    assert items[-1] == {
        "metadata": {"name": GROUP},
        "versions": [{"version": VERSION, "freshness": "Current", "resources": AGGREGATED_RESOURCES}],
    }


AGGREGATED_RESOURCES: list[Any] = [
    {
        "resource": "flunders",
        "responseKind": {"group": "", "version": "", "kind": "Flunder"},
        "scope": "Namespaced",
        "singularResource": "flunder",
        "shortNames": ["fl"],
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "subresources": [
            {
                "subresource": "status",
                "responseKind": {"group": "", "version": "", "kind": "Flunder"},
                "verbs": ["get", "update"],
            }
        ],
    },
    {
        "resource": "fischers",
        "responseKind": {"group": "", "version": "", "kind": "Fischer"},
        "scope": "Cluster",
        "singularResource": "fischer",
        "verbs": ["get", "list"],
    },
]


async def test_what_it_was_is_shown_as_stale(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minik8s.apiserver.aggregation.aggregation.RECHECK", 0.1)
    await world.serve()
    world.backend.mood = "broken"
    await world.says("FailedDiscoveryCheck")
    await world.until(lambda: not world.plane.desk.catalogue.remote[GROUP, VERSION].found.fresh)
    items = (await world.json("/apis", headers={"Accept": AGGREGATED}))["items"]
    assert items[-1]["versions"] == [{"version": VERSION, "freshness": "Stale", "resources": AGGREGATED_RESOURCES}]
    assert (await world.json(f"/apis/{GROUP}"))["name"] == GROUP


async def test_openapi_is_merged(world: World) -> None:
    await world.serve()
    paths = (await world.json("/openapi/v3"))["paths"]
    assert paths[BASE[1:]] == {"serverRelativeURL": f"/openapi/v3{BASE}?hash=F00"}
    assert "apis/apps/v1" in paths
    assert await world.json(f"/openapi/v3{BASE}?hash=F00") == {"openapi": "3.0.0"}
    document = await world.json("/openapi/v2")
    assert f"{BASE}/namespaces/{{namespace}}/flunders" in document["paths"]
    assert "/apis/other.example.com/v1/" not in document["paths"]
    assert {"Flunder", "Spec"} <= document["definitions"].keys()
    assert "Unused" not in document["definitions"]


# --- a slow client, a slow server ----------------------------------------------------------------------------------------


async def test_a_client_that_leaves_ends_the_request_there(world: World) -> None:
    await world.serve()
    world.backend.mood = "slow"
    with pytest.raises(TimeoutError):
        await world.ask(FLUNDERS, timeout=aiohttp.ClientTimeout(total=0.1))
    world.backend.mood = ""
    assert (await world.ask(FLUNDERS))[0] == 200


async def test_what_it_keeps_in_a_namespace_goes_with_it(world: World) -> None:
    """The namespace controller deletes through discovery, as itself ("Namespaces"); what can't be asked is told."""
    await world.serve()
    user = service_account("kube-system", "namespace-controller")
    content = RemoteContent(world.plane.desk.catalogue, world.plane.caller, user)
    kept = {"metadata": {"name": "kept", "finalizers": ["example.com/wait"]}}
    world.backend.flunders = {"gone": {"metadata": {"name": "gone"}}, "kept": kept}
    assert content.failing() == []
    assert await content.empty("a") == ({f"flunders.{GROUP}": [kept]}, [])
    assert ("DELETE", f"/apis/{GROUP}/{VERSION}/namespaces/a/flunders") in [(m, path) for m, path, _ in world.backend.asked]
    assert world.backend.asked[-1][2]["X-Remote-User"] == user.name
    assert await content.empty("b") == ({}, [])
    world.backend.mood = "broken"
    assert "flunders" in (await content.empty("a"))[1][0]
    await world.backend.stop()
    await world.plane.desk.handle(ADMIN, Call("delete", ENDPOINTSLICES, "default", "api-1"))
    await world.until(lambda: content.failing() == [f"{GROUP}/{VERSION}"])
