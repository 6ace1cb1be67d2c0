"""`minik8s reset`: what a server and an agent made on this machine is taken away, and counted."""

from __future__ import annotations

import argparse
import sys

from minik8s.cli import CommandError, connection
from minik8s.config import default_data_dir

EXAMPLES = """examples:
  minik8s reset                                    asks first
  minik8s reset --force --data-dir /tmp/m8s
"""
_SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("--data-dir", metavar="DIR", help=f"the data directory (default: {default_data_dir()})")
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")


def run(options: argparse.Namespace) -> int:
    from minik8s.reset import StillRuns, check, kinds_of, reset

    data = connection.data_dir(options).resolve()
    if not (data / "tls").exists() and not (data / "agent").exists():
        raise CommandError(f"nothing of minik8s is in {data}: see --data-dir")
    try:
        check(data)
        if not options.force:
            _ask(f"All pods on this machine end; {data} is removed, with the cluster's objects and what volumes keep there.")
        outcomes = reset(kinds_of(data))
    except StillRuns as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{error}") from None
    for each in outcomes:
        if each.removed or each.left:
            words = [f"{one} ({reason})" if reason else one for one, reason in each.left.items()]
            shown = ", ".join(words[:_SHOWN]) + (", ..." if len(words) > _SHOWN else "")
            print(f"{each.kind:<20}{each.removed} removed" + (f", {len(each.left)} left: {shown}" if each.left else ""))
    left = sum(len(each.left) for each in outcomes)
    print("nothing is left" if not left else f"{left} left")
    return 1 if left else 0


def _ask(warning: str) -> None:
    """CommandError unless the user says yes."""
    print(f"{warning}\nAre you sure you want to proceed? [y/N]: ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("aborted")
