"""Which pods a node turns down. Answers: golden nw-unfit-*, ns-sysctl-forbidden, ns-groups-strict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from minik8s.api import quantity
from minik8s.api.resources import NODES
from minik8s.kubelet.admission import Rejection, Room, admit
from minik8s.kubelet.sysctls import pattern
from minik8s.testing.clock import VirtualClock

from .conftest import Stage
from .pods import container, pod


def asking(**requests: str) -> dict[str, Any]:
    return pod(container(resources={"requests": requests}))


ROOM = Room(
    "n1",
    {"zone": "x", "size": "3"},
    {"cpu": quantity.parse("2"), "memory": quantity.parse("1Gi"), "pods": quantity.parse("3")},
    [asking(cpu="150m"), pod()],
    unsafe_sysctls=[pattern(text) for text in ("net.ipv4.route.*", "fs/mqueue/msg_max", "net.ipv4.conf.*")],
)
NO_MATCH = Rejection("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")


NO_APPARMOR = Rejection("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")


def setting(sysctl: str, **spec: Any) -> dict[str, Any]:
    return pod(securityContext={"sysctls": [{"name": sysctl, "value": "1"}]}, **spec)


def noted(apparmor: str) -> dict[str, Any]:
    one = pod()
    one["metadata"]["annotations"] = {"container.apparmor.security.beta.kubernetes.io/c": apparmor}
    return one


def near(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return pod(affinity={"nodeAffinity": required})


def on_port(number: int, **fields: Any) -> dict[str, Any]:
    return pod(container(ports=[{"containerPort": 80, "hostPort": number, **fields}]))


NO_PORT = Rejection("NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports")
TAINTED = Rejection("TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate")


@pytest.mark.parametrize(
    ("one", "rejection"),
    [
        (pod(), TAINTED),
        (pod(tolerations=[{"operator": "Exists", "effect": "NoSchedule"}]), TAINTED),
        (pod(tolerations=[{"operator": "Exists"}]), None),
        (pod(metadata={"annotations": {"kubernetes.io/config.source": "file"}}), None),
    ],
)
def test_taints(one: dict[str, Any], rejection: Rejection | None) -> None:
    """The kubelet's generalFilter."""
    taints = [{"key": "gone", "effect": "NoExecute"}, {"key": "other", "effect": "NoSchedule"}]
    assert admit(one, replace(ROOM, taints=taints)) == rejection


@pytest.mark.parametrize(
    ("one", "rejection"),
    [
        (on_port(81), None),
        (on_port(80), NO_PORT),
        (on_port(80, protocol="UDP"), None),
        (on_port(80, hostIP="127.0.0.2"), None),
        (on_port(80, hostIP="0.0.0.0"), NO_PORT),
    ],
)
def test_host_ports(one: dict[str, Any], rejection: Rejection | None) -> None:
    """The scheduler's NodePorts, which the kubelet asks too."""
    assert admit(one, replace(ROOM, pods=[on_port(80, hostIP="127.0.0.1")])) == rejection


@pytest.mark.parametrize(
    ("one", "rejection"),
    [
        (
            pod(os={"name": "windows"}),
            Rejection("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"),
        ),
        (pod(), None),
        (asking(cpu="1850m", memory="1Gi"), None),
        (
            asking(cpu="900"),
            Rejection("OutOfcpu", "Node didn't have enough resource: cpu, requested: 900000, used: 150, capacity: 2000"),
        ),
        (
            asking(memory="2Gi"),
            Rejection(
                "OutOfmemory",
                "Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824",
            ),
        ),
        (
            asking(**{"example.org/gpu": "1"}),
            Rejection(
                "OutOfexample.org/gpu", "Node didn't have enough resource: example.org/gpu, requested: 1, used: 0, capacity: 0"
            ),
        ),
        (pod(nodeSelector={"zone": "x"}), None),
        (pod(nodeSelector={"zone": "y"}), NO_MATCH),
        (near({"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["2"]}]}), None),
        (near({"matchExpressions": [{"key": "size", "operator": "Lt", "values": ["2"]}]}), NO_MATCH),
        (near({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}), None),
        (near({}), NO_MATCH),
        (pod(securityContext={"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}), None),
        (
            pod(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
            Rejection("SysctlForbidden", 'forbidden sysctl: "kernel.msgmax" not allowlisted'),
        ),
        (setting("net/ipv4/tcp_syncookies"), None),
        (setting("kernel.sem"), Rejection("SysctlForbidden", 'forbidden sysctl: "kernel.sem" not allowlisted')),
        (setting("net.ipv4.route.min_pmtu"), None),
        (setting("net.ipv4.conf.eno2/100.rp_filter"), None),
        (setting("net/ipv4/conf/eno2.100/rp_filter"), None),
        (
            setting("net.ipv4.tcp_syncookies", hostNetwork=True),
            Rejection("SysctlForbidden", 'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled'),
        ),
        (
            setting("kernel.shm_rmid_forced", hostIPC=True),
            Rejection("SysctlForbidden", 'forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host IPC enabled'),
        ),
        (
            setting("fs.mqueue.msg_max", hostIPC=True),
            Rejection("SysctlForbidden", 'forbidden sysctl: "fs.mqueue.msg_max" not allowed with host IPC enabled'),
        ),
        (setting("fs.mqueue.msg_max", hostNetwork=True), None),
        (pod(securityContext={"appArmorProfile": {"type": "Unconfined"}}), None),
        (pod(securityContext={"appArmorProfile": {"type": "RuntimeDefault"}}), NO_APPARMOR),
        (pod(container(securityContext={"appArmorProfile": {"type": "Localhost", "localhostProfile": "x"}})), NO_APPARMOR),
        (noted("unconfined"), None),
        (noted("localhost/x"), NO_APPARMOR),
        (
            pod(securityContext={"supplementalGroupsPolicy": "Strict"}),
            Rejection("SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node"),
        ),
    ],
)
def test_admission(one: dict[str, Any], rejection: Rejection | None) -> None:
    assert admit(one, ROOM) == rejection


def test_a_node_with_apparmor() -> None:
    assert admit(noted("runtime/default"), replace(ROOM, apparmor=True)) is None


@pytest.mark.parametrize("text", ["vm.max_map_count", "kernel.*", "net", "Net.ipv4.x", "net.*.x", "", "kernel.msg.*"])
def test_what_is_no_sysctl_of_a_namespace(text: str) -> None:
    """Only what is a pod's own may be allowed (`allowed-unsafe-sysctls`)."""
    with pytest.raises(ValueError, match=r"no sysctl|not known to be namespaced"):
        pattern(text)


def test_a_full_node() -> None:
    full = Room("n1", {}, {"pods": quantity.parse("2")}, [pod(), pod()])
    assert admit(pod(), full) == Rejection(
        "OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 2, capacity: 2"
    )


async def test_a_rejected_pod_has_failed_without_conditions(stage: Stage, clock: VirtualClock) -> None:
    stage.api.put(NODES, {"metadata": {"name": "n1", "labels": {"zone": "x"}}})
    await stage.start()
    await clock.settle()
    stage.add(pod(nodeSelector={"zone": "y"}))
    await clock.settle()
    status = stage.status()
    assert (status["phase"], status["reason"]) == ("Failed", "NodeAffinity")
    assert status["message"] == "Pod was rejected: " + NO_MATCH.message
    assert "conditions" not in status
    stage.api.delete_pod("ns", "a", 30)
    await clock.settle()
    assert not any(name == "a" for _, _, name in stage.api.objects)
    assert [line for line in stage.trace.lines if "runtime" in line] == []
