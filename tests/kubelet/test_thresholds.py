"""Eviction thresholds and the kubelet's flags. Source: kubernetes.io "Node-pressure Eviction", "Reserve Compute Resources"."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api import quantity
from minik8s.kubelet import settings
from minik8s.kubelet.thresholds import DEFAULT_HARD, Amount, Threshold, parse

MIB = 1 << 20


def test_defaults() -> None:
    found = {t.signal: t.value for t in parse(DEFAULT_HARD)}
    assert found["memory.available"] == Amount(100 * MIB)
    assert {found[f"{fs}.{what}"].of(1000) for fs in ("nodefs", "imagefs") for what in ("available", "inodesFree")} == {50}
    assert "pid.available" not in found
    own = settings.Settings().thresholds
    assert Threshold("allocatableMemory.available", Amount(100 * MIB)) in own
    assert settings.parse([]) == settings.Settings()


def test_soft_ones_have_a_period_and_both_may_want_more_back() -> None:
    found = parse("memory.available<100Mi", "memory.available<300Mi", "memory.available=1m30s", "memory.available=10%")
    tenth = parse("nodefs.available<10%")[0].value
    assert found == (
        Threshold("memory.available", Amount(100 * MIB), 0.0, tenth),
        Threshold("memory.available", Amount(300 * MIB), 90.0, tenth),
    )


def test_none() -> None:
    assert parse("") == ()
    assert parse("nodefs.available<0%,imagefs.available<100%") == ()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("memory.free<1Gi",), "unsupported eviction signal memory.free"),
        (("memory.available=1Gi",), "'memory.available=1Gi' is not of the form NAME<VALUE"),
        (("memory.available<101%",), "must be between 0% and 100%"),
        (("memory.available<0",), "must be positive"),
        (("memory.available<-1Gi",), "must be positive"),
        (("", "memory.available<1Gi"), "grace period must be specified for the soft eviction threshold memory.available"),
        (("", "memory.available<1Gi", "memory.available=soon"), "not a duration: 'soon'"),
    ],
)
def test_what_cannot_be_meant(given: tuple[str, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse(*given)


def amounts(**found: str) -> dict[str, Any]:
    return {name.replace("_", "-"): quantity.parse(text) for name, text in found.items()}


CAPACITY = amounts(cpu="4", memory="8Gi", ephemeral_storage="100Gi", pods="110")


def shown(found: Any) -> dict[str, str]:
    return {name: str(amount) for name, amount in found.items()}


def test_what_is_reserved_is_promised_to_no_pod() -> None:
    found = settings.parse(["system-reserved=cpu=500m,memory=1Gi", "--kube-reserved=memory=512Mi,ephemeral-storage=10Gi"])
    together = {"cpu": "3500m", "memory": "6656Mi", "ephemeral-storage": "90Gi", "pods": "110"}
    assert shown(found.enforced(CAPACITY)) == together
    promised = found.allocatable(CAPACITY)
    assert shown(promised) == together | {"memory": "6556Mi", "ephemeral-storage": str(promised["ephemeral-storage"])}
    assert promised["ephemeral-storage"].value == (90 << 30) - int((100 << 30) * 0.05000000074505806)


def test_more_reserved_than_there_is() -> None:
    assert settings.parse(["system-reserved=memory=9Gi"]).allocatable(CAPACITY)["memory"] == 0


def test_flags() -> None:
    found = settings.parse(
        [
            "max-pods=250",
            "pod-max-pids=1000",
            "eviction-hard=memory.available<1Gi",
            "eviction-pressure-transition-period=30s",
            "image-gc-high-threshold=90",
            "container-log-max-files=3",
            "pod-manifest-path=/etc/kubernetes/manifests",
            "enforce-node-allocatable=none",
            "allowed-unsafe-sysctls=kernel.msg*,net/ipv4/tcp_mem",
            "seccomp-default",
            "max-pods=251",
        ]
    )
    assert (found.max_pods, found.pod_max_pids, found.pressure_transition, found.enforce) == (251, 1000, 30, False)
    assert found.thresholds == (Threshold("memory.available", Amount(1 << 30)),)
    assert (found.image_gc_high, found.image_gc_low, found.log_max_files) == (90, None, 3)
    assert str(found.manifests) == "/etc/kubernetes/manifests"
    assert (found.unsafe_sysctls, found.seccomp_default) == (("kernel.msg*", "net.ipv4.tcp_mem"), True)
    assert settings.parse(["pod-max-pids=-1"]).pod_max_pids == 0


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("evict-hard=x", "the kubelet knows no 'evict-hard' here .it knows allowed-unsafe-sysctls, container-"),
        ("max-pods=many", "max-pods: 'many' is no whole number"),
        ("allowed-unsafe-sysctls=vm.swappiness", "the sysctls 'vm.swappiness' are not known to be namespaced"),
        ("seccomp-default=yes", "'yes' is neither true nor false"),
        ("max-pods=0", "max-pods: '0': 1 at least"),
        ("image-gc-low-threshold=101", "'101' is no percentage"),
        ("container-log-max-files=1", "2 at least"),
        ("container-log-max-size=0", "is no size"),
        ("system-reserved=gpu=1", "system-reserved: cannot reserve 'gpu' resource"),
        ("kube-reserved=cpu=-1", "cannot be negative"),
        ("enforce-node-allocatable=system-reserved", "only pods and none are known here"),
        ("eviction-pressure-transition-period=x", "not a duration"),
    ],
)
def test_wrong_flags(argument: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings.parse([argument])
