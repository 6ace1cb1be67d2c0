"""The kubelet's HTTP API: logs, exec, attach, port-forward. Answers: golden/node/logs, the channel.k8s.io protocols (KEP-4006)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from minik8s.kubelet.channels import PROTOCOLS
from minik8s.kubelet.server import application

from .conftest import Stage
from .pods import container, pod

Session = aiohttp.ClientSession


@pytest.fixture
async def session(real_stage: Stage) -> AsyncIterator[Session]:
    """To the API of a kubelet that runs the pod `a`, whose container `c` stays and `done` has ended."""
    await real_stage.start()
    assert real_stage.kubelet is not None
    real_stage.add(pod(container(), container("done", "exit 3"), container("never", image="none/x:1"), restartPolicy="Never"))
    runner = web.AppRunner(application(real_stage.kubelet))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    while not real_stage.status().get("podIP"):
        await asyncio.sleep(0.001)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
        yield session
    await runner.cleanup()


def write_log(stage: Stage, name: str, *lines: str) -> None:
    path = stage.site.layout.pod_logs(pod()) / name / "0.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(f"2026-01-02T03:04:05Z stdout F {line}\n" for line in lines)


async def test_logs(session: Session, real_stage: Stage) -> None:
    write_log(real_stage, "c", "one", "two")
    async with session.get("/containerLogs/ns/a/c?tailLines=1&timestamps=true") as answer:
        assert await answer.text() == "2026-01-02T03:04:05Z two\n"
        assert answer.content_type == "text/plain"
    async with session.get("/containerLogs/ns/a/done") as answer:
        assert (answer.status, await answer.text()) == (200, "")


async def test_logs_of_a_container_that_was_removed(session: Session, real_stage: Stage) -> None:
    """As disk pressure does: its status tells that it ended, and which it was."""
    real_stage.add(pod(container("gone", "exit 0"), name="b", restartPolicy="Never"))
    assert real_stage.kubelet is not None
    while (worker := real_stage.kubelet.worker("ns", "b")) is None or worker.pod["status"]["phase"] != "Succeeded":
        await asyncio.sleep(0.001)
    await worker.sweep()
    async with session.get("/containerLogs/ns/b/gone") as answer:
        assert answer.status == 400
        assert (await answer.json())["message"] == "unable to retrieve container logs for fake://gone-0"


async def test_who_follows_a_log_may_leave(session: Session, real_stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    write_log(real_stage, "c", "one")
    async with session.get("/containerLogs/ns/a/c?follow=true") as answer:
        assert await answer.content.readline() == b"one\n"
        answer.close()
    for _ in range(5):
        await asyncio.sleep(0.01)
        write_log(real_stage, "c", "more")
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/containerLogs/ns/none/c", 404, 'pods "none" not found'),
        ("/containerLogs/ns/a/x", 404, 'container "x" not found in pod "a"'),
        ("/containerLogs/ns/a/c?previous=true", 400, 'previous terminated container "c" in pod "a" not found'),
        ("/containerLogs/ns/a/never", 400, 'container "never" in pod "a" is waiting to start: image can\'t be pulled'),
        ("/containerLogs/ns/a/c?tailLines=x", 400, "invalid literal for int() with base 10: 'x'"),
        ("/exec/ns/a/done?command=x", 400, 'container not found ("done")'),
        ("/exec/ns/a/c", 400, "you must specify at least one command for the container"),
        ("/portForward/ns/a?ports=0", 400, 'query parameter "ports" must name ports between 1 and 65535'),
    ],
)
async def test_what_cannot_be(session: Session, path: str, status: int, message: str) -> None:
    async with session.get(path) as answer:
        assert answer.status == status
        assert (await answer.json())["message"] == message


async def test_following_ends_with_the_container(session: Session, real_stage: Stage) -> None:
    write_log(real_stage, "c", "one")
    async with session.get("/containerLogs/ns/a/c?follow=true") as answer:
        assert await answer.content.readany() == b"one\n"
        write_log(real_stage, "c", "two")
        assert await answer.content.readany() == b"two\n"
        real_stage.api.delete_pod("ns", "a", 2)
        assert await answer.content.read() == b""


Messages = list[tuple[int, bytes]]


async def talk(session: Session, path: str, protocol: str, *send: tuple[int, bytes], keep: int = 0) -> Messages:
    """What comes back until the server closes (or, with `keep`, that many messages)."""
    got: Messages = []
    async with session.ws_connect(path, protocols=[protocol]) as socket:
        assert socket.protocol == protocol
        text = "base64" in protocol
        for channel, data in send:
            if text:
                await socket.send_str(str(channel) + base64.b64encode(data).decode())
            else:
                await socket.send_bytes(bytes([channel]) + data)
        async for message in socket:
            one = (int(message.data[0]), base64.b64decode(message.data[1:])) if text else (message.data[0], message.data[1:])
            got.append(one)
            if len(got) == keep:
                break
    return got


@pytest.mark.parametrize("protocol", [p for p in PROTOCOLS if "v4" in p or "v5" in p])
async def test_exec(session: Session, protocol: str) -> None:
    got = await talk(session, "/exec/ns/a/c?command=say&command=hi&command=x&stdout=true&stderr=true", protocol)
    assert got[:3] == [(1, b""), (1, b"say"), (2, b"hi")]
    status = orjson.loads(got[3][1])
    assert got[3][0] == 3
    assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


async def test_only_what_was_asked_for_comes(session: Session) -> None:
    got = await talk(session, "/exec/ns/a/c?command=say&command=hi&stderr=true", "v4.channel.k8s.io")
    assert [channel for channel, _ in got] == [2, 2, 3]


async def test_stdin_and_its_end(session: Session) -> None:
    path = "/exec/ns/a/c?command=cat&stdin=true&stdout=true"
    got = await talk(session, path, "v5.channel.k8s.io", (0, b"hello"), (255, b"\0"))
    assert got[1] == (1, b"hello")
    assert orjson.loads(got[-1][1])["status"] == "Success"
    assert await talk(session, path, "v4.channel.k8s.io", (0, b"hello"), keep=2) == [(1, b""), (1, b"hello")]


async def test_terminal_size(session: Session) -> None:
    path = "/exec/ns/a/c?command=cat&stdin=true&stdout=true&tty=true"
    size = b'{"Width":80,"Height":24}'
    wrong = (b"{}", b'{"Width":99999999999999999999,"Height":1}', b'{"Width":-1,"Height":1}', b'{"Width":1e400,"Height":1}')
    got = await talk(session, path, "v5.channel.k8s.io", *((4, each) for each in wrong), (4, size), (255, b"\0"))
    assert got[1] == (1, b"80x24")


async def test_text_that_is_no_base64_is_nobodys(session: Session) -> None:
    path = "/exec/ns/a/c?command=cat&stdin=true&stdout=true"
    async with session.ws_connect(path, protocols=["v4.base64.channel.k8s.io"]) as socket:
        for text in ("0a", "\u00b2aGk=", "x", "0" + base64.b64encode(b"hi").decode()):
            await socket.send_str(text)
        assert [(await socket.receive_str()) for _ in range(2)] == ["1", "1aGk="]


async def test_old_protocols_tell_failures_as_text(session: Session) -> None:
    got = await talk(session, "/exec/ns/a/c?command=say&stdout=true", "channel.k8s.io")
    assert got[-1] == (3, b"command terminated with non-zero exit code: exit status 1")


async def test_port_forward(session: Session) -> None:
    got = await talk(session, "/portForward/ns/a?ports=80,9", "v4.channel.k8s.io", (0, b"hello"), keep=6)
    assert sorted(got) == sorted(
        [(0, b"P\0"), (1, b"P\0"), (2, b"\x09\0"), (3, b"\x09\0"), (3, b"connection refused"), (0, b"hello")]
    )


async def test_the_rest(session: Session) -> None:
    async with session.get("/healthz") as answer:
        assert await answer.text() == "ok"
    async with session.get("/pods") as answer:
        pods: dict[str, Any] = await answer.json()
        assert [p["metadata"]["name"] for p in pods["items"]] == ["a"]
    async with session.get("/metrics") as answer:
        text = await answer.text()
        assert "kubelet_running_pods 1\n" in text
        assert 'kubelet_running_containers{container_state="running"} 1\n' in text


async def test_which_addresses_may_be_dialled(session: Session, real_stage: Stage) -> None:
    assert real_stage.kubelet is not None
    assert real_stage.kubelet.may_dial("10.0.0.9", 80)
    assert not real_stage.kubelet.may_dial("192.0.2.1", 22)
    assert not real_stage.kubelet.may_dial("127.0.0.1", 80)
