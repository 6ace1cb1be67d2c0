"""Services: types that change, families, what is taken from the pools. Sources: the Service API, KEP-563."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from minik8s.api.kinds import service
from minik8s.api.kinds.service_allocation import Held, Unavailable, allocate, held


class Pool:
    def __init__(self, *families: str) -> None:
        self.families = families or ("IPv4",)
        self.taken: list[str | int] = []

    def take_address(self, family: str, wanted: str) -> str:
        address = wanted or {"IPv4": "10.96.0.7", "IPv6": "fd00::7"}[family]
        if address in self.taken:
            raise Unavailable("provided IP is already allocated")
        self.taken.append(address)
        return address

    def take_port(self, wanted: int) -> int:
        port = wanted or 30000 + sum(isinstance(value, int) for value in self.taken)
        if port in self.taken:
            raise Unavailable("provided port is already allocated")
        self.taken.append(port)
        return port


def created(spec: dict[str, Any], pool: Pool | None = None) -> dict[str, Any]:
    obj = {"metadata": {"name": "s"}, "spec": copy.deepcopy(spec)}
    service.default(obj)
    service.prepare_create(obj)
    assert allocate(obj, None, pool or Pool()) == []
    assert service.validate(obj) == []
    return obj


def updated(old: dict[str, Any], pool: Pool | None = None, **spec: Any) -> dict[str, Any]:
    new = {"metadata": {"name": "s"}, "spec": copy.deepcopy(old["spec"]) | spec}
    service.default(new)
    service.prepare_update(new, old)
    assert allocate(new, old, pool or Pool()) == []
    assert service.validate(new) + service.validate_update(new, old) == []
    return new


PORTS = [{"port": 80}]


def test_a_bare_service_gets_everything() -> None:
    obj = created({"ports": PORTS})
    assert obj["spec"] == {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "ipFamilyPolicy": "SingleStack",
        "ipFamilies": ["IPv4"],
        "clusterIP": "10.96.0.7",
        "clusterIPs": ["10.96.0.7"],
    }
    assert obj["status"] == {"loadBalancer": {}}
    assert held(obj) == Held(frozenset({"10.96.0.7"}), frozenset())


def test_dual_stack_clusters() -> None:
    both = created({"ports": PORTS, "ipFamilyPolicy": "PreferDualStack"}, Pool("IPv6", "IPv4"))
    assert both["spec"]["clusterIPs"] == ["fd00::7", "10.96.0.7"]
    assert both["spec"]["ipFamilies"] == ["IPv6", "IPv4"]
    single = updated(both, Pool("IPv6", "IPv4"), ipFamilyPolicy="SingleStack")
    assert single["spec"]["clusterIPs"] == ["fd00::7"]
    again = updated(single, Pool("IPv6", "IPv4"), ipFamilyPolicy="RequireDualStack")
    assert again["spec"]["clusterIPs"] == ["fd00::7", "10.96.0.7"]


def test_a_headless_service_without_selector_is_dual_stack_everywhere() -> None:
    spec = created({"clusterIP": "None"})["spec"]
    assert (spec["ipFamilyPolicy"], spec["ipFamilies"]) == ("RequireDualStack", ["IPv4", "IPv6"])


def test_node_ports_follow_the_type() -> None:
    node_port = created({"ports": PORTS, "type": "NodePort"})
    assert node_port["spec"]["ports"][0]["nodePort"] == 30000
    assert node_port["spec"]["externalTrafficPolicy"] == "Cluster"
    plain = updated(node_port, type="ClusterIP")
    assert "nodePort" not in plain["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in plain["spec"]
    assert held(plain).ports == frozenset()


def test_a_rewrite_keeps_what_was_allocated() -> None:
    old = created({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "name": "web"}]})
    assert old["spec"]["healthCheckNodePort"] == 30001
    new = {"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}}
    new["spec"]["ports"] = [{"port": 81, "name": "web"}]
    service.default(new)
    service.prepare_update(new, old)
    pool = Pool()
    assert allocate(new, old, pool) == []
    assert pool.taken == []
    assert held(new) == held(old)


def test_two_protocols_share_a_node_port() -> None:
    ports = [{"name": "t", "port": 53, "nodePort": 30053}, {"name": "u", "port": 53, "protocol": "UDP"}]
    spec = created({"type": "NodePort", "ports": ports})["spec"]
    assert [port["nodePort"] for port in spec["ports"]] == [30053, 30053]


def test_an_external_name_gives_everything_back() -> None:
    old = created({"ports": PORTS, "type": "NodePort"})
    new = updated(old, type="ExternalName", externalName="db.example.org")
    assert held(new) == Held(frozenset(), frozenset())
    assert "clusterIP" not in new["spec"]
    assert "ipFamilies" not in new["spec"]
    back = updated(new, type="ClusterIP", externalName="")
    assert back["spec"]["clusterIP"] == "10.96.0.7"


@pytest.mark.parametrize(
    ("spec", "field", "detail"),
    [
        ({"clusterIP": "10.96.0.9"}, "spec.clusterIPs[0]", "may not change once set"),
        ({"clusterIP": "None"}, "spec.clusterIPs[0]", "may not change once set"),
    ],
)
def test_the_first_address_stays(spec: dict[str, Any], field: str, detail: str) -> None:
    old = created({"ports": PORTS})
    new = {"metadata": {"name": "s"}, "spec": copy.deepcopy(old["spec"]) | spec}
    service.prepare_update(new, old)
    assert allocate(new, old, Pool()) == []
    errors = service.validate_update(new, old)
    assert [(error.field, error.message.rpartition(": ")[2]) for error in errors] == [(field, detail)]


def test_what_is_taken_is_refused() -> None:
    pool = Pool()
    created({"ports": PORTS}, pool)
    second = {"metadata": {"name": "s"}, "spec": {"ports": PORTS, "clusterIP": "10.96.0.7"}}
    service.default(second)
    service.prepare_create(second)
    errors = allocate(second, None, pool)
    assert [str(error) for error in errors] == [
        'spec.clusterIPs: Invalid value: ["10.96.0.7"]: failed to allocate IP 10.96.0.7: provided IP is already allocated'
    ]


@pytest.mark.parametrize(
    ("spec", "cells"),
    [
        ({"ports": PORTS, "selector": {"a": "b"}}, ["ClusterIP", "10.96.0.7", "<none>", "80/TCP", "a=b"]),
        ({"ports": PORTS, "type": "NodePort"}, ["NodePort", "10.96.0.7", "<none>", "80:30000/TCP", "<none>"]),
        ({"ports": PORTS, "type": "LoadBalancer"}, ["LoadBalancer", "10.96.0.7", "<pending>", "80:30000/TCP", "<none>"]),
        ({"type": "ExternalName", "externalName": "a.b"}, ["ExternalName", "<none>", "a.b", "<none>", "<none>"]),
        ({"clusterIP": "None"}, ["ClusterIP", "None", "<none>", "<none>", "<none>"]),
        ({"ports": PORTS, "externalIPs": ["192.0.2.1"]}, ["ClusterIP", "10.96.0.7", "192.0.2.1", "80/TCP", "<none>"]),
    ],
)
def test_the_row(spec: dict[str, Any], cells: list[str]) -> None:
    row = service.row(created(spec), 0.0)
    assert [row[1], row[2], row[3], row[4], row[6]] == cells
