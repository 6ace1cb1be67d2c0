"""The command line: `minik8s COMMAND`, one file a command, imported when it is asked for.

Exit codes: 0 done, 1 it could not be done (one line says why), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "server": "run the control plane, and an agent beside it",
    "agent": "run a node that joins a server",
    "get": "show objects",
    "create": "create objects from a file",
    "delete": "delete objects",
    "logs": "print a container's log",
    "exec": "run a command in a container",
    "token": "show the token that agents join with",
    "image": "import, list, pull and remove images on this node",
    "version": "print the version",
}
EXAMPLES = """examples:
  minik8s server                                   a cluster on this machine
  minik8s agent --server https://10.0.0.1:6443 --token TOKEN
  minik8s get pods -A -o wide
  minik8s token                                    what an agent on another machine needs
"""


class CommandError(Exception):
    """What a command could not do; the text says what to do next where it can."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="minik8s",
        description="A Kubernetes that fits in one Python program.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if given[:1] == [name]:
            importlib.import_module(f"minik8s.cli.{name}").add_arguments(command)
    options = parser.parse_args(given)
    try:
        code: int = importlib.import_module(f"minik8s.cli.{options.command}").run(options)
    except CommandError as error:
        print(f"minik8s {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code
