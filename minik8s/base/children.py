"""Child processes that belong to a process: started again when they end, ended with it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock

log = logging.getLogger(__name__)

STEADY = 60.0
"""Seconds after which a child that ends is started again as if it had never failed."""
PATIENCE = 10.0
"""Seconds that a child has to end in before it is killed."""
BACKOFF = Backoff(initial=0.5, maximum=30)


async def keep_running(name: str, arguments: Sequence[str], environment: Mapping[str, str], clock: Clock) -> None:
    """Runs a program until cancelled, again with back-off when it ends; cancelled, it ends it with SIGTERM, then SIGKILL."""
    failures = 0
    while True:
        started = clock.monotonic()
        process = await asyncio.create_subprocess_exec(*arguments, env=environment)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _end(name, process, clock)
            raise
        failures = 1 if clock.monotonic() - started > STEADY else failures + 1
        log.error("%s ended with exit code %s; it is started again", name, code)
        await clock.sleep(BACKOFF.delay(failures))


async def communicate(process: asyncio.subprocess.Process, given: bytes | None = None) -> tuple[bytes, bytes]:
    """As the process's own; who is cancelled meanwhile (a time limit, too) leaves no process behind."""
    try:
        return await process.communicate(given)
    except BaseException:
        await _kill(process)
        raise


async def ended(pid: int) -> None:
    """Returns when a process, anybody's, is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, end.set)
    try:
        await end.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _end(name: str, process: asyncio.subprocess.Process, clock: Clock) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with clock.timeout(PATIENCE):
            await process.wait()
    except TimeoutError:
        log.warning("%s does not end; it is killed", name)
        await _kill(process)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """One that has just ended is no error: raised in place of a cancellation, it would be taken for a fault of the work."""
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
