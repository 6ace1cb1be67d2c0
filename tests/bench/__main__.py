"""`make bench`: how fast minik8s is, as ratios to what a bare aiohttp server does in the same minutes.

    python -m tests.bench [NAME ...] [--seconds N]

Without names every bench runs that this machine can run. A figure stands with its ratio and the target that it must reach; the
program's exit code is 1 where one is missed. Yardstick and server run side by side; what another program takes of the machine they
both lack, so judge by the ratios and by the CPU time for each request.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys

import uvloop

from tests.bench import at_rest, many, pods, requests, scheduling, starting, watchers
from tests.bench.figures import Figure

BENCHES = {
    "requests": requests.measure,
    "watchers": watchers.measure,
    "scheduling": scheduling.measure,
    "starting": starting.measure,
    "rest": at_rest.measure,
    "pods": pods.measure,
    "many": many.measure,
}


async def main(names: list[str], seconds: float) -> int:
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    figures: list[Figure] = []
    for name in names or BENCHES:
        print(f"\n{name}", flush=True)
        async for figure in BENCHES[name](seconds):
            print(f"  {figure}", flush=True)
            figures.append(figure)
    missed = [figure.name for figure in figures if figure.missed]
    print(f"\n{len(figures)} figures" + (f", missed: {', '.join(missed)}" if missed else ", none missed"))
    return 1 if missed else 0


parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures minik8s against a bare aiohttp server.")
parser.add_argument("names", nargs="*", choices=[*BENCHES, []], metavar="NAME", help=f"of {', '.join(BENCHES)} (default: all)")
parser.add_argument("--seconds", type=float, default=5, help="how long each rate is measured (default: 5)")
arguments = parser.parse_args()
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    sys.exit(runner.run(main(arguments.names, arguments.seconds)))
