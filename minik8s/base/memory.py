"""When garbage is collected: never in the middle of something.

JSON trees have no cycles, so reference counts free nearly all; what is left are cycles that live shortly (an exception and its
frames). Automatic collection is off. A timer, quick while much is made and slow while little is, collects what is young and freezes
what survived, so that no collection ever walks the long-lived trees again (20,000 decoded pods: 700 ms). Cycles that were frozen
while they were still in use are found by a full collection, which waits until the process has nothing else to do.
"""

from __future__ import annotations

import ctypes
import gc
import mimetypes
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from minik8s.base.clock import Clock

QUICK, SLOW = 0.25, 30.0
"""Seconds between two looks at what is young."""
YOUNG = 5_000
"""Tracked objects made and not freed since the last look, from which on collecting them is worth it."""
OLD = 100_000
"""Objects frozen since the last full collection, from which on another one is."""
IDLE = 0.02
"""The share of a core below which the process has nothing else to do."""
SWITCH_SECONDS = 0.0005
"""How long the loop's thread may keep SQLite's waiting for the interpreter: with the default of 5 ms a busy loop lets through a sixth
of the writes."""
_SPARING = {
    # The system's trust store, for requests that don't say whom they trust. Ours all do say.
    "SSL_CERT_FILE": os.devnull,
    # Lists of hooks, which we hardly use, in C++: its runtime library is 1 MB.
    "FROZENLIST_NO_EXTENSIONS": "1",
}
"""The environment in which aiohttp is imported."""
_SMAPS = Path("/proc/self/smaps")
MADV_DONTNEED = 4
_ZSTD = "backports.zstd"
"""What aiohttp imports where it is installed, for a content encoding that the API doesn't have; layers of images need it."""

_LEFT_OUT = (
    "html.entities",  # the names of HTML's characters, to read them: aiohttp only writes
    "cryptography.hazmat.primitives.serialization.ssh",  # keys and certificates of SSH, and old ciphers for them
)
"""Modules that others import for what we never ask of them; 0.8 MB. Who does ask, gets a TypeError or ImportError."""


def prepare() -> None:
    """Before anything else: a start makes much and frees nothing."""
    gc.disable()
    sys.setswitchinterval(SWITCH_SECONDS)
    for name in _LEFT_OUT:
        module = sys.modules[name] = ModuleType(name)
        module.__dict__["__getattr__"] = _attribute
    _import_aiohttp()


def _attribute(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    return _left_out


def _left_out(*_: object, **__: object) -> None:
    raise ImportError(f"left out by {__name__}")


def _import_aiohttp() -> None:
    """aiohttp as it takes 4 MB less: see `_SPARING`; nor do we serve files, whose types it would read from the system's tables."""
    mimetypes.knownfiles.clear()
    before = dict(os.environ)
    os.environ.update(_SPARING)
    sys.modules[_ZSTD] = None  # type: ignore[assignment]  # the documented way to have its import fail
    try:
        import aiohttp  # noqa: F401
    finally:
        del sys.modules[_ZSTD]
        for name in _SPARING:
            del os.environ[name]
            if name in before:
                os.environ[name] = before[name]


async def tend(clock: Clock) -> None:
    """Collects for as long as the process runs."""
    give_back = _giver()
    gc.freeze()
    frozen, pause = OLD, QUICK  # what imports left behind (classes made twice) is worth a full one
    while True:
        before = time.process_time()
        await clock.sleep(pause)
        idle = time.process_time() - before < IDLE * pause
        young = gc.get_count()[0]
        pause = QUICK if young >= YOUNG else min(pause * 2, SLOW)
        if young >= YOUNG:
            gc.collect(0)
            gc.freeze()
            frozen += young
        elif idle and frozen >= OLD:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            frozen = 0
        if idle and pause == SLOW:
            give_back()


def _giver() -> Callable[[], object]:
    """What gives back to the system, in some milliseconds: the C library's free pages (glibc keeps nearly all), and the code and constants
    of libraries, of which a program at rest uses a part. What it needs again the system maps again, from its own cache: under 1 ms for all.
    Of libraries only what was there when it was last called: what a thread is just loading is seen in parts that may become data.
    """
    libc = ctypes.CDLL(None)
    trim, madvise = getattr(libc, "malloc_trim", None), libc.madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    known: set[tuple[int, int]] = set()

    def give() -> None:
        nonlocal known
        if trim is not None:
            trim(0)
        before, known = known, _read_only()
        for start, end in known & before:
            madvise(start, end - start, MADV_DONTNEED)  # advice: what the kernel doesn't take stays

    return give


def _read_only() -> set[tuple[int, int]]:
    """Where files lie in memory as they are on disk, to be read or run, from and to."""
    found = set()
    mapping: tuple[int, int] | None = None
    for line in _SMAPS.read_text().splitlines():
        match line.split(maxsplit=5):
            case [addresses, access, _, _, _, *path] if not addresses.endswith(":"):
                start, end = addresses.split("-")
                of_file = access in ("r-xp", "r--p") and path and path[0].startswith("/")
                mapping = (int(start, 16), int(end, 16)) if of_file else None
            case ["Anonymous:", "0", _] if mapping:  # else the loader has written addresses into it, which no file has
                found.add(mapping)
    return found
