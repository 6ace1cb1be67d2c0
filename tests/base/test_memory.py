"""When garbage is collected, on a clock that jumps: only young objects while there is work, all of them when there is none."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from weakref import ref

import pytest

from minik8s.base import memory
from minik8s.base.tasks import Owner
from minik8s.testing.clock import VirtualClock


class Ring:
    """Garbage that no reference count frees."""

    def __init__(self) -> None:
        self.itself = self


async def test_young_rings_are_collected_when_there_are_many(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "YOUNG", 1000)
    owner = Owner("test")
    owner.start(memory.tend(clock), "memory")
    await clock.sleep(1)
    first = ref(Ring())
    kept = [[] for _ in range(2000)]
    await clock.sleep(memory.SLOW)
    assert first() is None
    assert gc.get_freeze_count() > len(kept)
    await owner.stop()


async def test_a_ring_that_was_frozen_waits_for_quiet(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "YOUNG", 1000)
    monkeypatch.setattr(memory, "OLD", 1)
    ring = Ring()
    watched = ref(ring)
    owner = Owner("test")
    owner.start(memory.tend(clock), "memory")
    await clock.sleep(1)  # it is frozen
    del ring
    kept = [[] for _ in range(2000)]
    monkeypatch.setattr(memory, "IDLE", 0)
    await clock.sleep(10 * memory.SLOW)
    assert watched() is not None
    monkeypatch.setattr(memory, "IDLE", 1e9)
    await clock.sleep(2 * memory.SLOW)
    assert watched() is None
    assert kept
    await owner.stop()


async def test_free_pages_are_given_back_while_it_is_quiet(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    monkeypatch.setattr(memory, "_giver", lambda: lambda: given.append(clock.monotonic()))
    monkeypatch.setattr(memory, "IDLE", 0)
    owner = Owner("test")
    owner.start(memory.tend(clock), "memory")
    await clock.sleep(10 * memory.SLOW)
    assert given == []
    monkeypatch.setattr(memory, "IDLE", 1e9)
    await clock.sleep(2 * memory.SLOW)
    assert len(given) == 2
    await owner.stop()


def test_aiohttp_reads_no_trust_store_at_its_import() -> None:
    script = (
        "import os; from minik8s.base import memory; memory.prepare(); from aiohttp import connector; "
        "print(len(connector._SSL_CONTEXT_VERIFIED.get_ca_certs()), 'SSL_CERT_FILE' in os.environ)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "SSL_CERT_FILE"}
    found = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["0", "False"]


def test_what_is_left_out_says_so() -> None:
    program = """
import inspect, sys
from minik8s.base import memory
memory.prepare()
import html
from cryptography.hazmat.primitives import serialization
assert html.escape("<") == "&lt;"
assert inspect.getmodule(memory.prepare) is memory
try:
    serialization.load_ssh_private_key(b"", None)
except ImportError:
    sys.exit(0)
sys.exit(1)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_of_libraries_nobody_uses_is_not_held() -> None:
    """In a process of its own: other tests' threads map what they run."""
    program = """
import sys
from minik8s.base import memory
memory.prepare()
import sqlite3, ssl
from cryptography import x509
def held():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssFile"))
before, give = held(), memory._giver()
give()
print(before - held())
give()
print(before - held())
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    first, then = map(int, told.split())  # kB
    assert first < 1000, "it may still be loading"
    assert then > 8000
