"""Which runtime is taken, and in which words a user is told (docs/operations.md, "Which runtime")."""

from __future__ import annotations

import os
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from minik8s.base.clock import RealClock
from minik8s.runtime import choose
from minik8s.runtime.base import RuntimeFailed
from minik8s.runtime.choose import Options
from minik8s.runtime.cri import supervise
from minik8s.runtime.cri.supervise import CNI_BIN_DIRECTORIES


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(choose, "SOCKETS", {name: str(tmp_path / f"{name}.sock") for name in choose.SOCKETS})


async def chosen(tmp_path: Path, wanted: str) -> str:
    async with AsyncExitStack() as stack:
        _, why = await choose.choose(Options(wanted, tmp_path / "runtime", tmp_path / "cni"), RealClock(), stack)
    return why


@pytest.mark.parametrize(
    ("root", "installed", "why"),
    [
        (
            True,
            "/usr/bin/containerd",
            "no CRI socket answers; --runtime containerd would start the containerd that is installed",
        ),
        (True, None, "no CRI socket answers"),
        (False, "/usr/bin/containerd", "no CRI socket answers"),
    ],
)
async def test_auto_starts_no_program_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: bool, installed: str | None, why: str
) -> None:
    async def embedded(_options: Any, _clock: Any, _stack: Any, why: str) -> tuple[None, str]:
        return None, why

    monkeypatch.setattr(choose, "_embedded", embedded)
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(choose.shutil, "which", lambda _: installed)
    assert await chosen(tmp_path, "auto") == why


async def test_what_a_containerd_of_our_own_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, all at once."""
    monkeypatch.setattr(supervise, "_path", lambda: str(tmp_path))
    monkeypatch.setattr(supervise, "CNI_BIN_DIRECTORIES", ())
    with pytest.raises(RuntimeFailed) as failed:
        await chosen(tmp_path, "containerd")
    assert str(failed.value) == (
        f"nothing answers at {tmp_path}/containerd.sock, and to start a containerd there is no containerd, runc, the CNI plugin ptp: "
        "install it, or use --runtime embedded"
    )
    for name in ("containerd", "runc"):
        (tmp_path / name).touch(mode=0o755)
    assert supervise.missing() == "the CNI plugin ptp"
    assert "/opt/cni/bin" in CNI_BIN_DIRECTORIES


@pytest.mark.parametrize(
    ("wanted", "there", "others", "written"),
    [
        ("embedded", ["crio"], [], None),
        ("containerd", [], [], "own"),
        ("containerd", ["crio"], [], "own"),
        ("containerd", ["containerd"], [], "etc"),
        ("crio", ["crio"], [], "etc"),
        ("crio", ["crio"], ["11-crio-ipv4-bridge.conflist"], None),
        ("crio", ["crio"], ["10-minik8s.conflist"], "etc"),
        ("auto", ["crio"], [], "etc"),
        ("auto", [], [], "own"),
        ("unix://{}/mine.sock", ["mine"], [], "etc"),
        ("{}/mine.sock", [], [], "own"),
    ],
)
def test_where_a_runtime_finds_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, there: list[str], others: list[str], written: str | None
) -> None:
    places = {"own": tmp_path / "own", "etc": tmp_path / "etc"}
    monkeypatch.setattr(choose, "CNI_DIRECTORY", places["etc"])
    places["etc"].mkdir()
    for name in others:
        (places["etc"] / name).touch()
    listeners = [socket.socket(socket.AF_UNIX) for _ in there]
    for name, listener in zip(there, listeners, strict=True):
        listener.bind(str(tmp_path / f"{name}.sock"))
    found = choose.cni_directory(wanted.format(tmp_path), places["own"])
    assert found == (places[written] if written else None)
    for listener in listeners:
        listener.close()
