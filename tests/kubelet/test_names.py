"""Host names, /etc/hosts and resolv.conf. Answers: golden/node/network."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.kubelet.names import HOSTS, hostname, hosts, parse_resolv_conf, resolver
from minik8s.runtime.base import Dns

from .pods import pod

HOST = Dns(["192.0.2.53"], ["host.example"], ["timeout:1"])
CLUSTER = ["10.96.0.10"]


@pytest.mark.parametrize(
    ("spec", "name", "line"),
    [
        ({}, "a", "a"),
        ({"hostname": "custom"}, "custom", "custom"),
        ({"hostname": "custom", "subdomain": "sub"}, "custom", "custom.sub.ns.svc.cluster.local\tcustom"),
        ({"subdomain": "sub"}, "a", "a.sub.ns.svc.cluster.local\ta"),
        (
            {"hostname": "custom", "subdomain": "sub", "setHostnameAsFQDN": True},
            "custom.sub.ns.svc.cluster.local",
            "custom.sub.ns.svc.cluster.local\tcustom",
        ),
        ({"hostnameOverride": "over.example.com"}, "over.example.com", "over.example.com"),
    ],
)
def test_host_names(spec: dict[str, Any], name: str, line: str) -> None:
    one = pod(**spec)
    assert hostname(one, "cluster.local") == name
    assert hosts(one, ["10.0.0.9"], "cluster.local", "") == HOSTS + f"10.0.0.9\t{line}\n"


def test_long_names() -> None:
    assert hostname(pod(name="p" + "x" * 70), "cluster.local") == "p" + "x" * 62
    with pytest.raises(ValueError, match=r"is too long \(64 characters is the max, \d+ characters requested\)"):
        hostname(pod(hostname="h" * 60, subdomain="sub", setHostnameAsFQDN=True), "cluster.local")


def test_aliases_and_host_network() -> None:
    aliases = [{"ip": "10.1.2.3", "hostnames": ["foo.example", "foo"]}, {"ip": "10.1.2.4", "hostnames": ["bar"]}]
    text = hosts(pod(hostAliases=aliases), ["10.0.0.9"], "cluster.local", "")
    assert text.endswith("10.0.0.9\ta\n\n# Entries added by HostAliases.\n10.1.2.3\tfoo.example\tfoo\n10.1.2.4\tbar\n")
    shared = hosts(pod(hostNetwork=True), ["192.0.2.1"], "cluster.local", "127.0.0.1 localhost\n")
    assert shared == "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"


IN_CLUSTER = Dns(CLUSTER, ("ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "host.example"), ("ndots:5",))


@pytest.mark.parametrize(
    ("spec", "dns"),
    [
        ({}, IN_CLUSTER),
        ({"dnsPolicy": "Default"}, HOST),
        ({"hostNetwork": True}, HOST),
        ({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}, IN_CLUSTER),
        (
            {
                "dnsPolicy": "None",
                "dnsConfig": {"nameservers": ["192.0.2.1"], "searches": ["a.example"], "options": [{"name": "edns0"}]},
            },
            Dns(["192.0.2.1"], ["a.example"], ["edns0"]),
        ),
        (
            {
                "dnsConfig": {
                    "nameservers": ["192.0.2.9"],
                    "searches": ["extra.example"],
                    "options": [{"name": "ndots", "value": "1"}, {"name": "timeout", "value": "3"}],
                }
            },
            Dns([*CLUSTER, "192.0.2.9"], [*IN_CLUSTER.searches, "extra.example"], ["ndots:1", "timeout:3"]),
        ),
    ],
)
def test_resolver(spec: dict[str, Any], dns: Dns) -> None:
    found = resolver(pod(**spec), HOST, CLUSTER, "cluster.local")
    assert [list(found.servers), list(found.searches), list(found.options)] == [
        list(dns.servers),
        list(dns.searches),
        list(dns.options),
    ]


def test_limits() -> None:
    config = {"nameservers": [f"192.0.2.{n}" for n in range(9)], "searches": [f"d{n}.example" for n in range(40)]}
    found = resolver(pod(dnsPolicy="None", dnsConfig=config), HOST, CLUSTER, "cluster.local")
    assert (len(found.servers), len(found.searches)) == (3, 32)


def test_reading_resolv_conf() -> None:
    text = "# made by hand\nnameserver 192.0.2.1\nsearch a.example b.example .\noptions ndots:2 edns0 ; more\n"
    assert parse_resolv_conf(text) == Dns(["192.0.2.1"], ["a.example", "b.example"], ["ndots:2", "edns0"])
