"""What a container's security context becomes for the runtime: v1.SecurityContext, v1.PodSecurityContext."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minik8s.kubelet import profiles
from minik8s.kubelet.configs import Ingredients, container_config, sandbox_config, with_recursion
from minik8s.kubelet.env import ConfigError
from minik8s.kubelet.layout import Layout
from minik8s.kubelet.node import features_status
from minik8s.kubelet.pod import Role
from minik8s.kubelet.site import Site
from minik8s.kubelet.userns import LAST, Ranges
from minik8s.runtime.base import Dns, Features, Handler, IdMap, Image, Mount, Sandbox, Security

from .conftest import Stage
from .pods import container, pod

IMAGE = Image("sha256:1", [], [], 1, uid=0)
SITE = Site("n1", Layout(Path("/data"), Path("/logs"), Path("/data/storage")))


def security(own: dict[str, Any], of_pod: dict[str, Any] | None = None, image: Image = IMAGE, **notes: str) -> Security:
    one = pod(container(securityContext=own), securityContext=of_pod or {})
    one["metadata"]["annotations"] = {key.replace("__", "/").replace("_", "."): value for key, value in notes.items()}
    return container_config(one, Role.REGULAR, one["spec"]["containers"][0], 0, Ingredients(image, {}, []), SITE).security


@pytest.mark.parametrize(
    ("own", "of_pod", "field", "expected"),
    [
        ({}, {}, "run_as_user", 0),
        ({"runAsUser": 1}, {"runAsUser": 2}, "run_as_user", 1),
        ({}, {"runAsUser": 2, "runAsGroup": 3}, "run_as_group", 3),
        ({}, {"fsGroup": 7, "supplementalGroups": [8, 9]}, "supplemental_groups", [7, 8, 9]),
        ({}, {"supplementalGroupsPolicy": "Strict"}, "supplemental_groups_policy", "Strict"),
        ({"allowPrivilegeEscalation": False}, {}, "no_new_privs", True),
        ({"allowPrivilegeEscalation": True}, {}, "no_new_privs", False),
        ({"procMount": "Unmasked"}, {}, "masked_paths", ()),
        ({"procMount": "Default"}, {}, "masked_paths", None),
        ({}, {}, "seccomp", "Unconfined"),
        ({}, {"seccompProfile": {"type": "RuntimeDefault"}}, "seccomp", "RuntimeDefault"),
        ({"seccompProfile": {"type": "Unconfined"}}, {"seccompProfile": {"type": "RuntimeDefault"}}, "seccomp", "Unconfined"),
        (
            {"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}},
            {},
            "seccomp",
            "/data/seccomp/a/b.json",
        ),
        ({"privileged": True}, {"seccompProfile": {"type": "RuntimeDefault"}}, "seccomp", "Unconfined"),
        ({}, {"appArmorProfile": {"type": "RuntimeDefault"}}, "apparmor", "RuntimeDefault"),
        ({"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}}, {}, "apparmor", "localhost/p"),
        ({"seLinuxOptions": {"level": "s0:c1"}}, {"seLinuxOptions": {"user": "u"}}, "selinux", {"level": "s0:c1"}),
    ],
)
def test_one_field(own: dict[str, Any], of_pod: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(security(own, of_pod), field) == expected


def test_apparmor_s_annotation_of_old() -> None:
    """KEP-24: it goes between the container's field and the pod's."""
    note = {"container_apparmor_security_beta_kubernetes_io__c": "localhost/old"}
    assert security({}, {"appArmorProfile": {"type": "Unconfined"}}, **note).apparmor == "localhost/old"
    assert security({"appArmorProfile": {"type": "Unconfined"}}, **note).apparmor == "Unconfined"


@pytest.mark.parametrize(
    ("user", "image", "message"),
    [
        (0, IMAGE, "container's runAsUser breaks non-root policy"),
        (None, IMAGE, "container has runAsNonRoot and image will run as root"),
        (None, replace(IMAGE, uid=None, username="app"), r"image has non-numeric user \(app\), cannot verify user is non-root"),
        (None, replace(IMAGE, uid=1 << 31), r"invalid user id \(2147483648\)"),
        (5, replace(IMAGE, uid=None, username="app"), ""),
        (None, replace(IMAGE, uid=7), ""),
    ],
)
def test_run_as_non_root(user: int | None, image: Image, message: str) -> None:
    """golden ne-nonroot*, kuberuntime's messages."""
    own = {"runAsNonRoot": True} | ({} if user is None else {"runAsUser": user})
    if not message:
        security(own, image=image)
        return
    with pytest.raises(ConfigError, match=message):
        security(own, image=image)


def test_a_profile_without_a_name() -> None:
    with pytest.raises(ConfigError, match="localhostProfile must be set"):
        security({"seccompProfile": {"type": "Localhost"}})


def test_seccomp_by_default() -> None:
    """KEP-2413; Unconfined is still to be had by name."""
    site, one = replace(SITE, seccomp_default=True), pod()
    assert profiles.seccomp(one, one["spec"]["containers"][0], site) == "RuntimeDefault"
    one = pod(securityContext={"seccompProfile": {"type": "Unconfined"}})
    assert profiles.seccomp(one, one["spec"]["containers"][0], site) == "Unconfined"


def test_sysctls_are_named_with_dots() -> None:
    one = pod(securityContext={"sysctls": [{"name": "net/ipv4/conf/eno2.100/rp_filter", "value": "1"}]})
    assert sandbox_config(one, 0, SITE, Dns()).sysctls == {"net.ipv4.conf.eno2/100.rp_filter": "1"}


# --- users of a pod's own ----------------------------------------------------------------------------------------------


def box(name: str, annotations: dict[str, str]) -> Sandbox:
    return Sandbox(name, name, "ns", f"uid-{name}", 0, True, 0.0, annotations=annotations)


def test_ranges() -> None:
    """KEP-127: 65,536 ids each, none the host's own, nobody's twice; what sandboxes have is theirs after a restart."""
    ranges = Ranges()
    ranges.take_over([box("a", {"minik8s.local/users": str(2 << 16)}), box("b", {})])
    assert [ranges.get(one).first >> 16 for one in ("uid-a", "uid-b", "uid-c", "uid-b")] == [2, 1, 3, 1]
    ranges.release("uid-b")
    assert ranges.get("uid-d") == IdMap(1 << 16, 1 << 16)
    ranges.take_over(box(f"more-{number}", {"minik8s.local/users": str(number << 16)}) for number in range(1, LAST + 1))
    with pytest.raises(ValueError, match="could not find an empty slot"):
        ranges.get("uid-e")


async def test_a_runtime_without_user_namespaces_refuses(stage: Stage) -> None:
    stage.add(pod(hostUsers=False))
    await stage.start()
    await stage.clock.sleep(1)
    [event] = [e for e in stage.trace.lines if "FailedCreatePodSandBox" in e][:1]
    assert "Failed to create pod sandbox: can't set `spec.hostUsers: false`, runtime does not support user namespaces" in event


async def test_device_claims_are_refused(stage: Stage) -> None:
    """Nobody allocates them: a pod that ran would run without its devices."""
    stage.add(pod(resourceClaims=[{"name": "gpu", "resourceClaimName": "x"}]))
    await stage.start()
    await stage.clock.sleep(1)
    assert any("FailedPrepareDynamicResources" in line and "not supported by this node" in line for line in stage.trace.lines)
    assert not stage.runtime.boxes


async def test_sandbox_and_containers_get_the_same_users(stage: Stage) -> None:
    stage.runtime.told_features = Features(True, [Handler(user_namespaces=True)])
    stage.add(pod(hostUsers=False))
    stage.add(pod(name="b"))
    await stage.start()
    await stage.clock.sleep(1)
    users = {config.name: config.namespaces.users for config in stage.runtime.sandbox_configs.values()}
    assert users == {"a": IdMap(1 << 16), "b": None}
    assert {config.security.namespaces.users for config in stage.runtime.configs.values()} == {IdMap(1 << 16), None}


# --- what the runtime is able to do ------------------------------------------------------------------------------------


def test_features_of_the_node() -> None:
    """v1.NodeStatus: of a runtime that tells nothing (containerd 1.6) nothing is told."""
    assert features_status(Features()) == {}
    assert features_status(Features(True, [Handler("", True, False)])) == {
        "features": {"supplementalGroupsPolicy": True},
        "runtimeHandlers": [{"name": "", "features": {"recursiveReadOnlyMounts": True, "userNamespaces": False}}],
    }


@pytest.mark.parametrize(
    ("mode", "possible", "recursive"), [("IfPossible", False, False), ("IfPossible", True, True), ("Enabled", True, True)]
)
def test_recursive_read_only(mode: str, possible: bool, recursive: bool) -> None:
    """KEP-3857."""
    one = container(volumeMounts=[{"name": "v", "mountPath": "v", "readOnly": True, "recursiveReadOnly": mode}])
    mounts = [Mount("/v", "/x", readonly=True), Mount("/etc/hosts", "/y")]
    assert [mount.recursive for mount in with_recursion(one, mounts, possible=possible)] == [recursive, False]
    if mode == "Enabled":
        with pytest.raises(ConfigError, match="recursive read-only mode, but it is not supported by the runtime"):
            with_recursion(one, mounts, possible=False)
