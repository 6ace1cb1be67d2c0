"""When garbage is collected: never in the middle of something.

JSON trees have no cycles, so reference counts free nearly all; what is left are cycles that live shortly (an exception and its
frames). Automatic collection is off. A timer, quick while much is made and slow while little is, collects what is young and freezes
what survived, so that no collection ever walks the long-lived trees again (20,000 decoded pods: 700 ms). Cycles that were frozen
while they were still in use are found by a full collection, which waits until the process has nothing else to do.
"""

from __future__ import annotations

import gc
import sys
import time

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


def prepare() -> None:
    """Before anything else: a start makes much and frees nothing."""
    gc.disable()
    sys.setswitchinterval(SWITCH_SECONDS)


async def tend(clock: Clock) -> None:
    """Collects for as long as the process runs."""
    gc.freeze()
    frozen, pause = 0, QUICK
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
