"""The embedded runtime on the real kernel. What a container sees was recorded from containerd 1.6 (golden/node: security, logs, phases);
the message forms are runc's."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest
from runtime_bench import IMAGE, PATIENCE, Bench, busybox_layer, directory, docker_archive, link, log_text, tar

from minik8s.runtime.base import (
    ContainerConfig,
    Dns,
    Mount,
    NamespaceMode,
    Namespaces,
    NotThere,
    Resources,
    RuntimeFailed,
    Security,
    State,
)
from minik8s.runtime.embedded import linux

pytestmark = pytest.mark.root

CAPS = 'grep -E "^(CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp|Groups):" /proc/self/status'


async def test_a_container_runs_writes_its_log_and_ends(bench: Bench) -> None:
    ended = await bench.run("echo out; echo err >&2; printf part; exit 3")
    assert (ended.state, ended.exit_code, ended.reason, ended.message) == (State.EXITED, 3, "Error", "")
    assert ended.created_at < ended.started_at < ended.finished_at
    lines = [line.split(" ", 1) for line in Path(ended.log_path).read_text().splitlines()]
    assert sorted(text for _, text in lines) == ["stderr F err", "stdout F out", "stdout P part"]
    assert all(len(stamp) == 30 and stamp.endswith("Z") for stamp, _ in lines)


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        ("exit 0", 0, "Completed"),
        ("exit 7", 7, "Error"),
        ("kill -9 $$; sleep 0.05", 0, "Completed"),
        (["sleep", "nonsense"], 1, "Error"),
    ],
)
async def test_exit_codes(bench: Bench, script: str, code: int, reason: str) -> None:
    """pid 1 can't kill itself: the signal has no effect, as in any pid namespace (pid_namespaces(7))."""
    ended = await bench.run(script)
    assert (ended.exit_code, ended.reason) == (code, reason)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
        (["/no/such"], 'exec: "/no/such": stat /no/such: no such file or directory'),
        (["/tmp"], 'exec: "/tmp": permission denied'),
    ],
)
async def test_a_command_that_can_not_start(bench: Bench, command: list[str], message: str) -> None:
    """golden/node/answers/phases.json: exit code 128, StartError."""
    pod = await bench.pod()
    container = await bench.create(pod, command)
    with pytest.raises(RuntimeFailed) as failed:
        await bench.runtime.start_container(container)
    found = await bench.runtime.container(container)
    assert message in str(failed.value)
    assert (found.state, found.exit_code, found.reason, found.started_at) == (State.EXITED, 128, "StartError", 0)
    assert message in found.message
    assert found.finished_at > 0


async def test_a_working_directory_is_made_or_refused(bench: Bench) -> None:
    assert await bench.output("pwd", working_dir="/not/there/yet") == "/not/there/yet\n"
    pod = await bench.pod("other")
    container = await bench.create(pod, "pwd", working_dir="/etc/passwd")
    with pytest.raises(RuntimeFailed, match="error during container init: mkdir /etc/passwd: not a directory"):
        await bench.runtime.start_container(container)


async def test_stdin_is_nothing(bench: Bench) -> None:
    """golden/node: nv-stdin."""
    script = 'if read x; then echo "got $x"; else echo end; fi; [ -t 1 ] && echo tty; ls -l /proc/self/fd/0 | sed "s/.*-> //"'
    assert await bench.output(script) == "end\n/dev/null\n"


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        ({}, "uid=0(root) gid=0(root) groups=0(root)\n/root\n"),
        ({"run_as_user": 1000}, "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra)\n/home/user\n"),
        ({"run_as_user": 4321}, "uid=4321 gid=0(root) groups=0(root)\n/\n"),
        ({"run_as_user": 1000, "run_as_group": 3000}, "uid=1000(user) gid=3000 groups=2000(extra),3000\n/home/user\n"),
        (
            {"run_as_user": 7, "run_as_group": 2000, "supplemental_groups": [5000, 5001]},
            "uid=7 gid=2000(extra) groups=2000(extra),5000,5001\n/\n",
        ),
        ({"run_as_user": 1000, "supplemental_groups": [5000], "supplemental_groups_policy": "Strict"},
         "uid=1000(user) gid=1000(user) groups=1000(user),5000\n/home/user\n"),
        ({"run_as_username": "user"}, "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra)\n/home/user\n"),
    ],
)  # fmt: skip
async def test_who_a_process_is(bench: Bench, security: dict[str, object], expected: str) -> None:
    assert await bench.output("id; echo $HOME", security=bench.user(**security)) == expected


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        ({}, "0 0 00000000a80425fb 00000000a80425fb 00000000a80425fb 0 0"),
        ({"run_as_user": 4321}, "0 0 0000000000000000 0000000000000000 00000000a80425fb 0 0"),
        ({"drop_capabilities": ["ALL"]}, "0 0 0000000000000000 0000000000000000 0000000000000000 0 0"),
        (
            {"drop_capabilities": ["ALL"], "add_capabilities": ["NET_BIND_SERVICE", "CHOWN"]},
            "0 0 0000000000000401 0000000000000401 0000000000000401 0 0",
        ),
        ({"add_capabilities": ["SYS_ADMIN", "NET_ADMIN"]}, "0 0 00000000a82435fb 00000000a82435fb 00000000a82435fb 0 0"),
        ({"no_new_privs": True}, "0 0 00000000a80425fb 00000000a80425fb 00000000a80425fb 1 0"),
        ({"seccomp": "RuntimeDefault"}, "0 0 00000000a80425fb 00000000a80425fb 00000000a80425fb 0 2"),
    ],
)
async def test_what_a_process_may(bench: Bench, security: dict[str, object], expected: str) -> None:
    """golden/node: ns-default, ns-drop-all, ns-drop-all-add, ns-add, ns-no-escalation, ns-seccomp-default."""
    told = await bench.output(
        'cat /proc/self/oom_score_adj; awk \'/^Cap(Inh|Amb)/ {print "x" $2}\' /proc/self/status | sort -u | tr -d x | tr -d "\\n" '
        "| sed \"s/^0*$/0/\"; echo; awk '/^(CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp):/ {print $2}' /proc/self/status",
        security=bench.user(**security),
    )
    assert " ".join(told.split()) == expected


async def test_seccomp_refuses_what_containerd_refuses(bench: Bench) -> None:
    script = "unshare -m true; mount -t tmpfs x /tmp; hostname x; unshare -U true; echo still $(expr 1 + 1)"
    told = await bench.output(script, security=bench.user(seccomp="RuntimeDefault", add_capabilities=["NET_ADMIN"]))
    assert told.count("Operation not permitted") == 3
    assert told.endswith("still 2\n")


async def test_an_image_s_volumes_are_writable(bench: Bench, tmp_path: Path) -> None:
    """As containerd's are: with what the image has there, also under a root that is read-only, and the pod's own mounts in their place."""
    layer = tar([directory("data"), ("data/kept", b"kept\n", {}), directory("own")])
    archive = tmp_path / "volumes.tar"
    config = {"Env": ["PATH=/bin"], "Volumes": {"/data": {}, "/new/deep": {}, "/own": {}}}
    archive.write_bytes(docker_archive("minik8s.test/volumes:1", [busybox_layer(), layer], config))
    await bench.runtime.import_image(str(archive))
    script = "cat /data/kept; for at in / /data /new/deep /own; do touch $at/x 2>/dev/null && echo $at; done"
    fields = {"image": "minik8s.test/volumes:1", "mounts": [Mount("/own", str(tmp_path), readonly=True)]}
    assert await bench.output(script, security=bench.user(readonly_rootfs=True), **fields) == "kept\n/data\n/new/deep\n"
    await bench.runtime.remove_image("minik8s.test/volumes:1")


async def test_read_only_to_its_depth(bench: Bench, tmp_path: Path) -> None:
    """KEP-3857: `readOnly` alone leaves what is mounted below as it is."""
    [handler] = (await bench.runtime.features()).handlers
    if not handler.recursive_readonly:
        pytest.skip("mount_setattr(2) is Linux 5.12")
    below = tmp_path / "below"
    below.mkdir()
    linux.mount("tmpfs", str(below), "tmpfs")
    try:
        mounts = [Mount("/flat", str(tmp_path), readonly=True), Mount("/deep", str(tmp_path), readonly=True, recursive=True)]
        script = "for at in /flat /flat/below /deep /deep/below; do touch $at/x 2>/dev/null && echo $at; done"
        assert await bench.output(script, mounts=mounts) == "/flat/below\n"
    finally:
        linux.unmount(str(below))


async def test_a_seccomp_profile_of_the_node(bench: Bench, tmp_path: Path) -> None:
    """It is there at once and in every exec; no_new_privs alone lets it in too."""
    profile = tmp_path / "p.json"
    refused = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]}))
    security = bench.user(seccomp=str(profile), no_new_privs=True, drop_capabilities=["ALL"])
    container = await bench.start(await bench.pod(), "mkdir /x; echo ready; sleep 100", security=security)
    await bench.logged(container, "ready")
    result = await bench.runtime.exec_sync(container, ["mkdir", "/x"], 10)
    told = (log_text(await bench.runtime.container(container)).splitlines()[0], result.stderr.decode().strip())
    assert told == ("mkdir: can't create directory '/x': Read-only file system",) * 2


async def test_the_file_system(bench: Bench) -> None:
    """golden/node: ns-masked."""
    told = await bench.output(
        'grep -E " /(sys|proc/sys) " /proc/mounts | cut -d" " -f2,4 | cut -d, -f1; ls -A /dev | tr "\\n" " "'
    )
    assert (
        told
        == "/sys ro\n/proc/sys ro\nfd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero \n".replace(
            " \n", " "
        )
    )
    told = await bench.output(
        "touch /x && echo fine; cat /proc/keys | wc -c; ls /proc/acpi 2>/dev/null | wc -l", pod={"name": "b"}
    )
    assert told == "fine\n0\n0\n"
    told = await bench.output(
        "touch /x; touch /tmp/x; echo y > /dev/shm/y && cat /dev/shm/y",
        pod={"name": "c"},
        security=Security(readonly_rootfs=True),
    )
    assert told == "touch: /x: Read-only file system\ntouch: /tmp/x: Read-only file system\ny\n"


async def test_devices_are_fenced(bench: Bench) -> None:
    """The devices cgroup: CAP_MKNOD makes the host's disk, nothing opens it."""
    told = await bench.output("mknod /disk b 1 0; head -c1 /disk; echo x > /dev/null; head -c1 /dev/zero | wc -c")
    assert told == "head: /disk: Operation not permitted\n1\n"


async def test_mounts(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "a").write_text("A")
    (tmp_path / "file").write_text("F")
    mounts = [
        Mount("/data/sub", str(tmp_path / "dir"), readonly=True),
        Mount("/data", str(tmp_path / "dir")),
        Mount("/etc/hosts", str(tmp_path / "file")),
    ]
    told = await bench.output(
        "cat /data/sub/a /data/a /etc/hosts; echo; touch /data/sub/n; echo B > /data/b; cat /etc/hostname", mounts=mounts
    )
    assert told == "AAF\ntouch: /data/sub/n: Read-only file system\npod\n"
    assert (tmp_path / "dir" / "b").read_text() == "B\n"


async def test_a_link_in_a_volume_leads_nowhere_outside(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").mkdir()
    (tmp_path / "x").write_text("X")
    mounts = [Mount("/v", str(tmp_path / "v")), Mount("/v/out/deep", str(tmp_path / "x"))]
    with pytest.raises(RuntimeFailed, match="/v/out: File exists"):
        await bench.output("true", mounts=mounts)
    assert not list((tmp_path / "secret").iterdir())


async def test_bidirectional_mounts_reach_the_host(bench: Bench, tmp_path: Path) -> None:
    """Only where they can: containerd's words. A directory that isn't there is made."""
    shared = tmp_path / "shared"
    for command in (["mount", "--bind", str(tmp_path), str(tmp_path)], ["mount", "--make-private", str(tmp_path)]):
        assert subprocess.run(command, check=False).returncode == 0
    try:
        with pytest.raises(RuntimeFailed, match=f'path "{shared}" is mounted on "{tmp_path}" but it is not a shared mount'):
            await bench.output("true", mounts=[Mount("/s", str(shared), propagation="rshared")])
        assert shared.is_dir()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    for command in (["mount", "--bind", str(shared), str(shared)], ["mount", "--make-shared", str(shared)]):
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 0
    try:
        (shared / "in").mkdir()
        security = Security(privileged=True)
        mount = Mount("/s", str(shared), propagation="rshared")
        await bench.output("mount -t tmpfs x /s/in && touch /s/in/made", mounts=[mount], security=security)
        assert (shared / "in" / "made").exists()
    finally:
        process = await asyncio.create_subprocess_exec("umount", "-R", str(shared))
        await process.wait()


async def test_names_of_the_pod(bench: Bench) -> None:
    dns = Dns(["10.96.0.10"], ["default.svc.cluster.local", "svc.cluster.local"], ["ndots:5"])
    told = await bench.output("hostname; cat /etc/resolv.conf; echo $HOSTNAME", pod={"name": "web-0", "dns": dns})
    search = "search default.svc.cluster.local svc.cluster.local"
    assert told == f"web-0\n{search}\nnameserver 10.96.0.10\noptions ndots:5\nweb-0\n"


async def test_sysctls(bench: Bench) -> None:
    """golden/node: ns-sysctl."""
    sysctls = {"kernel.shm_rmid_forced": "1", "net.ipv4.ip_unprivileged_port_start": "80"}
    told = await bench.output(
        "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start", pod={"sysctls": sysctls}
    )
    assert told == "1\n80\n"
    with pytest.raises(RuntimeFailed, match="failed to create sandbox"):
        await bench.pod("bad", sysctls={"net.no.such": "1"})


async def test_network_namespace(bench: Bench) -> None:
    told = await bench.output("ip -o link | cut -d: -f2; ping -c1 -W1 127.0.0.1 | grep -c 'bytes from'")
    assert told == " lo\n1\n"
    told = await bench.output("hostname", pod={"name": "host", "namespaces": Namespaces(network=NamespaceMode.NODE)})
    assert told == Path("/proc/sys/kernel/hostname").read_text()


async def test_shared_processes(bench: Bench) -> None:
    """shareProcessNamespace: pid 1 is the sandbox's; zombies vanish there; its root gives nothing away."""
    shared = Namespaces(pid=NamespaceMode.POD)
    pod = await bench.pod(namespaces=shared)
    first = await bench.start(pod, "sleep 300", "first")
    told = log_text(await bench.ended(await bench.start(pod, "ps -o pid,comm | sed 1d; ls /proc/1/root 2>&1", "second")))
    assert "sleep" in told
    assert "/proc/1/root: Permission denied" in told
    await bench.runtime.stop_container(first, 0)
    assert (await bench.runtime.container(first)).exit_code == 137


async def test_a_container_without_own_pids_leaves_no_process(bench: Bench) -> None:
    pod = await bench.pod(namespaces=Namespaces(pid=NamespaceMode.POD))
    ended = await bench.ended(await bench.start(pod, "sleep 4321 & sleep 0.1; exit 4"))
    assert ended.exit_code == 4
    watch = await bench.start(pod, "sleep 300", "watch")
    result = await bench.runtime.exec_sync(watch, ["ps"], 5)
    assert b"4321" not in result.stdout


async def test_ephemeral_containers_join_a_target(bench: Bench) -> None:
    pod = await bench.pod()
    target = await bench.start(pod, "sleep 300")
    joined = Security(namespaces=Namespaces(pid=NamespaceMode.TARGET, target_id=target))
    told = log_text(await bench.ended(await bench.start(pod, "ps", "debug", security=joined)))
    assert "sleep 300" in told


async def test_shared_memory_is_the_pods(bench: Bench) -> None:
    pod = await bench.pod()
    await bench.ended(await bench.start(pod, "echo hello > /dev/shm/x", "a"))
    assert log_text(await bench.ended(await bench.start(pod, "cat /dev/shm/x", "b"))) == "hello\n"


async def test_limits(bench: Bench) -> None:
    """golden/node: ns-limits (cgroup v1's files)."""
    limits = Resources(cpu_period=100_000, cpu_quota=25_000, cpu_shares=102, memory_limit=32 << 20, pids_limit=50)
    told = await bench.output(
        "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpu/cpu.shares memory/memory.limit_in_bytes pids/pids.max 2>/dev/null ||"
        " cat cpu.max cpu.weight memory.max pids.max",
        resources=limits,
    )
    assert told.split() in (["25000", "102", "33554432", "50"], ["25000", "100000", "4", "33554432", "50"])


async def test_limits_may_change(bench: Bench) -> None:
    container = await bench.start(await bench.pod(), "sleep 300", resources=Resources(memory_limit=32 << 20, cpu_shares=100))
    for wanted in (64 << 20, 16 << 20):
        await bench.runtime.update_resources(container, Resources(memory_limit=wanted, cpu_shares=200))
        command = ["sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"]
        assert (await bench.runtime.exec_sync(container, command, 5)).stdout == f"{wanted}\n".encode()


async def test_out_of_memory(bench: Bench) -> None:
    ended = await bench.run("tail /dev/zero; exit $?", resources=Resources(memory_limit=8 << 20))
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")


async def test_stop_asks_first(bench: Bench) -> None:
    pod = await bench.pod()
    polite = await bench.start(
        pod, "trap 'echo bye; exit 5' USR1; echo up; while :; do sleep 0.05; done", "a", stop_signal="SIGUSR1"
    )
    await bench.logged(polite, "up")
    await bench.runtime.stop_container(polite, 5)
    ended = await bench.runtime.container(polite)
    assert (ended.exit_code, log_text(ended)) == (5, "up\nbye\n")
    stubborn = await bench.start(pod, "trap '' TERM; sleep 300", "b")
    await bench.runtime.stop_container(stubborn, 0.1)
    assert (await bench.runtime.container(stubborn)).exit_code == 137
    await bench.runtime.stop_container(stubborn, 1)
    await bench.runtime.stop_container("gone", 1)


async def test_lists_and_removal(bench: Bench) -> None:
    pod = await bench.pod(labels={"a": "b"}, annotations={"c": "d"})
    container = await bench.create(pod, "true", labels={"e": "f"})
    [found] = await bench.runtime.containers(pod)
    assert (found.id, found.state, found.labels, found.image, found.sandbox_id) == (
        container,
        State.CREATED,
        {"e": "f"},
        IMAGE,
        pod,
    )
    sandbox = await bench.runtime.sandbox(pod)
    assert (sandbox.ready, sandbox.labels, sandbox.annotations, sandbox.name) == (True, {"a": "b"}, {"c": "d"}, "pod")
    await bench.runtime.start_container(container)
    await bench.runtime.stop_sandbox(pod)
    assert not (await bench.runtime.sandbox(pod)).ready
    with pytest.raises(RuntimeFailed, match="not ready"):
        await bench.start(pod, "true", "late")
    await bench.runtime.remove_container(container)
    await bench.runtime.remove_container(container)
    await bench.runtime.remove_sandbox(pod)
    await bench.runtime.remove_sandbox(pod)
    for call in (bench.runtime.sandbox(pod), bench.runtime.container(container), bench.runtime.start_container(container)):
        with pytest.raises(NotThere):
            await call


async def test_the_sandbox_process_s_end_is_told(bench: Bench) -> None:
    pod = await bench.pod()
    events = bench.runtime.events()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.05)
    [found] = (await bench.runtime._list())["sandboxes"]
    process = await asyncio.create_subprocess_exec("kill", "-9", str(found["pid"]))
    await process.wait()
    async with asyncio.timeout(5):
        assert (await first).sandbox_id == pod
    assert not (await bench.runtime.sandbox(pod)).ready
    await events.aclose()


async def test_network_is_attached_and_detached(bench: Bench) -> None:
    calls = []

    async def attach(sandbox_id: str, netns: str) -> list[str]:
        calls.append(("attach", sandbox_id, Path(netns).exists()))
        return ["10.42.0.7"]

    async def detach(sandbox_id: str, netns: str) -> None:
        calls.append(("detach", sandbox_id, Path(netns).exists()))

    bench.runtime._attach, bench.runtime._detach = attach, detach
    pod = await bench.pod()
    assert (await bench.runtime.sandbox(pod)).ips == ["10.42.0.7"]
    await bench.pod("host", namespaces=Namespaces(network=NamespaceMode.NODE))
    await bench.runtime.stop_sandbox(pod)
    assert calls == [("attach", pod, True), ("detach", pod, True)]

    async def refuse(sandbox_id: str, netns: str) -> list[str]:
        raise OSError("no address is free")

    bench.runtime._attach = refuse
    with pytest.raises(RuntimeFailed, match=r'failed to setup network for sandbox ".*": no address is free'):
        await bench.pod("refused")
    assert [one.name for one in await bench.runtime.sandboxes()] == ["pod", "host"]


async def test_privileged(bench: Bench) -> None:
    script = "mkdir /mnt; mount -t tmpfs x /mnt && echo mounted; ls /dev | wc -l; grep -c ' /proc/' /proc/mounts; "
    script += "awk '/CapEff/ {print $2}' /proc/self/status"
    told = (await bench.output(script, security=Security(privileged=True))).split()
    assert (told[0], told[2]) == ("mounted", "0")
    assert int(told[1]) > 20
    assert int(told[3], 16) & 1 << 21, "CAP_SYS_ADMIN"


async def test_the_host_s_namespaces(bench: Bench) -> None:
    namespaces = Namespaces(NamespaceMode.NODE, NamespaceMode.NODE, NamespaceMode.NODE)
    script = "for x in net ipc pid; do readlink /proc/self/ns/$x; done"
    host = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "ipc", "pid")]
    assert (await bench.output(script, pod={"namespaces": namespaces})).split() == host
    assert not set((await bench.output(script, pod={"name": "own"})).split()) & set(host)


async def test_image_volumes(bench: Bench, tmp_path: Path) -> None:
    """KEP-4639: an image's files as a read-only volume."""
    layers = [tar([("a", b"1", {}), ("b", b"1", {})]), tar([("b", b"2", {})])]
    images = {
        "one": layers[:1],
        "two": layers,
        "three": [tar([directory("d"), ("d/c", b"3", {}), link("out", "/etc")])],
        "four": [*layers, tar([directory("d"), directory("d/c"), ("d/c/e", b"4", {})])],
    }
    for name, some in images.items():
        (tmp_path / "x.tar").write_bytes(docker_archive(f"minik8s.test/{name}:1", some))
        await bench.runtime.import_image(str(tmp_path / "x.tar"))
    mounts = [Mount(f"/{name}", "", image=f"minik8s.test/{name}:1") for name in ("one", "two")]
    told = await bench.output("cat /one/a /one/b /two/a /two/b; touch /one/x /two/x", mounts=mounts)
    assert told == "1112touch: /one/x: Read-only file system\ntouch: /two/x: Read-only file system\n"
    parts = [Mount(f"/part/{name}", "", image=f"minik8s.test/{name}:1", image_sub_path="d/c") for name in ("three", "four")]
    assert await bench.output("cat /part/three /part/four/e", mounts=parts, pod={"name": "parts"}) == "34"
    refused = {"none": "No such file", "out/x": "Not a directory", "out": "symbolic link", "../x": "out of the image"}
    for path, why in refused.items():
        part, name = Mount("/a", "", image="minik8s.test/three:1", image_sub_path=path), path.replace("/", "-")
        with pytest.raises(RuntimeFailed, match=why):
            await bench.run("true", mounts=[part], pod={"name": name})
    await bench.clear()
    for name in images:
        await bench.runtime.remove_image(f"minik8s.test/{name}:1")


async def test_a_container_s_own_cgroups_go_with_it(bench: Bench) -> None:
    script = "mkdir /sys/fs/cgroup/memory/below || mkdir /sys/fs/cgroup/below; echo $? >&2; exit 2"
    ended = await bench.run(script, security=Security(privileged=True))
    assert (ended.exit_code, log_text(ended)) == (2, "0\n")


async def test_nothing_of_the_node_process_is_left_open(bench: Bench) -> None:
    assert (await bench.output("ls /proc/self/fd | tr '\\n' ' '; cat /proc/keys")).split() == ["0", "1", "2", "3"]
    container = await bench.start(await bench.pod("other"), "sleep 300", working_dir="/tmp")
    result = await bench.runtime.exec_sync(container, ["sh", "-c", "ls /proc/self/fd; ls -l /proc/1/cwd"], 5)
    assert result.stdout.split()[:4] == [b"0", b"1", b"2", b"3"]
    assert result.stdout.endswith(b"-> /tmp\n")


async def test_a_working_directory_outside_is_refused(bench: Bench) -> None:
    """CVE-2024-21626: through a descriptor of the starting process."""
    for number in range(3, 12):
        pod = await bench.pod(f"p{number}")
        container = await bench.create(pod, "pwd", working_dir=f"/proc/self/fd/{number}")
        with pytest.raises(RuntimeFailed):
            await bench.runtime.start_container(container)


async def test_stats(bench: Bench) -> None:
    pod = await bench.pod()
    container = await bench.start(pod, "head -c 100000 /dev/zero > /written; while :; do :; done")
    async with asyncio.timeout(PATIENCE):
        while not (found := (await bench.runtime.stats())[0]).cpu_ns > 50_000_000:
            await asyncio.sleep(0.05)
    assert found.container_id == container
    assert 0 < found.memory_working_set <= found.memory_usage
    assert 100_000 <= found.rootfs_bytes < 200_000


async def test_images_in_use_keep_their_layers(bench: Bench) -> None:
    pod = await bench.pod()
    container = await bench.start(pod, "sleep 300")
    image = await bench.runtime.image(IMAGE)
    assert image
    layers = bench.runtime._images.layers
    before = sorted(path.name for path in layers.iterdir())
    await bench.runtime.remove_image(IMAGE)
    assert await bench.runtime.image(IMAGE) is None
    assert sorted(path.name for path in layers.iterdir()) == before
    assert (await bench.runtime.exec_sync(container, ["true"], 5)).exit_code == 0
    await bench.runtime.remove_sandbox(pod)
    await bench.runtime._collect()
    assert [path.name for path in layers.iterdir()] == ["empty"]
    with pytest.raises(NotThere, match="not found"):
        await bench.runtime.create_container(pod, ContainerConfig("c", 0, image.id, IMAGE), bench.sandboxes[pod])
