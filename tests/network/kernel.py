"""Nodes, pods and an outside world as network namespaces, made and removed by a test (root)."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minik8s.network.rtnetlink import inside

HERE = Path(__file__).parent


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


class Namespace:
    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"/run/netns/{name}"
        self.children: list[subprocess.Popen[str]] = []
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")

    def run(self, *command: str) -> str:
        return subprocess.run(["ip", "netns", "exec", self.name, *command], check=True, capture_output=True, text=True).stdout

    def start(self, *arguments: str, wait: bool = True) -> subprocess.Popen[str]:
        """A Python program inside; returns when it has said its first line, unless told not to wait for that."""
        child = subprocess.Popen(
            ["ip", "netns", "exec", self.name, sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.children.append(child)
        if wait:
            said(child)
        return child

    def echo(self, name: str, port: int) -> None:
        self.start(str(HERE / "echo_child.py"), name, str(port))

    def socket(self, kind: int = socket.SOCK_STREAM, timeout: float = 2) -> socket.socket:
        with inside(self.path):
            made = socket.socket(socket.AF_INET, kind)
        made.settimeout(timeout)
        return made

    def ask(self, address: str, port: int, timeout: float = 2) -> str:
        """What `echo` there says over TCP; the error's name where nothing does."""
        with self.socket(timeout=timeout) as client:
            try:
                client.connect((address, port))
                return client.recv(100).decode()
            except OSError as error:
                return type(error).__name__

    def ask_udp(self, address: str, port: int, message: bytes = b"?", timeout: float = 2) -> bytes:
        with self.socket(socket.SOCK_DGRAM, timeout) as client:
            client.connect((address, port))
            client.send(message)
            return client.recv(4096)

    def end_children(self, but: subprocess.Popen[str] | None = None) -> None:
        for child in self.children:
            if child is but:
                continue
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    pipe.close()
        self.children = [child for child in self.children if child is but]

    def remove(self) -> None:
        self.end_children()
        ip("netns", "del", self.name)


def said(child: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert child.stdout
    line = child.stdout.readline()
    assert line, "it ended"
    return line


class Node(Namespace):
    """`program` is the node's network, proxy and DNS; `objects` are told to it as a watch would."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name)
        self.directory = directory
        self.resolv_conf = directory.with_suffix(".resolv.conf")
        self.resolv_conf.write_text("")

    def begin(self, *, wait: bool = True) -> None:
        arguments = (str(HERE / "node_child.py"), self.name, str(self.directory), str(self.resolv_conf))
        self.program = self.start(*arguments, wait=wait)

    def call(self, **command: Any) -> Any:
        assert self.program.stdin
        self.program.stdin.write(json.dumps(command) + "\n")
        self.program.stdin.flush()
        return json.loads(said(self.program))

    def end(self, how: str = "stop") -> None:
        assert self.program.stdin
        self.program.stdin.write(json.dumps({how: True}) + "\n")
        self.program.stdin.flush()
        assert self.program.wait(10) == 0


class World:
    """Two nodes on one link, `a` and `b`, and `outside` on a link of its own with `a`."""

    def __init__(self, directory: Path) -> None:
        self.prefix = f"mk{os.getpid()}"
        self.namespaces: list[Namespace] = []
        self._number = itertools.count()
        self.a = self._node("a", directory)
        self.b = self._node("b", directory)
        self.outside = self._add(Namespace(f"{self.prefix}-out"))
        self._link(self.a, "172.31.0.1/24", self.b, "172.31.0.2/24")
        self._link(self.a, "192.168.77.1/24", self.outside, "192.168.77.2/24")
        self.nodes = [self.a, self.b]
        self.pods: list[tuple[Node, str, Pod]] = []
        self.told: dict[tuple[str, str], dict[str, Any]] = {}

    def _node(self, name: str, directory: Path) -> Node:
        node = Node(f"{self.prefix}-{name}", directory / name)
        self.namespaces.append(node)
        return node

    def _add(self, namespace: Namespace) -> Namespace:
        self.namespaces.append(namespace)
        return namespace

    def _link(self, one: Namespace, address: str, other: Namespace, other_address: str) -> None:
        name = f"link{next(self._number)}"
        ip("-n", one.name, "link", "add", name, "type", "veth", "peer", "name", name, "netns", other.name)
        for namespace, its in ((one, address), (other, other_address)):
            ip("-n", namespace.name, "addr", "add", its, "dev", name)
            ip("-n", namespace.name, "link", "set", name, "up")

    def tell(self, kind: str, plural: str, *objects: dict[str, Any]) -> None:
        for node in self.nodes:
            node.call(objects=[[kind, plural, obj] for obj in objects])
        for obj in objects:
            self.told[plural, obj["metadata"]["name"]] = obj

    def pod(self, node: Node, name: str, port: int = 0) -> Pod:
        pod = Pod(f"{self.prefix}-{name}")
        self.pods.append((node, name, pod))
        found = node.call(attach=[name, pod.path])
        assert isinstance(found, list), found
        pod.address = found[0]
        if port:
            pod.echo(name, port)
        return pod

    def clear(self) -> None:
        """As before the first pod and Service."""
        for (plural, _), obj in self.told.items():
            if plural != "nodes":
                for node in self.nodes:
                    node.call(objects=[["DELETED", plural, obj]])
        self.told.clear()
        for node, name, pod in self.pods:
            node.call(detach=name)
            pod.remove()
        self.pods.clear()
        for namespace in (*self.nodes, self.outside):
            namespace.end_children(but=getattr(namespace, "program", None))

    def remove(self) -> None:
        for _, _, pod in self.pods:
            pod.remove()
        for namespace in reversed(self.namespaces):
            namespace.remove()


class Pod(Namespace):
    address = ""


def eventually(check: Callable[[], Any], wanted: Any, seconds: float = 3) -> None:
    """Waits for another process to have taken in what it was told."""
    deadline = time.monotonic() + seconds
    while (found := check()) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
