"""The embedded runtime's decisions, without a kernel: log lines, users, specifications, limits."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minik8s.runtime.base import (
    ContainerConfig,
    Dns,
    Mount,
    NamespaceMode,
    Namespaces,
    Resources,
    RuntimeFailed,
    SandboxConfig,
    Security,
)
from minik8s.runtime.embedded import cgroups, device_filter, specs
from minik8s.runtime.embedded.linux import CAPABILITIES
from minik8s.runtime.embedded.logs import Log, format_entries
from minik8s.runtime.embedded.processes import exit_code, signal_number
from minik8s.runtime.embedded.users import resolve
from minik8s.runtime.images.store import StoredImage

AT = 1_767_323_045_000_000_007  # 2026-01-02T03:04:05.000000007Z
HEAD = b"2026-01-02T03:04:05.000000007Z stdout "


@pytest.mark.parametrize(
    ("data", "entries", "rest"),
    [
        (b"line\n", [b"F line"], b""),
        (b"a\nb\n", [b"F a", b"F b"], b""),
        (b"\n", [b"F "], b""),
        (b"open", [], b"open"),
        (b"a\nopen", [b"F a"], b"open"),
        (b"x" * 16384 + b"\n", [b"F " + b"x" * 16384], b""),
        (b"x" * 16385 + b"\n", [b"P " + b"x" * 16384, b"F x"], b""),
        (b"x" * 16385, [b"P " + b"x" * 16384], b"x"),
        (
            b"a\n" + b"x" * 40000 + b"\nb\n",
            [b"F a", b"P " + b"x" * 16384, b"P " + b"x" * 16384, b"F " + b"x" * 7232, b"F b"],
            b"",
        ),
        (b"r\r\n\xff\nx\r", [b"F r", b"F \xff"], b"x\r"),
    ],
)
def test_log_entries(data: bytes, entries: list[bytes], rest: bytes) -> None:
    """CRI's log format (kubernetes/design-proposals, kubelet-cri-logging); containerd's longest line is 16 KiB."""
    assert format_entries("stdout", data, AT) == (b"".join(HEAD + entry + b"\n" for entry in entries), rest)


def test_an_unfinished_line_is_a_part(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "deep" / "0.log"))
    log.write("stdout", b"a")
    log.write("stderr", b"x\n")
    log.write("stdout", b"b\nc")
    log.end("stdout")
    log.close()
    lines = [line.split(b" ", 1)[1] for line in (tmp_path / "deep" / "0.log").read_bytes().splitlines()]
    assert lines == [b"stderr F x", b"stdout F ab", b"stdout P c"]


PASSWD = ["root:x:0:0:root:/root:/bin/sh", "user:x:1000:1000::/home/user:/bin/sh", "broken", "odd:x:1:2::"]
GROUP = ["root:x:0:", "user:x:1000:", "extra:x:2000:other,user", "more:x:3000:root"]


@pytest.mark.parametrize(
    ("user", "group", "supplemental", "policy", "expected"),
    [
        ("", None, [], "Merge", (0, 0, [0, 3000], "/root")),
        ("user", None, [], "Merge", (1000, 1000, [1000, 2000], "/home/user")),
        ("1000", None, [7], "Merge", (1000, 1000, [7, 1000, 2000], "/home/user")),
        ("1000", None, [7], "Strict", (1000, 1000, [7, 1000], "/home/user")),
        ("user:extra", None, [], "Merge", (1000, 2000, [2000], "/home/user")),
        ("user:55", None, [], "Merge", (1000, 55, [55, 2000], "/home/user")),
        ("user:extra", 9, [], "Merge", (1000, 9, [9, 2000], "/home/user")),
        ("4321", None, [], "Merge", (4321, 0, [0], "/")),
        ("odd", None, [], "Merge", (1, 2, [2], "/")),
        ("nobody", None, [], "Merge", "unable to find user nobody: no matching entries in passwd file"),
        ("user:wheel", None, [], "Merge", "unable to find group wheel: no matching entries in group file"),
    ],
)
def test_users(user: str, group: int | None, supplemental: list[int], policy: str, expected: tuple[object, ...] | str) -> None:
    """golden/node/answers/security.json; KEP-3619 for Strict."""
    if isinstance(expected, str):
        with pytest.raises(LookupError) as failed:
            resolve(user, group, supplemental, policy, PASSWD, GROUP)
        assert failed.value.args[0] == expected
    else:
        assert tuple(resolve(user, group, supplemental, policy, PASSWD, GROUP).values()) == expected


IMAGE = StoredImage(
    "sha256:1",
    "sha256:2",
    10,
    ("low", "high"),
    config={"Entrypoint": ["/e"], "Cmd": ["c"], "User": "app", "WorkingDir": "/w", "Env": ["A=1", "PATH=/p"]},
)
CONFIG = ContainerConfig("c", 0, "sha256:1", "app")
SANDBOX = SandboxConfig("pod", "ns", "uid", 0, "pod", "/logs", "/kubepods/poduid")


def spec(config: ContainerConfig = CONFIG, image: StoredImage = IMAGE, sandbox: SandboxConfig = SANDBOX) -> dict[str, object]:
    return specs.container_spec(
        config, sandbox, image, files=Path("/s"), layers_dir=Path("/l"), volumes={"vol": IMAGE}, hidden=["/data"], plain=False
    )


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [([], [], ["/e", "c"]), (["x"], [], ["x"]), ([], ["y"], ["/e", "y"]), (["x"], ["y"], ["x", "y"])],
)
def test_command_and_args(command: list[str], args: list[str], expected: list[str]) -> None:
    """kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container."""
    assert specs.arguments(replace(CONFIG, command=command, args=args), IMAGE.config) == expected


def test_a_specification() -> None:
    found = spec(
        replace(
            CONFIG,
            env=[("A", "2"), ("B", "x=y")],
            log_path="c/0.log",
            mounts=[Mount("/v", "", image="vol"), Mount("/etc/hostname", "/h")],
        )
    )
    assert found["env"] == ["PATH=/p", "HOSTNAME=pod", "A=2", "B=x=y"]
    assert (found["cwd"], found["user"], found["layers"], found["log_path"]) == ("/w", "app", ["high", "low"], "/logs/c/0.log")
    mounts = [(mount["target"], mount.get("source"), mount.get("layers")) for mount in found["mounts"]]  # type: ignore[attr-defined]
    assert mounts == [
        ("/etc/resolv.conf", "/s/resolv.conf", None),
        ("/v", None, ["high", "low"]),
        ("/etc/hostname", "/h", None),
    ]
    assert "/proc/kcore" in found["masked_paths"]  # type: ignore[operator]
    privileged = spec(replace(CONFIG, security=Security(privileged=True, seccomp="RuntimeDefault")))
    assert (privileged["masked_paths"], privileged["readonly_paths"], privileged["seccomp"]) == ([], [], None)
    assert spec(replace(CONFIG, security=Security(masked_paths=(), run_as_user=0)))["masked_paths"] == []


@pytest.mark.parametrize(
    ("security", "mask"),
    [
        (Security(), 0xA80425FB),
        (Security(drop_capabilities=["ALL"]), 0),
        (Security(drop_capabilities=["ALL"], add_capabilities=["CAP_CHOWN"]), 1),
        (Security(add_capabilities=["ALL"], drop_capabilities=["chown"]), (1 << len(CAPABILITIES)) - 2),
        (Security(privileged=True), (1 << len(CAPABILITIES)) - 1),
    ],
)
def test_capabilities(security: Security, mask: int) -> None:
    assert specs.capabilities(security) == mask


@pytest.mark.parametrize(
    ("security", "message"),
    [
        (
            Security(seccomp="/none/p.json"),
            'cannot load seccomp profile "/none/p.json": open /none/p.json: no such file or dir',
        ),
        (Security(apparmor="localhost/p"), "AppArmor profile 'localhost/p' is not supported"),
        (Security(add_capabilities=["FLY"]), "unknown capability 'FLY'"),
    ],
)
def test_what_is_refused(security: Security, message: str) -> None:
    with pytest.raises(RuntimeFailed, match=message):
        spec(replace(CONFIG, security=security))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"security": Security(run_as_user=4321)}, "no runAsUser: without root"),
        ({"security": Security(privileged=True)}, "no privileged: without root"),
        ({"security": Security(supplemental_groups=[4])}, "no fsGroup and supplementalGroups: without root"),
        ({"security": Security(readonly_rootfs=True)}, "no readOnlyRootFilesystem: without root"),
        ({"security": Security(seccomp="RuntimeDefault")}, "no seccompProfile: without root"),
        ({"mounts": [Mount("/data", "/x")]}, "nothing can be mounted at /data: without root"),
        ({"mounts": [Mount("/etc/hosts", "/x"), Mount("/dev/termination-log", "/x")]}, ""),
        ({"security": Security(run_as_user=0, no_new_privs=True, drop_capabilities=["ALL"])}, ""),
    ],
)
def test_what_plain_processes_can_not_have(fields: dict[str, Any], message: str) -> None:
    """Refused, never ignored; docs/runtimes.md."""
    if not message:
        specs.refuse_plain(replace(CONFIG, **fields))
        return
    with pytest.raises(RuntimeFailed, match=message):
        specs.refuse_plain(replace(CONFIG, **fields))


def test_selinux_is_refused_where_it_is_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = replace(CONFIG, security=Security(selinux={"level": "s0:c1"}))
    assert spec(labelled)
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/sys/fs/selinux/enforce")
    with pytest.raises(RuntimeFailed, match="seLinuxOptions are not supported"):
        spec(labelled)


def test_a_sandbox_s_specification() -> None:
    dns = Dns(["1.1.1.1", "::1"], ["a", "b"], ["ndots:5", "edns0"])
    found = specs.sandbox_spec(replace(SANDBOX, dns=dns, sysctls={"net.core.somaxconn": "9"}), "host's")
    assert found["files"] == {
        "hostname": "pod\n",
        "resolv.conf": "search a b\nnameserver 1.1.1.1\nnameserver ::1\noptions ndots:5 edns0\n",
    }
    assert found["sysctls"]["net.core.somaxconn"] == "9"
    assert (found["shared_pid"], found["host_network"], found["cgroup_parent"]) == (False, False, "/kubepods/poduid")
    host = Namespaces(NamespaceMode.NODE, NamespaceMode.POD, NamespaceMode.NODE)
    found = specs.sandbox_spec(replace(SANDBOX, namespaces=host, cgroup_parent=""), "nameserver 9.9.9.9\n")
    assert found["files"]["resolv.conf"] == "nameserver 9.9.9.9\n"
    assert (found["shared_pid"], found["host_network"], found["host_ipc"], found["sysctls"]) == (True, True, True, {})
    assert found["cgroup_parent"] == "/minik8s/poduid"
    with pytest.raises(RuntimeFailed, match='no runtime for "kata" is configured'):
        specs.sandbox_spec(replace(SANDBOX, runtime_handler="kata"), "")
    with pytest.raises(RuntimeFailed, match="no sysctls: without root"):
        specs.sandbox_spec(replace(SANDBOX, sysctls={"net.core.somaxconn": "9"}), "", plain=True)


LIMITS = specs.resources(
    Resources(
        cpu_period=100_000,
        cpu_quota=50_000,
        cpu_shares=1024,
        memory_limit=1 << 20,
        pids_limit=7,
        hugepage_limits={"2MB": 4, "1GB": 0},
        unified={"memory.oom.group": "1"},
    )
)


def test_limits_in_v1_s_words() -> None:
    assert cgroups.settings_v1(LIMITS) == [
        ("cpu", "cpu.shares", "1024"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("memory", "memory.limit_in_bytes", "1048576"),
        ("memory", "memory.memsw.limit_in_bytes", "1048576"),
        ("pids", "pids.max", "7"),
        ("hugetlb", "hugetlb.2MB.limit_in_bytes", "4"),
        ("hugetlb", "hugetlb.1GB.limit_in_bytes", "0"),
    ]


def test_limits_in_v2_s_words() -> None:
    """KEP-2254: shares 2..262144 are weight 1..10000."""
    assert [(name, value) for _, name, value in cgroups.settings_v2(LIMITS)] == [
        ("cpu.weight", "39"),
        ("cpu.max", "50000 100000"),
        ("memory.max", "1048576"),
        ("memory.swap.max", "0"),
        ("pids.max", "7"),
        ("hugetlb.2MB.max", "4"),
        ("hugetlb.1GB.max", "0"),
        ("memory.oom.group", "1"),
    ]
    assert cgroups.settings_v2({"cpu_shares": 2, "cpu_quota": -1}) == [
        ("unified", "cpu.weight", "1"),
        ("unified", "cpu.max", "max 100000"),
    ]
    assert cgroups.settings_v2({"cpu_shares": 262_144}) == [("unified", "cpu.weight", "10000")]
    assert cgroups.settings_v2({}) == cgroups.settings_v1({}) == []


def test_v1_s_hierarchies(tmp_path: Path) -> None:
    lines = [
        f"30 25 0:26 / {tmp_path}/{name} rw,nosuid shared:9 - cgroup cgroup rw,{options}"
        for name, options in (("cpu,cpuacct", "cpu,cpuacct"), ("memory", "memory"), ("systemd", "xattr,name=systemd"))
    ]
    for name in ("cpu,cpuacct", "memory", "systemd"):
        (tmp_path / name).mkdir()
    found = cgroups.Cgroups(lines)
    assert found.mounts == {
        "cpu": f"{tmp_path}/cpu,cpuacct",
        "cpuacct": f"{tmp_path}/cpu,cpuacct",
        "memory": f"{tmp_path}/memory",
    }
    assert not found.v2
    found.make("/kubepods/podx/c")
    assert sorted(path.name for path in tmp_path.glob("*/kubepods/podx/c/..")) == ["..", ".."]
    assert found.remove("/kubepods/podx/c")
    assert not (tmp_path / "memory/kubepods/podx/c").exists()
    assert found.usage("/kubepods/podx/c") is None


def test_v2_s_hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_ROOT", str(tmp_path))
    monkeypatch.setattr(cgroups, "_delegate", lambda where: delegated.append(where.removeprefix(str(tmp_path))))
    delegated: list[str] = []
    found = cgroups.Cgroups([f"30 25 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw,nsdelegate"])
    assert (found.v2, found.mounts) == (True, {"unified": str(tmp_path)})
    found.make("/a/b")
    assert delegated == ["", "/a"], "a group's processes are its own: only those above hand controllers down"
    group = tmp_path / "a/b"
    (group / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (group / "memory.current").write_text("1000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 300\n")
    (group / "cpu.stat").write_text("usage_usec 7\n")
    assert found.oom_kills("/a/b") == 2
    assert found.usage("/a/b") == (7000, 1000, 700, 5)


def test_the_node_process_is_small() -> None:
    """design.md: `python -I -S`, standard library only, no threads; what would double its memory stays out."""
    root = Path(cgroups.__file__).parents[3]
    script = f"import sys; sys.path.insert(0, {str(root)!r}); import minik8s.runtime.embedded.node; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )
    ours = {name for name in loaded if name.startswith("minik8s")}
    assert {name.partition(".")[0] for name in loaded - ours} <= {*sys.stdlib_module_names, "__main__"}
    assert not loaded & {
        "asyncio",
        "pathlib",
        "dataclasses",
        "inspect",
        "typing",
        "threading",
        "subprocess",
        "logging",
        "shutil",
    }
    assert {name.rpartition(".")[0] for name in ours} <= {"", "minik8s", "minik8s.runtime", "minik8s.runtime.embedded"}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a program is attached to a cgroup")
def test_v2_s_devices() -> None:
    where = next(
        (line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"), ""
    )
    if not where:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    group = Path(where) / "minik8s-test-devices"
    group.mkdir()
    try:
        device_filter.attach(str(group), device_filter.compile_rules(["c *:* m", "c 1:3 rwm", "c 1:5 r", "c 136:* rwm"]))
        script = f"echo $$ > {group}/cgroup.procs; for x in '< /dev/null' '> /dev/null' '< /dev/zero' '> /dev/zero' '< /dev/urandom'; do"
        script += ' (eval "true $x") 2>/dev/null && echo -n yes, || echo -n no,; done'
        told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
        assert told == "yes,yes,yes,no,no,"
    finally:
        group.rmdir()


@pytest.mark.parametrize(
    ("name", "number"),
    [("SIGTERM", 15), ("TERM", 15), ("", 15), ("9", 9), ("SIGUSR1", 10), ("SIGRTMIN+3", 37), ("nonsense", 15), ("sigint", 2)],
)
def test_signals(name: str, number: int) -> None:
    assert signal_number(name) == number


@pytest.mark.parametrize(("status", "code"), [(0, 0), (3 << 8, 3), (9, 137), (15, 143), (6 | 0x80, 134)])
def test_exit_codes(status: int, code: int) -> None:
    assert exit_code(status) == code
