"""Endpoints, EndpointSlices and their mirroring. Source: kubernetes.io "EndpointSlices", "Service";
golden nn-endpoints, svc-controllers.
"""

from typing import Any

import pytest

from minik8s.api.resources import ENDPOINTS, PODS, SERVICES
from minik8s.controllers import backends, endpoints, endpointslices, mirroring
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import Object, pod

OFF = pytest.mark.cluster(nodes=0, scheduler=False)


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    full = {"selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]} | spec
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default", "uid": "s"}, "spec": full}


def backend(name: str, ip: str = "", *, ready: bool = True, terminating: bool = False, **spec: Any) -> dict[str, Any]:
    made = pod(name, {"app": "web"}, **spec)
    made["metadata"] |= {"namespace": "default", "uid": f"uid-{name}"}
    if terminating:
        made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return made | {"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}}


@pytest.mark.parametrize(
    ("ready", "terminating", "publish", "shown", "address_list"),
    [
        (True, False, False, (True, True, False), "addresses"),
        (False, False, False, (False, False, False), "notReadyAddresses"),
        (True, True, False, (False, True, True), None),
        (False, True, False, (False, False, True), None),
        (False, False, True, (True, False, False), "addresses"),
        (True, True, True, (True, True, True), "addresses"),
    ],
)
def test_conditions(ready: bool, terminating: bool, publish: bool, shown: tuple[bool, ...], address_list: str | None) -> None:
    """KEP-1672: ready, serving, terminating."""
    svc = service(clusterIP="10.0.0.1", publishNotReadyAddresses=publish)
    one = backend("a", "10.0.0.5", ready=ready, terminating=terminating)
    (found,) = endpointslices.slices(svc, [one], {}, [])
    conditions = found["endpoints"][0]["conditions"]
    assert tuple(conditions[name] for name in ("ready", "serving", "terminating")) == shown
    old = endpoints.endpoints_of(svc, [one], None)
    assert [kind for subset in old.get("subsets", ()) for kind in subset if kind != "ports"] == (
        [address_list] if address_list else []
    )


@pytest.mark.parametrize(
    ("target", "protocol", "number"),
    [
        (None, "TCP", 80),
        (8080, "TCP", 8080),
        ("http", "TCP", 81),
        ("http", "UDP", 82),
        ("side", "TCP", 90),
        ("none", "TCP", None),
    ],
)
def test_target_ports(target: int | str | None, protocol: str, number: int | None) -> None:
    """A name is looked for among the containers and the sidecars, with the protocol."""
    offered = [{"name": "http", "containerPort": 81}, {"name": "http", "containerPort": 82, "protocol": "UDP"}]
    side = {"name": "s", "image": "x", "restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 90}]}
    init = {"name": "i", "image": "x", "ports": [{"name": "none", "containerPort": 1}]}
    made = pod("a", containers=[{"name": "c", "image": "x", "ports": offered}], initContainers=[init, side])
    port = {"port": 80, "protocol": protocol} | ({"targetPort": target} if target else {})
    assert backends.target_port(port, made) == number


def test_pods_of_different_named_ports_are_in_different_slices() -> None:
    svc = service(ports=[{"name": "web", "port": 80, "targetPort": "http", "appProtocol": "h2c"}])
    pods = [
        backend(name, ip, containers=[{"name": "c", "image": "x", "ports": [{"name": "http", "containerPort": number}]}])
        for name, ip, number in (("a", "10.0.0.1", 1), ("b", "10.0.0.2", 2), ("c", "10.0.0.3", 1))
    ]
    found = endpointslices.slices(svc, [*pods, backend("none", "10.0.0.4")], {}, [])
    told = {str(s["ports"]): [e["targetRef"]["name"] for e in s["endpoints"]] for s in found}
    port = "[{'name': 'web', 'port': %d, 'protocol': 'TCP', 'appProtocol': 'h2c'}]"
    assert told == {port % 1: ["a", "c"], port % 2: ["b"], "None": ["none"]}
    subsets = endpoints.endpoints_of(svc, [*pods, backend("none", "10.0.0.4")], None)["subsets"]
    assert [[a["ip"] for a in subset["addresses"]] for subset in subsets] == [["10.0.0.1", "10.0.0.3"], ["10.0.0.2"]]


def named(slices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [s | {"metadata": s["metadata"] | {"name": f"s{number}"}} for number, s in enumerate(slices)]


def test_more_than_a_hundred_endpoints() -> None:
    """Each slice holds 100; who has a place keeps it, and a slice that nothing changed in is not rewritten."""
    svc = service()
    pods = [backend(f"p{n:03}", f"10.0.{n // 250}.{n % 250 + 1}") for n in range(250)]
    first = named(endpointslices.slices(svc, pods, {}, []))
    assert [len(s["endpoints"]) for s in first] == [100, 100, 50]
    assert endpointslices.slices(svc, pods, {}, first) == first
    left = [p for p in pods if p["metadata"]["name"] not in ("p120", "p240")]
    after = endpointslices.slices(svc, [*left, backend("new", "10.9.9.9")], {}, first)
    assert [len(s["endpoints"]) for s in after] == [100, 100, 49]
    assert after[0] == first[0]
    assert "new" in [e["targetRef"]["name"] for e in after[1]["endpoints"]]
    (last,) = endpointslices.slices(svc, [], {}, first)
    assert (last["endpoints"], last["ports"]) == (None, None)


def test_endpoints_over_capacity() -> None:
    """kubernetes.io "Over-capacity endpoints": 1000 addresses, ready ones first, and an annotation."""
    pods = [backend(f"p{n:04}", f"10.1.{n // 250}.{n % 250 + 1}", ready=n >= 500) for n in range(1200)]
    made = endpoints.endpoints_of(service(), pods, None)
    (subset,) = made["subsets"]
    assert (len(subset["addresses"]), len(subset["notReadyAddresses"])) == (700, 300)
    assert made["metadata"]["annotations"] == {endpoints.OVER_CAPACITY: "truncated"}
    assert not endpoints.endpoints_of(service(), pods[:5], made)["metadata"]["annotations"]


def test_two_address_families() -> None:
    one = backend("a", "10.0.0.1")
    one["status"]["podIPs"].append({"ip": "fd00::1"})
    found = endpointslices.slices(service(ipFamilies=["IPv6", "IPv4"]), [one], {}, [])
    assert [(s["addressType"], s["endpoints"][0]["addresses"]) for s in found] == [
        ("IPv6", ["fd00::1"]),
        ("IPv4", ["10.0.0.1"]),
    ]
    (subset,) = endpoints.endpoints_of(service(ipFamilies=["IPv6", "IPv4"]), [one], None)["subsets"]
    assert subset["addresses"][0]["ip"] == "fd00::1"


def test_headless_without_ports() -> None:
    svc = service(clusterIP="None", ports=None)
    one = backend("a", "10.0.0.1", hostname="a", subdomain="web")
    (found,) = endpointslices.slices(svc, [one], {}, [])
    assert found["metadata"]["labels"][backends.HEADLESS] == ""
    assert (found["ports"], found["endpoints"][0]["hostname"]) == (None, "a")
    (subset,) = endpoints.endpoints_of(svc, [one], None)["subsets"]
    assert (list(subset), subset["addresses"][0]["hostname"]) == (["addresses"], "a")


@pytest.mark.cluster(nodes=2)
async def test_a_service_follows_its_pods(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([service() | {"metadata": {"name": "web", "labels": {"svc": "web"}}}])
    await clock.settle()
    (found,) = await cluster.all("endpointslices")
    assert (found["endpoints"], found["ports"], found["addressType"]) == (None, None, "IPv4")
    assert found["metadata"]["labels"] == {
        "svc": "web",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert list(found["metadata"]["annotations"]) == [backends.TRIGGER_TIME]
    old = await cluster.get("ep/web")
    assert old is not None
    assert "subsets" not in old

    await cluster.apply([pod("a", {"app": "web"}), pod("b", {"app": "other"})])
    running = await cluster.wait_for("pod/a", "Ready")
    assert running is not None
    await clock.settle()
    (found,) = await cluster.all("endpointslices")
    assert found["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    assert [e["addresses"] for e in found["endpoints"]] == [[running["status"]["podIP"]]]
    old = await cluster.get("ep/web")
    assert old is not None
    assert old["subsets"] == [
        {
            "addresses": [
                {
                    "ip": running["status"]["podIP"],
                    "nodeName": running["spec"]["nodeName"],
                    "targetRef": {"kind": "Pod", "name": "a", "namespace": "default", "uid": running["metadata"]["uid"]},
                }
            ],
            "ports": [{"port": 8080, "protocol": "TCP"}],
        }
    ]

    await cluster.client.patch(PODS, "b", "default", {"metadata": {"labels": {"app": "web"}}})
    await cluster.client.patch(PODS, "a", "default", {"metadata": {"labels": {"app": None}}})
    await cluster.wait_for("pod/b", "Ready")
    await clock.settle()
    (found,) = await cluster.all("endpointslices")
    assert [e["targetRef"]["name"] for e in found["endpoints"]] == ["b"]

    await cluster.delete("ep/web")
    await clock.settle()
    assert await cluster.get("ep/web") is not None
    await cluster.delete("svc/web")
    await clock.settle()
    assert (await cluster.all("endpointslices"), await cluster.get("ep/web")) == ([], None)


@OFF
async def test_a_changed_slice_comes_back(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(service() | {"metadata": {"name": "web"}})
    await clock.settle()
    (found,) = await cluster.all("endpointslices")
    await cluster.delete(f"endpointslice/{found['metadata']['name']}")
    await clock.settle()
    (again,) = await cluster.all("endpointslices")
    assert again["metadata"]["uid"] != found["metadata"]["uid"]


def custom(**metadata: Any) -> dict[str, Any]:
    subsets = [
        {
            "addresses": [{"ip": "192.0.2.5"}],
            "notReadyAddresses": [{"ip": "192.0.2.6"}],
            "ports": [{"name": "http", "port": 80}],
        }
    ]
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "manual"} | metadata, "subsets": subsets}


@OFF
async def test_custom_endpoints_are_mirrored(cluster: Cluster, clock: VirtualClock) -> None:
    """Golden svc-controllers; the mirror follows its Endpoints and its Service."""
    (made,) = await cluster.apply(custom(labels={"a": "b"}))
    await clock.settle()
    assert await cluster.all("endpointslices") == []
    manual = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "manual"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    }
    await cluster.apply(manual)
    await clock.settle()
    (found,) = await cluster.all("endpointslices")
    assert found["endpoints"] == [
        {"addresses": ["192.0.2.5"], "conditions": {"ready": True}},
        {"addresses": ["192.0.2.6"], "conditions": {"ready": False}},
    ]
    assert found["ports"] == [{"name": "http", "port": 80, "protocol": "TCP"}]
    assert found["metadata"]["labels"] == {
        "a": "b",
        "endpointslice.kubernetes.io/managed-by": mirroring.MANAGER,
        "kubernetes.io/service-name": "manual",
    }
    assert found["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]

    await cluster.client.patch(
        ENDPOINTS,
        "manual",
        "default",
        {"subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"name": "http", "port": 80}]}]},
    )
    await clock.settle()
    (changed,) = await cluster.all("endpointslices")
    assert changed["metadata"]["uid"] == found["metadata"]["uid"]
    assert [e["addresses"] for e in changed["endpoints"]] == [["192.0.2.7"]]

    await cluster.client.patch(SERVICES, "manual", "default", {"spec": {"selector": {"app": "web"}}})
    await clock.settle()
    managers = [s["metadata"]["labels"][endpointslices.MANAGED_BY] for s in await cluster.all("endpointslices")]
    assert managers == [endpointslices.MANAGER]


@pytest.mark.parametrize(
    ("metadata", "spec", "mirrored"),
    [
        ({}, {}, True),
        ({"labels": {mirroring.SKIP: "true"}}, {}, False),
        ({"annotations": {mirroring.LEADER: "x"}}, {}, False),
        ({}, {"selector": {"a": "b"}}, False),
    ],
)
def test_what_is_mirrored(metadata: Object, spec: Object, mirrored: bool) -> None:
    assert mirroring.is_mirrored(custom(**metadata), {"spec": spec}) is mirrored
