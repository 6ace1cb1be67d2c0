"""Plain data to CRI's messages and back, by the meaning of the fields in cri-api's api.proto."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import orjson
import pytest

from minik8s.base.clock import RealClock
from minik8s.runtime.base import (
    MASKED_PATHS,
    READONLY_PATHS,
    ContainerConfig,
    Features,
    Handler,
    IdMap,
    Mount,
    NamespaceMode,
    Namespaces,
    PortMapping,
    SandboxConfig,
    Security,
    State,
    User,
)
from minik8s.runtime.cri import convert
from minik8s.runtime.cri.runtime import CriRuntime
from minik8s.runtime.cri.wire import CRI

SANDBOX: dict[str, Any] = {
    "name": "a", "namespace": "n", "uid": "u", "attempt": 2, "hostname": "h", "log_directory": "/l", "cgroup_parent": "/k",
}  # fmt: skip


def container(**fields: Any) -> Any:
    return convert.container_config(ContainerConfig("c", 0, "sha256:1", "busybox", **fields))


def test_host_ports_are_the_network_s_or_the_runtime_s() -> None:
    config = SandboxConfig(**SANDBOX, port_mappings=[PortMapping("UDP", 53, 5353, "127.0.0.1")])
    [port] = convert.sandbox_config(config, host_ports=True).port_mappings
    assert (port.protocol, port.container_port, port.host_port, port.host_ip) == (1, 53, 5353, "127.0.0.1")
    assert not convert.sandbox_config(config, host_ports=False).port_mappings


def test_the_node_s_network_keeps_the_node_s_hostname() -> None:
    """runc sets no hostname without a UTS namespace."""
    of_node = SandboxConfig(**SANDBOX, namespaces=Namespaces(network=NamespaceMode.NODE))
    assert convert.sandbox_config(of_node, host_ports=True).hostname == ""
    assert convert.sandbox_config(SandboxConfig(**SANDBOX), host_ports=True).hostname == "h"


@pytest.mark.parametrize(
    ("seccomp", "kind", "path"),
    [
        ("", 1, ""),
        ("Unconfined", 1, ""),
        ("RuntimeDefault", 0, ""),
        ("/profiles/a.json", 2, "/profiles/a.json"),
    ],
)
def test_seccomp(seccomp: str, kind: int, path: str) -> None:
    found = container(security=Security(seccomp=seccomp)).linux.security_context.seccomp
    assert (found.profile_type, found.localhost_ref) == (kind, path)


def test_what_a_runtime_is_able_to_do() -> None:
    """containerd 2.0 tells it, 1.6 nothing."""
    assert convert.features(CRI["StatusResponse"]()) == Features(None, [])
    able = CRI["RuntimeHandlerFeatures"](recursive_read_only_mounts=True, user_namespaces=True)
    told = CRI["StatusResponse"](
        runtime_handlers=[CRI["RuntimeHandler"](name="", features=able), CRI["RuntimeHandler"](name="kata")],
        features=CRI["RuntimeFeatures"](supplemental_groups_policy=True),
    )
    assert convert.features(told) == Features(True, [Handler("", True, True), Handler("kata", False, False)])


@pytest.mark.parametrize(("mode", "entered"), [(0o711, True), (0o700, False)])
async def test_where_nobody_else_may_enter_there_are_no_user_namespaces(mode: int, entered: bool) -> None:
    """runc makes a container as the pod's own root, who must get to its file system."""
    able = CRI["RuntimeHandler"](name="", features=CRI["RuntimeHandlerFeatures"](user_namespaces=True))
    with TemporaryDirectory() as directory:
        Path(directory).chmod(mode)
        info = {"config": orjson.dumps({"stateDir": f"{directory}/state/io.containerd.grpc.v1.cri"}).decode()}
        client = SimpleNamespace(call=AsyncMock(return_value=CRI["StatusResponse"](runtime_handlers=[able], info=info)))
        runtime = CriRuntime(cast(Any, client), "containerd", RealClock(), True, None)
        assert (await runtime.features()).handlers == [Handler("", False, entered)]


def test_users_of_a_pod_s_own() -> None:
    """They go with the namespaces, and with each mount (containerd maps what it is told to)."""
    namespaces = Namespaces(users=IdMap(65536, 65536))
    found = container(security=Security(namespaces=namespaces), mounts=[Mount("/a", "/b")])
    users = found.linux.security_context.namespace_options.userns_options
    [mapping] = users.uids
    assert (users.mode, mapping.host_id, mapping.container_id, mapping.length) == (0, 65536, 0, 65536)
    assert list(users.gids) == [mapping]
    assert list(found.mounts[0].uidMappings) == list(found.mounts[0].gidMappings) == [mapping]
    assert not container(mounts=[Mount("/a", "/b")]).mounts[0].uidMappings
    assert not container().linux.security_context.namespace_options.HasField("userns_options")


def test_selinux_and_recursion() -> None:
    found = container(security=Security(selinux={"level": "s0:c1"}), mounts=[Mount("/a", "/b", readonly=True, recursive=True)])
    assert found.linux.security_context.selinux_options.level == "s0:c1"
    assert found.mounts[0].recursive_read_only
    assert not container().linux.security_context.HasField("selinux_options")


def test_who_a_process_is() -> None:
    status = CRI["ContainerStatus"](id="c", metadata=CRI["ContainerMetadata"](name="c"))
    assert convert.container(status, "s").user is None
    status.user.linux.uid, status.user.linux.gid = 1000, 3
    status.user.linux.supplemental_groups.extend([3, 4])
    assert convert.container(status, "s").user == User(1000, 3, [3, 4])


def test_users() -> None:
    """User 0 is not no user."""
    found = container(security=Security(run_as_user=0)).linux.security_context
    assert found.HasField("run_as_user")
    assert not found.HasField("run_as_group")


def test_hidden_paths_are_always_said() -> None:
    """containerd takes none for none (`procMount: Unmasked`), golden/node: ns-masked."""
    usual, unmasked = (
        container(security=security).linux.security_context
        for security in (Security(), Security(masked_paths=(), readonly_paths=()))
    )
    assert set(usual.masked_paths) >= set(MASKED_PATHS)
    assert list(usual.readonly_paths) == list(READONLY_PATHS)
    assert not unmasked.masked_paths
    assert not unmasked.readonly_paths


@pytest.mark.parametrize(
    ("name", "number"), [("", 0), ("SIGABRT", 1), ("SIGTERM", 23), ("SIGUSR1", 29), ("SIGRTMIN", 35), ("SIGRTMIN+15", 50),
                         ("SIGRTMAX-14", 51), ("SIGRTMAX-1", 64), ("SIGRTMAX", 65)],
)  # fmt: skip
def test_stop_signals(name: str, number: int) -> None:
    assert container(stop_signal=name).stop_signal == number


def test_mounts_and_environment() -> None:
    config = container(
        mounts=[Mount("/a", "/h", readonly=True, propagation="rshared"), Mount("/i", "", image="sha256:2")],
        env=[("A", "caf\u00e9"), ("B", b"\xff".decode(errors="surrogateescape"))],
    )
    assert [(m.container_path, m.host_path, m.readonly, m.propagation, m.image.image) for m in config.mounts] == [
        ("/a", "/h", True, 2, ""),
        ("/i", "", False, 0, "sha256:2"),
    ]
    assert [(env.key, env.value) for env in config.envs] == [("A", "caf\u00e9".encode()), ("B", b"\xff")]


def test_statuses() -> None:
    status = CRI["ContainerStatus"](
        id="x",
        metadata=CRI["ContainerMetadata"](name="c", attempt=3),
        state=2,
        created_at=1_500_000_000,
        finished_at=2_000_000_000,
        exit_code=137,
        reason="OOMKilled",
        image=CRI["ImageSpec"](image="busybox"),
        image_ref="sha256:1",
    )
    found = convert.container(status, "s")
    assert (found.state, found.created_at, found.started_at, found.finished_at) == (State.EXITED, 1.5, 0.0, 2.0)
    assert (found.sandbox_id, found.attempt, found.exit_code, found.reason) == ("s", 3, 137, "OOMKilled")
    assert (found.image, found.image_id) == ("busybox", "sha256:1")
    assert convert.state(17) is State.UNKNOWN


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"reason": "StartError", "message": "failed to start shim: context canceled: unknown"}, State.CREATED),
        ({"reason": "StartError", "message": 'exec: "x": executable file not found in $PATH'}, State.EXITED),
        ({"reason": "StartError", "message": "context canceled", "started_at": 1}, State.EXITED),
        ({"reason": "Error", "message": "context canceled"}, State.EXITED),
    ],
)
def test_a_start_that_its_agents_end_broke_off_was_none(fields: dict[str, Any], state: State) -> None:
    metadata = CRI["ContainerMetadata"](name="c")
    status = CRI["ContainerStatus"](id="x", metadata=metadata, state=2, exit_code=128, finished_at=2, **fields)
    assert convert.container(status, "s").state is state


def test_addresses() -> None:
    network = CRI["PodSandboxNetworkStatus"](ip="10.0.0.1", additional_ips=[CRI["PodIP"](ip="fd00::1")])
    assert convert.sandbox(CRI["PodSandboxStatus"](id="s", network=network)).ips == ["10.0.0.1", "fd00::1"]
    assert convert.sandbox(CRI["PodSandboxStatus"](id="s", state=1)) == convert.sandbox(CRI["PodSandbox"](id="s", state=1))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (0, "")),
        ({"username": "www"}, (None, "www")),
        ({"uid": CRI["Int64Value"](value=5)}, (5, "")),
    ],
)
def test_an_image_s_user(fields: Any, expected: Any) -> None:
    """Neither a number nor a name: root, as the kubelet takes it."""
    found = convert.image(CRI["Image"](id="i", **fields), {})
    assert (found.uid, found.username) == expected


def test_what_a_verbose_image_tells() -> None:
    config = {"Volumes": {"/b": {}, "/a": {}}, "StopSignal": "SIGINT"}
    found = convert.image(CRI["Image"](id="i"), {"info": orjson.dumps({"imageSpec": {"config": config}}).decode()})
    assert (found.volumes, found.stop_signal) == (["/a", "/b"], "SIGINT")


@pytest.mark.parametrize(
    ("told", "version"),
    [("v1.7.2", "1.7.2"), ("1.6.20~ds1", "1.6.20"), ("2.0.0-rc.1", "2.0.0-rc.1"), ("1.31.0", "1.31.0"), ("?", "?")],
)
def test_versions(told: str, version: str) -> None:
    """As containerRuntimeVersion has them (k8s.io/apimachinery/pkg/util/version)."""
    assert convert.version(told) == version


def test_what_containerd_tells_of_itself() -> None:
    assert convert.sandbox_image({"config": '{"sandboxImage":"a:1"}'}) == "a:1"
    assert convert.sandbox_image({"config": '{"pinnedImages":{"sandbox":"a:2"}}'}) == "a:2"
    assert convert.sandbox_image({}) == ""
    assert convert.has_terminal({"info": '{"runtimeSpec":{"process":{"terminal":true}}}'})
    assert not convert.has_terminal({})
