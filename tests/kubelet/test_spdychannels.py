"""exec, attach and port-forward as older clients ask for them: SPDY/3.1 (client-go's tools/remotecommand, protocols v1 to v4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import orjson
import pytest
from aiohttp import web

from minik8s.base import spdy
from minik8s.kubelet import spdychannels
from minik8s.kubelet.server import application

from .conftest import Stage
from .pods import pod

V4 = "v4.channel.k8s.io"
ALL = "v4.channel.k8s.io, v3.channel.k8s.io, v2.channel.k8s.io, channel.k8s.io"


@dataclass
class Client:
    """The client's side: streams by their kind."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: str
    numbers: dict[str, int] = field(default_factory=dict)
    said: dict[str, bytes] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    others: list[spdy.Frame] = field(default_factory=list)
    encoder: spdy.Encoder = field(default_factory=spdy.Encoder)
    decoder: spdy.Decoder = field(default_factory=lambda: spdy.Decoder(server=False))

    def open(self, *kinds: str, **headers: str) -> None:
        for kind in kinds:
            number = self.numbers[kind] = 2 * len(self.numbers) + 1
            self.writer.write(self.encoder.open(number, {"streamtype": kind, **headers}))

    def send(self, kind: str, data: bytes, *, last: bool = False) -> None:
        self.writer.write(spdy.data(self.numbers[kind], data, last=last))

    async def until(self, *ended: str) -> None:
        """Reads until these streams have ended, or all has."""
        kinds = {number: kind for kind, number in self.numbers.items()}
        async with asyncio.timeout(10):
            while not self.ended >= set(ended) and (data := await self.reader.read(1 << 16)):
                for frame in self.decoder.feed(data):
                    if isinstance(frame, spdy.Data):
                        kind = kinds[frame.stream]
                        self.said[kind] = self.said.get(kind, b"") + frame.data
                        self.ended |= {kind} if frame.last else set()
                    else:
                        self.others.append(frame)

    @property
    def status(self) -> dict[str, object]:
        return dict(orjson.loads(self.said["error"]))


@dataclass
class Kubelet:
    port: int
    clients: list[Client] = field(default_factory=list)

    async def connect(self, path: str, versions: str = V4) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        writer.write(f"{head}X-Stream-Protocol-Version: {versions}\r\n\r\n".encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.clients.append(Client(reader, writer, answer))
        return self.clients[-1]


@pytest.fixture
async def kubelet(real_stage: Stage) -> AsyncIterator[Kubelet]:
    await real_stage.start()
    assert real_stage.kubelet is not None
    real_stage.add(pod())
    runner = web.AppRunner(application(real_stage.kubelet))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    while not real_stage.status().get("podIP"):
        await asyncio.sleep(0.001)
    made = Kubelet(runner.addresses[0][1])
    yield made
    for client in made.clients:
        client.writer.close()
    await runner.cleanup()


async def test_exec(kubelet: Kubelet) -> None:
    client = await kubelet.connect("/exec/ns/a/c?command=say&command=hi&command=x&stdout=true&stderr=true", ALL)
    assert client.head.startswith("HTTP/1.1 101")
    assert f"X-Stream-Protocol-Version: {V4}\r\n" in client.head
    client.open("error", "stdout", "stderr")
    await client.until("error", "stdout", "stderr")
    assert (client.said["stdout"], client.said["stderr"]) == (b"say", b"hi")
    assert client.status["details"] == {"causes": [{"reason": "ExitCode", "message": "3"}]}


async def test_stdin_ends_and_the_size_is_told(kubelet: Kubelet) -> None:
    """Half a stream ends here by itself; a size ends with a newline, as Go's encoder writes it."""
    client = await kubelet.connect("/exec/ns/a/c?command=cat&stdin=true&stdout=true&tty=true")
    client.open("error", "stdin", "stdout", "resize")
    client.send("resize", b'{"Width":80,"Height":24}\n')
    client.send("stdin", b"hello")
    client.send("stdin", b" you", last=True)
    await client.until("error", "stdout")
    assert client.said["stdout"] == b"80x24hello you"
    assert client.status["status"] == "Success"
    client.writer.close()


async def test_attach(kubelet: Kubelet) -> None:
    client = await kubelet.connect("/attach/ns/a/c?stdout=true")
    client.open("error", "stdout")
    client.writer.close()  # it leaves
    await client.until("error")
    assert client.said == {}


async def test_old_protocols_tell_failures_as_text(kubelet: Kubelet) -> None:
    client = await kubelet.connect("/exec/ns/a/c?command=say&stdout=true", "v2.channel.k8s.io")
    client.open("error", "stdout")
    await client.until("error")
    assert client.said["error"] == b"command terminated with non-zero exit code: exit status 1"


async def test_pings_and_what_is_nobodys(kubelet: Kubelet) -> None:
    client = await kubelet.connect("/exec/ns/a/c?command=cat&stdin=true&stdout=true")
    ping = b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01"
    client.open("odd", "error", "stdin")
    client.writer.write(ping + spdy.data(99, b"?"))
    client.open("stdout")
    client.send("odd", b"?")
    client.writer.write(spdy.reset(client.numbers["stdin"]))
    await client.until("error", "stdout")
    assert client.status["status"] == "Success"


async def test_another_protocol(kubelet: Kubelet) -> None:
    refused = await kubelet.connect("/exec/ns/a/c?command=cat&stdout=true", "v9.channel.k8s.io")
    assert refused.head.startswith("HTTP/1.1 400")
    client = await kubelet.connect("/exec/ns/a/c?command=cat&stdout=true")
    client.writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await client.until("error")


async def test_a_client_that_opens_nothing(kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spdychannels, "CREATION", 0.01)
    client = await kubelet.connect("/exec/ns/a/c?command=cat&stdin=true&stdout=true")
    client.open("error")
    await client.until("error")
    assert client.reader.at_eof()


async def test_port_forward(kubelet: Kubelet) -> None:
    client = await kubelet.connect("/portForward/ns/a", "portforward.k8s.io")
    client.open("error", "data", port="80", requestid="0")
    client.send("data", b"hello", last=True)
    await client.until("error", "data")
    assert (client.said["data"], client.said["error"]) == (b"hello", b"")
