"""Pods with users of their own (`hostUsers: false`, KEP-127) in the embedded runtime, on the real kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from runtime_bench import Bench, log_text

from minik8s.runtime.base import IdMap, Mount, NamespaceMode, Namespaces, RuntimeFailed, Security

pytestmark = pytest.mark.root

FIRST = 200 << 16
OWN = Namespaces(users=IdMap(FIRST))


@pytest.fixture(autouse=True)
async def able(bench: Bench) -> None:
    """mount_setattr(2) is Linux 5.12, overlayfs on mapped layers 5.19."""
    [handler] = (await bench.runtime.features()).handlers
    if not handler.user_namespaces:
        pytest.skip("this kernel or file system maps no ids of mounts")


async def test_root_in_the_pod_is_nobody_on_the_host(bench: Bench, tmp_path: Path) -> None:
    """Ids of image, volumes, /dev and /proc are the pod's, those on the disk the same ones; what the container is outside is the range."""
    volume = tmp_path / "volume"
    volume.mkdir()
    os.chown(volume, 1000, 2000)
    volume.chmod(0o770)
    (volume / "of-root").write_text("")
    script = """
        cat /proc/self/uid_map | tr -s ' '; id -u
        stat -c '%n %u:%g %a' / /bin/sh /home/user /root /v /v/of-root /dev /dev/null /dev/pts/ptmx /dev/shm
        touch /made /v/made /dev/shm/made; mkdir -p /work/deep; stat -c '%u:%g' /made /v/made /work; stat -c %u:%g /cwd/deep
        hostname other && hostname; mount -t tmpfs none /mnt 2>/dev/null || { mkdir /mnt; mount -t tmpfs none /mnt; }; stat -f -c %T /mnt
        mknod /null c 1 3 || echo no device; ip link set lo down && ip link set lo up && echo net; sleep 100
    """
    pod = await bench.pod(namespaces=OWN)
    security = Security(namespaces=OWN, add_capabilities=["SYS_ADMIN", "NET_ADMIN"])
    mounts = [Mount("/v", str(volume))]
    container = await bench.start(pod, f"exec 2>&1; {script}", security=security, mounts=mounts, working_dir="/cwd/deep")
    await bench.logged(container, "net\n")
    found = await bench.runtime.container(container)
    assert log_text(found).splitlines() == [
        f" 0 {FIRST} 65536", "0", "/ 0:0 755", "/bin/sh 0:0 777", "/home/user 1000:1000 755", "/root 0:0 700", "/v 1000:2000 770",
        "/v/of-root 0:0 644", "/dev 0:0 755", "/dev/null 0:0 666", "/dev/pts/ptmx 0:0 666", "/dev/shm 0:0 1777", "0:0", "0:0", "0:0", "0:0",
        "other", "tmpfs", "mknod: /null: Operation not permitted", "no device", "net",
    ]  # fmt: skip
    assert os.stat(f"/proc/{found.pid}").st_uid == FIRST
    assert [(volume / name).stat().st_uid for name in ("of-root", "made")] == [0, 0]
    for kind in ("user", "net", "ipc", "mnt"):
        assert os.readlink(f"/proc/{found.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    result = await bench.runtime.exec_sync(container, ["sh", "-c", "id -u; echo x > /dev/stderr; cat /proc/self/uid_map"], 10)
    assert result.stdout.decode().split() == ["0", "0", str(FIRST), "65536"]
    assert result.stderr == b"x\n"


async def test_another_user_of_the_pod(bench: Bench) -> None:
    """Its groups, its streams, its capabilities; the pod's containers share the users."""
    security = Security(
        namespaces=OWN, run_as_user=1000, supplemental_groups=[5000], no_new_privs=True, seccomp="RuntimeDefault"
    )
    script = 'id; grep -E "CapBnd|NoNew|Seccomp:" /proc/self/status | tr -s "\\t " " "; echo again > /dev/stdout; touch ~/x && echo ok'
    told = await bench.output(script, pod={"namespaces": OWN}, security=security)
    assert told.splitlines() == [
        "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra),5000", "CapBnd: 00000000a80425fb", "NoNewPrivs: 1", "Seccomp: 2",
        "again", "ok",
    ]  # fmt: skip


async def test_a_terminal_and_a_privileged_container(bench: Bench) -> None:
    """Privileges are those of the pod's root: it may mount, and can't open a disk of the host."""
    shared = Namespaces(pid=NamespaceMode.POD, users=IdMap(FIRST))
    security = Security(namespaces=shared, privileged=True)
    script = """
        tty; echo x > /dev/console; stat -c %u:%g $(tty)
        for disk in /dev/vd? /dev/sd? /dev/nvme?n1; do [ -b $disk ] && cat $disk | head -c 1; done
        mount --bind /bin /mnt; ls /mnt
    """
    told = await bench.output(f"mkdir /mnt; {script}", pod={"namespaces": shared}, security=security, tty=True)
    assert told.splitlines()[:3] == ["/dev/pts/0", "x", "0:5"]
    assert "busybox" in told
    assert told.count("Permission denied") == told.count("cat: ")


async def test_what_can_not_be_mapped_is_refused(bench: Bench) -> None:
    """runc's words."""
    pod = await bench.pod(namespaces=OWN)
    security = Security(namespaces=OWN)
    container = await bench.create(pod, "true", security=security, mounts=[Mount("/v", "/proc")])
    with pytest.raises(RuntimeFailed, match=r"failed to set MOUNT_ATTR_IDMAP on /proc: .*doesn't support idmap mounts"):
        await bench.runtime.start_container(container)
    with pytest.raises(RuntimeFailed, match="mountPropagation Bidirectional"):
        await bench.create(pod, "true", "d", security=security, mounts=[Mount("/v", "/etc", propagation="rshared")])
