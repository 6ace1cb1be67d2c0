"""A real `minik8s server` in a process of its own, and clients of it: what tests/e2e/test_server.py holds in its hands."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers.ports import free_port

MINIK8S = [sys.executable, "-m", "minik8s"]
START_SECONDS = 60


def kubectl_program() -> str | None:
    """kubectl of the virtual environment, else that of the machine."""
    beside = Path(sys.executable).with_name("kubectl")
    return str(beside) if beside.exists() else shutil.which("kubectl")


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Server:
    """The server on `data`. `start` returns when it is ready."""

    data: Path
    flags: list[str] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def arguments(self) -> list[str]:
        own = [
            "--data-dir",
            str(self.data),
            "--bind-address",
            "127.0.0.1",
            "--https-listen-port",
            str(self.port),
            "--disable-agent",
        ]
        return [*MINIK8S, "server", *own, *self.flags]

    @property
    def log(self) -> str:
        return self.data.with_suffix(".log").read_text()

    def start(self) -> None:
        with self.data.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(self.arguments, stdout=log, stderr=log, env=environment())
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            try:
                if self.ask("GET", "/readyz").status == 200:
                    return
            except OSError:
                time.sleep(0.05)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def start_refused(self) -> tuple[int, list[str]]:
        """Exit code and lines on stderr of a start that can't succeed."""
        done = subprocess.run(self.arguments, capture_output=True, text=True, timeout=30, check=False, env=environment())
        return done.returncode, done.stderr.splitlines()

    def ask(self, method: str, path: str, body: bytes | Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Asks as the admin, over the unix socket."""
        link = http.client.HTTPConnection("minik8s", timeout=30)
        link.sock = socket.socket(socket.AF_UNIX)
        link.sock.settimeout(30)
        try:
            link.sock.connect(str(self.data / "api.sock"))
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            link.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            answer = link.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read().decode())
        finally:
            link.close()

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        program = kubectl_program()
        assert program is not None
        line = [
            program,
            "--kubeconfig",
            str(self.data / "admin.kubeconfig"),
            "--cache-dir",
            str(self.data / "cache"),
            *arguments,
        ]
        done = subprocess.run(line, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done


def environment() -> dict[str, str]:
    """Ours without what would configure a server or a client."""
    return {name: value for name, value in os.environ.items() if name != "KUBECONFIG" and not name.startswith("MINIK8S_")}
