"""sd_notify(3): a datagram of `VARIABLE=value` to the socket that NOTIFY_SOCKET names."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from minik8s.base import systemd


@pytest.mark.parametrize("abstract", [False, True])
def test_the_state_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"@minik8s-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    environment = {"NOTIFY_SOCKET": name, "PATH": "/bin"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        tell = systemd.notifier(environment)
        tell(systemd.READY)
        assert manager.recv(64) == b"READY=1"
    assert environment == {"PATH": "/bin"}, "children are told nothing"


def test_without_a_manager() -> None:
    systemd.notifier({})(systemd.STOPPING)
