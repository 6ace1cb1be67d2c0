"""What `minik8s reset` decides and says; that nothing is left on a machine is tested there (e2e/test_reset.py)."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import pytest

from minik8s import cli, reset
from minik8s.base import lock
from minik8s.kubelet import rootdir
from minik8s.kubelet.layout import Layout
from minik8s.reset import Kind, StillRuns, check, kinds_of
from minik8s.runtime.leavings import Leavings


class Things:
    """A kind whose things go at the try that is said for each."""

    def __init__(self, name: str, **tries: int) -> None:
        self.tries = tries
        self.kind = Kind(name, lambda: [one for one, left in self.tries.items() if left], self.remove)

    def remove(self, one: str) -> None:
        self.tries[one] -= 1
        if self.tries[one]:
            raise OSError(16, "Device or resource busy")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """As a server and an agent leave it that never joined."""
    for name in ("tls", "agent/runtime", "agent/logs"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("state.db", "state.db-wal", "token", "agent/logs/x"):
        (tmp_path / name).write_text("x")
    return tmp_path


def test_what_does_not_go_at_once_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Things("cgroups", a=1, b=3), Things("mounts", c=1, d=10**9)
    monkeypatch.setattr(reset, "_PATIENCE", 0.3)
    done, stuck = reset.reset([first.kind, second.kind])
    assert (done.kind, done.removed, done.left) == ("cgroups", 2, {})
    assert (stuck.kind, stuck.removed, stuck.left) == ("mounts", 1, {"d": "Device or resource busy"})


def test_nobody_may_use_the_directory(data: Path) -> None:
    check(data)
    for what, file in (("a server", "state.db.lock"), ("an agent", "agent/lock")):
        held = lock.hold(data / file)
        with pytest.raises(StillRuns, match=rf"^{what} \(process {os.getpid()}\) runs on .*: end it first"):
            check(data)
        os.close(held)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(data / "api.sock"))
        listener.listen()
        with pytest.raises(StillRuns, match="a server answers"):
            check(data)
    check(data)  # the socket of one that was killed


def test_the_data_directory_goes_last_and_whole(data: Path) -> None:
    assert [kind.name for kind in kinds_of(data)][-1] == "files"
    reset.reset(kinds_of(data))
    assert not data.exists()


def test_the_kubelet_s_directory_elsewhere_goes_too(data: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """But for what others put there, and only where it is this agent's."""
    kubelet = tmp_path_factory.mktemp("kubelet")
    rootdir.claim(kubelet, data, may_mount=False)
    for name in ("pods/u/volumes", "plugins/d.example", "seccomp/mine"):
        (kubelet / name).mkdir(parents=True)
    Layout(kubelet, data, data).pulled.touch()
    reset.reset(kinds_of(data))
    assert ([path.name for path in kubelet.iterdir()], data.exists()) == (["seccomp"], False)
    (data / "agent").mkdir(parents=True)
    (data / "agent/kubelet").symlink_to(kubelet)
    rootdir.claim(kubelet, tmp_path_factory.mktemp("other"), may_mount=False)
    reset.reset(kinds_of(data))
    assert (kubelet / rootdir.OWNER).exists()


def test_what_is_not_ours_stays(data: Path) -> None:
    (data / "mine.txt").write_text("x")
    reset.reset(kinds_of(data))
    assert [file.name for file in data.iterdir()] == ["mine.txt"]


def test_nothing_is_deleted_below_a_mount(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the files of a volume that can't be unmounted would go."""
    monkeypatch.setattr(Leavings, "mounts", lambda self: [f"{data}/agent/pods/x"])
    monkeypatch.setattr(reset, "_PATIENCE", 0.0)
    [files] = reset.reset([kind for kind in kinds_of(data) if kind.name == "files"])
    assert (data / "agent/logs/x").exists()
    assert len(files.left) == 5


def test_the_command(data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert cli.main(["reset", "--data-dir", str(data)]) == 1
    told = capsys.readouterr()
    assert "Are you sure you want to proceed? [y/N]" in told.out
    assert told.err == "minik8s reset: aborted\n"
    assert cli.main(["reset", "--force", "--data-dir", str(data)]) == 0
    assert capsys.readouterr().out == "files               6 removed\nnothing is left\n"
    assert cli.main(["reset", "--force", "--data-dir", str(data)]) == 1
    assert capsys.readouterr().err.startswith(f"minik8s reset: nothing of minik8s is in {data}")
    held = Things("mounts", a=10**9)
    data.joinpath("tls").mkdir(parents=True)
    monkeypatch.setattr(reset, "_PATIENCE", 0.0)
    monkeypatch.setattr(reset, "kinds_of", lambda _: [held.kind])
    assert cli.main(["reset", "--force", "--data-dir", str(data)]) == 1
    assert capsys.readouterr().out == "mounts              0 removed, 1 left: a\n1 left\n"
