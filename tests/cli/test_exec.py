"""exec over `v5.channel.k8s.io` (KEP-4006), logs, and the images of a node: against small servers that answer as the real ones."""

import asyncio
import json
import os
import pty
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main"}, {"name": "side"}]}}


@dataclass
class Fake:
    """What listens on DATA/api.sock and DATA/agent/agent.sock, and what it was asked."""

    data: Path
    asked: list[Any] = field(default_factory=list)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/v1/namespaces/default/pods/p", self.pod)
        app.router.add_get("/api/v1/namespaces/default/pods/p/log", self.log)
        app.router.add_get("/api/v1/namespaces/default/pods/p/exec", self.exec)
        app.router.add_route("*", "/images{rest:.*}", self.images)
        return app

    async def pod(self, _: web.Request) -> web.Response:
        return web.json_response(POD)

    async def log(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        answer = web.StreamResponse()
        await answer.prepare(request)
        for chunk in (b"one\n", b"tw", b"o\n"):
            await answer.write(chunk)
            await asyncio.sleep(0.01)
        return answer

    async def images(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path, dict(request.query)))
        if request.query.get("name") == "none":
            return web.json_response({"message": "no image none"}, status=404)
        image = {"id": "sha256:" + "a" * 64, "tags": ["app:1"], "digests": [], "size": 1_500_000}
        return web.json_response({"images": [image], "references": ["app:1"], "id": "sha256:1"})

    async def exec(self, request: web.Request) -> web.StreamResponse:
        """Runs one of a few made-up commands."""
        self.asked.append(request.query.getall("command"))
        command = request.query["command"]
        if command == "refused":
            return web.json_response({"kind": "Status", "message": "container not found", "code": 400}, status=400)
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"], autoping=command != "fails")
        await socket.prepare(request)
        status: dict[str, Any] = {"status": "Success"}
        if command == "both":
            await socket.send_bytes(b"\x01to stdout\n")
            await socket.send_bytes(b"\x02to stderr\n")
        elif command == "count":
            total = 0
            async for message in socket:
                if message.type is not WSMsgType.BINARY or message.data == b"\xff\x00":
                    break
                total += len(message.data) - 1
            await socket.send_bytes(b"\x01" + str(total).encode())
        elif command == "big":
            await socket.send_bytes(b"\x01" + b"x" * 300_000)
        elif command == "fails":
            await socket.ping()  # what waits is asked whether it is there
            while (await socket.receive()).type is not WSMsgType.PONG:
                continue
            causes = [{"reason": "ExitCode", "message": "42"}]
            status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
        elif command == "size":
            await socket.send_bytes(b"\x01" + (await socket.receive()).data[1:] + b"\r\n")
            await socket.send_bytes(b"\x01key " + (await socket.receive()).data[1:])
        elif command == "lost":
            await socket.close()
            return socket
        await socket.send_bytes(b"\x03" + json.dumps(status).encode())
        await socket.close()
        return socket


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    made = Fake(tmp_path)
    (tmp_path / "agent").mkdir()

    async def serve() -> None:
        runner = web.AppRunner(made.application())
        await runner.setup()
        for path in ("api.sock", "agent/agent.sock"):
            await web.UnixSite(runner, str(tmp_path / path)).start()
        ready.set()
        await end.wait()
        await runner.cleanup()

    ready, end, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait()
    yield made
    loop.call_soon_threadsafe(end.set)
    thread.join()
    loop.close()


def command(fake: Fake, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    line = [sys.executable, "-m", "minik8s", *arguments]
    environment = {**os.environ, "MINIK8S_DATA_DIR": str(fake.data)}
    environment.pop("KUBECONFIG", None)
    done = subprocess.run(line, input=stdin, capture_output=True, env=environment, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


SEVERAL = b'Defaulted container "main" out of: main, side\n'


def test_outputs_and_words(fake: Fake) -> None:
    assert command(fake, "exec", "p", "-c", "side", "--", "both", "-i", "--", "x y") == (0, b"to stdout\n", b"to stderr\n")
    assert fake.asked == [["both", "-i", "--", "x y"]]


@pytest.mark.parametrize(
    ("name", "code", "out", "err"),
    [
        ("fails", 42, b"", b""),
        ("big", 0, b"x" * 300_000, b""),
        ("lost", 1, b"", b"minik8s exec: the connection was lost before the command ended\n"),
        ("refused", 1, b"", b"minik8s exec: container not found\n"),
    ],
)
def test_how_it_ends(fake: Fake, name: str, code: int, out: bytes, err: bytes) -> None:
    assert command(fake, "exec", "p", "--", name) == (code, out, SEVERAL + err)


@pytest.mark.parametrize("size", [0, 1, 130, 70_000, 3_000_000])
def test_stdin_is_passed_on_to_its_end(fake: Fake, size: int) -> None:
    assert command(fake, "exec", "-i", "p", "-c", "main", "--", "count", stdin=b"y" * size) == (0, str(size).encode(), b"")


def test_stdin_may_be_a_file(fake: Fake) -> None:
    (fake.data / "in").write_bytes(b"z" * 100_000)
    environment = {**os.environ, "MINIK8S_DATA_DIR": str(fake.data)}
    environment.pop("KUBECONFIG", None)
    with (fake.data / "in").open("rb") as stdin:
        line = [sys.executable, "-m", "minik8s", "exec", "-i", "p", "-c", "main", "--", "count"]
        assert subprocess.run(line, stdin=stdin, capture_output=True, env=environment, check=True).stdout == b"100000"


def test_a_terminal(fake: Fake) -> None:
    """Its size is told first; keys arrive as they are."""
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {**os.environ, "MINIK8S_DATA_DIR": str(fake.data), "KUBECONFIG": ""}
        os.execve(
            sys.executable, [sys.executable, "-m", "minik8s", "exec", "-it", "p", "-c", "main", "--", "size"], environment
        )
    seen = b""
    while b"}" not in seen and select.select([terminal], [], [], 20)[0]:
        seen += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    while b"key" not in seen and select.select([terminal], [], [], 20)[0]:
        seen += os.read(terminal, 1000)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, seen
    assert b'"Width": ' in seen
    assert b"key \x03" in seen


def test_logs(fake: Fake) -> None:
    assert command(fake, "logs", "pod/p", "-f", "--tail", "3", "--since", "2m", "-p") == (0, b"one\ntwo\n", SEVERAL)
    asked = {"container": "main", "follow": "true", "previous": "true", "tailLines": "3", "sinceSeconds": "120"}
    assert fake.asked == [asked]


def test_images(fake: Fake) -> None:
    assert command(fake, "image", "ls") == (0, b"IMAGE   SIZE    ID\napp:1   1.5MB   aaaaaaaaaaaa\n", b"")
    assert command(fake, "image", "import", "a.tar") == (0, b"imported app:1\n", b"")
    assert command(fake, "image", "pull", "app:1") == (0, b"pulled app:1 (sha256:1)\n", b"")
    assert command(fake, "image", "rm", "app:1") == (0, b"removed app:1\n", b"")
    assert command(fake, "image", "rm", "none") == (1, b"", b"minik8s image: no image none\n")
    assert fake.asked[1:4] == [
        ("POST", "/images/import", {"path": str(Path("a.tar").absolute())}),
        ("POST", "/images/pull", {"name": "app:1"}),
        ("DELETE", "/images", {"name": "app:1"}),
    ]


def test_the_token(fake: Fake) -> None:
    (fake.data / "token").write_text("K10server\n")
    (fake.data / "agent-token").write_text("K10agent\n")
    assert command(fake, "token") == (0, b"K10agent\n", b"")
    assert command(fake, "token", "--server") == (0, b"K10server\n", b"")
