"""A server on real time and a real port, in a thread of the test's process: for kubectl, Helm and clients in other languages.

It is what `minik8s server` runs, on a memory store, on loopback, with simulated nodes instead of an agent.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import uvloop

from minik8s import config
from minik8s.base.clock import RealClock
from minik8s.server import start

ADVERTISED = "192.0.2.1"
"""Where the Service `kubernetes` leads (an address of RFC 5737): endpoints can't be on loopback, and no simulated pod calls it."""


@dataclass(frozen=True, slots=True)
class RealCluster:
    """`kubeconfig` is a file (mode 0600) of an administrator; `KUBECONFIG` in the environment of a child is all a client needs."""

    url: str
    kubeconfig: Path


@contextmanager
def running(directory: Path, *, nodes: int = 1, seed: int = 0) -> Iterator[RealCluster]:
    """A server with its data in `directory`, until the block is left. What hinders its start is raised here."""
    port = _free_port()
    flags = ["--data-dir", str(directory / "server"), "--datastore-endpoint", "memory", "--disable-agent"]
    flags += ["--bind-address", "127.0.0.1", "--https-listen-port", str(port), "--advertise-address", ADVERTISED]
    flags += ["--simulated-nodes", str(nodes)]
    parser = argparse.ArgumentParser()
    config.add_arguments(parser, config.SERVER)
    options = config.load(config.SERVER, parser.parse_args(flags), environment={})

    rng = Random(seed)  # noqa: S311 (a seeded test)

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            await start(options, RealClock(), rng, stack)
            started.set()
            await end.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                loops.append(runner.get_loop())
                runner.run(serve())
        except BaseException as error:  # told to the test, which waits for `started`
            failures.append(error)
            started.set()

    started, end = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    failures: list[BaseException] = []
    thread = threading.Thread(target=run, name="minik8s server", daemon=True)
    thread.start()
    started.wait()
    try:
        if not failures:
            yield RealCluster(f"https://127.0.0.1:{port}", directory / "server" / "admin.kubeconfig")
    finally:
        if thread.is_alive():
            loops[0].call_soon_threadsafe(end.set)
        thread.join()
    if failures:
        raise failures[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
