"""Pods on two nodes send real packets: addresses, routes, Services (clusterIP, NodePort, hairpin, refusal), DNS, and cleaning up.

Sources: the Kubernetes network model (kubernetes.io "Cluster Networking"), "Virtual IPs and Service Proxies", the conformance cases
"Services should serve a basic endpoint from pods", "should have session affinity work".
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import pytest
from kernel import Node, Pod, World, eventually, ip, said

from minik8s.network.cni import write_conflist

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


def node(name: str, cidr: str, address: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"podCIDR": cidr},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("nodes"))
    try:
        for one in world.nodes:
            one.begin(wait=False)
        for one in world.nodes:
            said(one.program)
        yield world
    finally:
        world.remove()
    assert world.prefix not in ip("netns", "list")


@pytest.fixture
def world(both: World) -> Iterator[World]:
    nodes = node(both.a.name, "10.42.0.0/24", "172.31.0.1"), node(both.b.name, "10.42.1.0/24", "172.31.0.2")
    both.tell("ADDED", "nodes", *nodes)
    for one in both.nodes:
        eventually((one.directory / "pod-cidr").exists, True)
    yield both
    both.clear()
    for one in both.nodes:
        assert list((one.directory / "addresses").iterdir()) == []
        assert "veth" not in one.run("ip", "-br", "link")
        eventually(lambda one=one: one.run("nft", "list", "ruleset").count("dnat to"), 0)


def service(name: str, address: str, **spec: Any) -> dict[str, Any]:
    ports = [
        {"name": "tcp", "protocol": "TCP", "port": 80, "targetPort": 8080},
        {"name": "udp", "protocol": "UDP", "port": 80, "targetPort": 8080},
    ]
    if node_port := spec.pop("nodePort", 0):
        for port in ports:
            port["nodePort"] = node_port
    return {"metadata": {"namespace": "default", "name": name}, "spec": {"clusterIP": address, "ports": ports, **spec}}


def slice_(name: str, *pods: tuple[str, str], ready: bool = True) -> dict[str, Any]:
    """Of (address, node's name)."""
    return {
        "metadata": {"namespace": "default", "name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [
            {"name": "tcp", "protocol": "TCP", "port": 8080},
            {"name": "udp", "protocol": "UDP", "port": 8080},
        ],
        "endpoints": [{"addresses": [address], "nodeName": on, "conditions": {"ready": ready}} for address, on in pods],
    }


def traces(one: Node) -> tuple[str, str, str]:
    """What a node's network leaves in its namespace."""
    return one.run("nft", "list", "tables"), one.run("ip", "-br", "link"), one.run("ip", "route") + one.run("ip", "-br", "addr")


def test_pods_reach_pods_nodes_and_the_world(world: World) -> None:
    one, two = world.pod(world.a, "one", 8080), world.pod(world.a, "two", 8080)
    far = world.pod(world.b, "far", 8080)
    world.outside.echo("world", 80)
    world.a.echo("host", 81)
    assert one.ask(one.address, 8080) == f"one {one.address}"
    assert one.ask(two.address, 8080) == f"two {one.address}"
    eventually(lambda: one.ask(far.address, 8080), f"far {one.address}")  # without translation, over nodes
    assert far.ask(one.address, 8080) == f"one {far.address}"
    assert world.a.ask(one.address, 8080) == "one 10.42.0.1"  # the kubelet's probes
    assert one.ask("172.31.0.1", 81) == f"host {one.address}"
    assert one.ask("192.168.77.2", 80) == "world 192.168.77.1"  # with the node's address
    assert one.run("ip", "-br", "addr", "show", "lo").split()[1] == "UNKNOWN"


def test_services(world: World) -> None:
    one, two, far = world.pod(world.a, "one", 8080), world.pod(world.a, "two"), world.pod(world.b, "far", 8080)
    ends = [(one.address, world.a.name), (far.address, world.b.name)]
    world.tell("ADDED", "services", service("web", "10.43.0.9", type="NodePort", nodePort=30080))
    world.tell("ADDED", "endpointslices", slice_("web", *ends))
    for address, port in (("10.43.0.9", 80), ("172.31.0.2", 30080)):  # both nodes have taken it in
        eventually(lambda to=(address, port): two.ask(*to, 0.3).split()[0] in ("one", "far"), True)
    assert {two.ask("10.43.0.9", 80) for _ in range(30)} == {f"one {two.address}", f"far {two.address}"}
    assert {world.a.ask("10.43.0.9", 80).split()[0] for _ in range(30)} == {
        "one",
        "far",
    }  # from the host, which has no default route
    assert {one.ask("10.43.0.9", 80) for _ in range(30)} == {"one 10.42.0.1", f"far {one.address}"}  # hairpin
    assert two.ask_udp("10.43.0.9", 80).split()[1].decode() == two.address
    assert {world.outside.ask("192.168.77.1", 30080).split()[0] for _ in range(30)} == {"one", "far"}
    assert {two.ask("172.31.0.2", 30080).split()[0] for _ in range(30)} == {"one", "far"}
    assert {world.a.ask("172.31.0.1", 30080).split()[0] for _ in range(30)} == {"one", "far"}
    # Not ready any more: refused at once, from everywhere; ready again: served.
    world.tell("MODIFIED", "endpointslices", slice_("web", *ends, ready=False))
    eventually(lambda: two.ask("10.43.0.9", 80, 0.3), "ConnectionRefusedError")
    assert world.a.ask("10.43.0.9", 80) == "ConnectionRefusedError"
    assert world.outside.ask("192.168.77.1", 30080) == "ConnectionRefusedError"
    world.tell("MODIFIED", "endpointslices", slice_("web", ends[1]))
    eventually(lambda: two.ask("10.43.0.9", 80), f"far {two.address}")
    world.tell("DELETED", "services", service("web", "10.43.0.9"))
    eventually(lambda: world.outside.ask("192.168.77.1", 30080, 0.3) in ("ConnectionRefusedError", "TimeoutError"), True)


def test_a_udp_client_is_led_on_when_its_endpoint_goes(world: World) -> None:
    """The conformance case "should be able to preserve UDP traffic when server pod cycles": one socket, always the same port."""
    one, two = world.pod(world.a, "one", 8080), world.pod(world.a, "two", 8080)
    world.tell("ADDED", "services", service("web", "10.43.0.9"))
    world.tell("ADDED", "endpointslices", slice_("web", (one.address, world.a.name)))
    eventually(lambda: two.ask("10.43.0.9", 80, 0.3), f"one {two.address}")
    with two.socket(socket.SOCK_DGRAM, 0.2) as client:

        def said_by() -> str:
            try:
                client.send(b"?")
                return client.recv(100).decode().split()[0]
            except OSError as error:
                return type(error).__name__

        client.connect(("10.43.0.9", 80))
        assert said_by() == "one"
        world.tell("MODIFIED", "endpointslices", slice_("web", (two.address, world.a.name)))
        eventually(said_by, "two")


def test_traffic_policies_and_affinity(world: World) -> None:
    one, far = world.pod(world.a, "one", 8080), world.pod(world.b, "far", 8080)
    more = world.pod(world.b, "more", 8080)
    ends = [(one.address, world.a.name), (far.address, world.b.name), (more.address, world.b.name)]
    local = service("local", "10.43.0.9", type="NodePort", nodePort=30080, externalTrafficPolicy="Local")
    near = service("near", "10.43.0.8", internalTrafficPolicy="Local")
    same = service("same", "10.43.0.7", sessionAffinity="ClientIP")
    outer = service("outer", "10.43.0.6", externalIPs=["192.168.77.1"])
    world.tell("ADDED", "services", local, near, same, outer)
    world.tell("ADDED", "endpointslices", *(slice_(name, *ends) for name in ("local", "near", "same", "outer")))
    eventually(lambda: world.outside.ask("192.168.77.1", 30080, 0.3), "one 192.168.77.2")  # the client's own address
    assert {world.outside.ask("192.168.77.1", 30080) for _ in range(10)} == {"one 192.168.77.2"}
    assert {one.ask("10.43.0.8", 80) for _ in range(10)} == {"one 10.42.0.1"}
    assert len({one.ask("10.43.0.7", 80) for _ in range(20)}) == 1
    assert {world.outside.ask("192.168.77.1", 80).split()[0] for _ in range(40)} == {"one", "far", "more"}
    world.tell("MODIFIED", "endpointslices", slice_("near", *ends[1:]), slice_("same", ends[0]))
    eventually(lambda: one.ask("10.43.0.8", 80, 0.3), "TimeoutError")
    assert {one.ask("10.43.0.7", 80) for _ in range(5)} == {"one 10.42.0.1"}


def test_host_ports(world: World) -> None:
    """v1.ContainerPort.hostPort."""
    one = world.pod(world.a, "one", 8080)
    pod = {
        "metadata": {"namespace": "default", "name": "one"},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 8080, "hostPort": 8888, "protocol": "TCP"}]}]},
        "status": {"podIP": one.address, "phase": "Running"},
    }
    world.tell("ADDED", "pods", pod)
    eventually(lambda: world.outside.ask("192.168.77.1", 8888, 0.3), "one 192.168.77.2")
    assert one.ask("172.31.0.1", 8888) == "one 10.42.0.1"
    world.tell("DELETED", "pods", pod)
    eventually(lambda: world.outside.ask("192.168.77.1", 8888, 0.3), "ConnectionRefusedError")


def test_a_pod_asks_the_dns_of_its_node(world: World) -> None:
    one = world.pod(world.a, "one")
    world.tell("ADDED", "services", service("web", "10.43.0.9"))

    def look_up(name: str, kind: str = "A") -> list[str]:
        asked = dns.message.make_query(name, kind)
        answer = dns.message.from_wire(one.ask_udp("10.43.0.10", 53, asked.to_wire()))
        assert asked.is_response(answer)
        return [rdata.to_text() for rrset in answer.answer for rdata in rrset] or [dns.rcode.to_text(answer.rcode())]

    eventually(lambda: look_up("web.default.svc.cluster.local"), ["10.43.0.9"])
    assert look_up("_udp._udp.web.default.svc.cluster.local", "SRV") == ["0 100 80 web.default.svc.cluster.local."]
    assert look_up("no.default.svc.cluster.local") == ["NXDOMAIN"]
    assert look_up("example.com") == ["SERVFAIL"]  # nobody to ask
    # Another node's server as upstream: it knows the cluster, too, so ask it by the world's reverse name.
    asked = dns.message.make_query("web.default.svc.cluster.local", "A").to_wire()
    with one.socket() as client:
        client.connect(("10.43.0.10", 53))
        client.sendall(len(asked).to_bytes(2, "big") + asked)
        size = int.from_bytes(client.recv(2), "big")
        assert dns.message.from_wire(client.recv(size)).answer


def test_an_agent_that_starts_again_finds_its_pods_and_cleanup_leaves_nothing(world: World) -> None:
    world.b.end("cleanup")
    fresh = traces(world.b)
    world.b.begin()
    for told in (node(world.b.name, "10.42.1.0/24", "172.31.0.2"), node("c", "10.42.2.0/24", "172.31.0.1")):
        world.b.call(objects=[["ADDED", "nodes", told]])
    eventually((world.b.directory / "pod-cidr").exists, True)
    one, two = world.pod(world.b, "one", 8080), world.pod(world.b, "two")
    eventually(lambda: "10.42.2.0/24 via 172.31.0.1" in world.b.run("ip", "route"), True)
    world.b.end("stop")
    assert two.ask(one.address, 8080) == f"one {two.address}"  # it goes on without an agent
    world.b.begin()
    assert world.b.call(collect=["one"]) == 1  # `two` ended meanwhile
    assert world.b.ask(one.address, 8080) == "one 10.42.1.1"
    assert world.pod(world.b, "three").address not in (one.address, two.address)
    assert world.b.call(attach=["four", "/run/netns/nosuch"])["error"].startswith("[Errno 2] No such file or directory")
    world.b.call(detach="three")
    assert [file.name for file in (world.b.directory / "addresses").iterdir()] == [one.address]
    world.b.end("cleanup")
    assert traces(world.b) == fresh
    world.b.begin()


@pytest.mark.skipif(not Path("/usr/lib/cni/ptp").exists(), reason="the standard CNI plugins are not installed")
def test_the_cni_configuration_gives_the_same_layout(world: World, tmp_path: Path) -> None:
    """What containerd does with it (CNI spec 0.4.0, ADD and DEL), beside a pod of our own."""
    own = world.pod(world.a, "own", 8080)
    other = Pod(f"{world.prefix}-cni")
    world.pods.append((world.a, "cni", other))
    written = json.loads(write_conflist(tmp_path, "10.42.0.128/25", tmp_path / "addresses").read_text())
    plugin = {"cniVersion": written["cniVersion"], "name": written["name"], **written["plugins"][0]}
    variables = {"CNI_CONTAINERID": "cni", "CNI_NETNS": other.path, "CNI_IFNAME": "eth0", "CNI_PATH": "/usr/lib/cni"}

    def run(command: str) -> str:
        told = [f"{name}={value}" for name, value in {**variables, "CNI_COMMAND": command}.items()]
        enter = ["ip", "netns", "exec", world.a.name, "env", *told, "/usr/lib/cni/ptp"]
        return subprocess.run(enter, input=json.dumps(plugin), check=True, capture_output=True, text=True).stdout

    result = json.loads(run("ADD"))
    other.address = result["ips"][0]["address"].partition("/")[0]
    other.echo("cni", 8080)
    assert own.ask(other.address, 8080) == f"cni {own.address}"
    assert other.ask(own.address, 8080) == f"own {other.address}"
    assert world.a.ask(other.address, 8080) == "cni 10.42.0.129"
    world.tell("ADDED", "services", service("web", "10.43.0.9"))
    world.tell("ADDED", "endpointslices", slice_("web", (other.address, world.a.name)))
    eventually(lambda: other.ask("10.43.0.9", 80, 0.3), "cni 10.42.0.129")
    run("DEL")
