"""What names mean. Source: the Kubernetes DNS specification 1.1.0 (its section in each table), RFC 2308 for negative answers."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.dns import wire
from minik8s.dns.zone import View, answer


def service(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": spec}


def slice_(name: str, of: str, endpoints: list[dict[str, Any]], ports: list[dict[str, Any]], kind: str = "IPv4") -> Any:
    labels = {"kubernetes.io/service-name": of}
    meta = {"namespace": "default", "name": name, "labels": labels}
    return {"metadata": meta, "addressType": kind, "endpoints": endpoints, "ports": ports}


HTTP = {"name": "http", "protocol": "TCP", "port": 80}


@pytest.fixture
def view() -> View:
    view = View()
    dns = {"name": "dns", "protocol": "UDP", "port": 53}
    view.service_changed(None, service("web", clusterIP="10.43.0.9", clusterIPs=["10.43.0.9", "fd01::9"], ports=[HTTP, dns]))
    view.service_changed(None, service("db", clusterIP="None", ports=[HTTP]))
    view.service_changed(None, service("empty", clusterIP="None", ports=[HTTP]))
    view.service_changed(None, service("far", type="ExternalName", externalName="Example.com."))
    named = {"addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": {"ready": True}}
    unnamed = {"addresses": ["10.42.0.6"], "conditions": {}}
    not_ready = {"addresses": ["10.42.0.7"], "conditions": {"ready": False}}
    view.slice_changed(None, slice_("db-1", "db", [named, unnamed, not_ready], [HTTP]))
    view.slice_changed(None, slice_("web-1", "web", [{"addresses": ["10.42.0.8"], "hostname": "w"}], [HTTP]))
    return view


TYPES = {
    "A": wire.A,
    "AAAA": wire.AAAA,
    "SRV": wire.SRV,
    "PTR": wire.PTR,
    "TXT": wire.TXT,
    "CNAME": wire.CNAME,
    "SOA": wire.SOA,
}
DB = "db.default.svc.cluster.local"
WEB = "web.default.svc.cluster.local"


@pytest.mark.parametrize(
    ("question", "data"),
    [
        ("A " + WEB, ["10.43.0.9"]),  # 2.3.1
        ("AAAA " + WEB, ["fd01::9"]),
        ("SRV _http._tcp." + WEB, [(0, 100, 80, WEB)]),  # 2.3.2
        ("SRV _dns._udp." + WEB, [(0, 100, 53, WEB)]),
        ("PTR 9.0.43.10.in-addr.arpa", [WEB]),  # 2.3.3
        ("PTR 9" + ".0" * 27 + ".1.0.d.f.ip6.arpa", [WEB]),
        ("A " + DB, ["10.42.0.5", "10.42.0.6"]),  # 2.4.1: ready endpoints only
        ("A db-0." + DB, ["10.42.0.5"]),
        ("A 10-42-0-6." + DB, ["10.42.0.6"]),
        ("SRV _http._tcp." + DB, [(0, 100, 80, "db-0." + DB), (0, 100, 80, "10-42-0-6." + DB)]),  # 2.4.2
        ("PTR 5.0.42.10.in-addr.arpa", ["db-0." + DB]),  # 2.4.3
        ("A far.default.svc.cluster.local", ["example.com"]),  # 2.5: CNAME
        ("A 10-42-0-99.default.pod.cluster.local", ["10.42.0.99"]),
        ("TXT dns-version.cluster.local", ["1.1.0"]),  # 2.2
    ],
)
def test_answers(view: View, question: str, data: list[Any]) -> None:
    kind, name = question.split()
    found = answer(name, TYPES[kind], view)
    assert found is not None
    assert (found.code, [record.data for record in found.answers]) == (wire.NOERROR, data)
    assert {record.name for record in found.answers} == {name}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("nothere.default.svc.cluster.local", wire.NXDOMAIN),
        ("web.other.svc.cluster.local", wire.NXDOMAIN),
        ("_nope._tcp." + WEB, wire.NXDOMAIN),
        ("db-9." + DB, wire.NXDOMAIN),
        ("w." + WEB, wire.NXDOMAIN),  # a Service with an address has no host names
        ("empty.default.svc.cluster.local", wire.NXDOMAIN),
        ("example.com.default.svc.cluster.local", wire.NXDOMAIN),  # what a search path makes of foreign names
        ("not-an-address.default.pod.cluster.local", wire.NXDOMAIN),
        ("nonsense.cluster.local", wire.NXDOMAIN),
        ("far.far.default.svc.cluster.local", wire.NXDOMAIN),
        (WEB, wire.NOERROR),  # it exists, without this type
        ("_tcp." + WEB, wire.NOERROR),
        ("default.svc.cluster.local", wire.NOERROR),
        ("svc.cluster.local", wire.NOERROR),
        ("cluster.local", wire.NOERROR),
    ],
)
def test_no_such_name_and_no_such_type(view: View, name: str, code: int) -> None:
    """RFC 2308: both carry the zone's SOA, only one says that the name is not there."""
    found = answer(name, wire.PTR, view)
    assert found is not None
    assert (found.code, list(found.answers), [record.type for record in found.authority]) == (code, [], [wire.SOA])


@pytest.mark.parametrize(
    "name", ["example.com", "8.8.8.8.in-addr.arpa", "xcluster.local", "8.0.42.10.in-addr.arpa", "x.ip6.arpa"]
)
def test_what_is_asked_elsewhere(view: View, name: str) -> None:
    assert answer(name, wire.A, view) is None


def test_srv_brings_the_addresses_along(view: View) -> None:
    for name, addresses in (("_http._tcp." + DB, ["10.42.0.5", "10.42.0.6"]), ("_http._tcp." + WEB, ["10.43.0.9", "fd01::9"])):
        found = answer(name, wire.SRV, view)
        assert found
        assert [record.data for record in found.additional] == addresses


def test_the_view_follows_changes_and_forgets(view: View) -> None:
    """Endpoints move between slices; what is deleted leaves nothing behind."""
    for key, slices in list(view.slices.items()):
        for one in list(slices.values()):
            view.slice_changed(one, {**one, "metadata": {**one["metadata"], "name": "moved"}})
            view.slice_changed(one, None)
            assert view.slices[key]["moved"]
            assert all(list(view.of_address(address)) == [key] for end in one["endpoints"] for address in end["addresses"])
            view.slice_changed(view.slices[key]["moved"], None)
    for one in list(view.services.values()):
        view.service_changed(one, one)
        view.service_changed(one, None)
    assert (view.services, view.slices, view._names, view._namespaces) == ({}, {}, {}, {})
