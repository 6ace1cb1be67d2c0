"""The command line: `minik8s COMMAND`, one file a command, imported when it is asked for.

A command's module has `add_arguments(parser)` and `run(options) -> exit code`. Exit codes: 0 done, 1 it could not be done (one line
says why), 2 wrong usage (one line too); `exec` ends as its command does.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

COMMANDS = {
    "server": "run the control plane, and an agent beside it",
    "agent": "run a node that joins a server",
    "get": "show objects",
    "apply": "set objects to what a file says",
    "create": "create objects from a file",
    "delete": "delete objects",
    "logs": "print a container's log",
    "exec": "run a command in a container",
    "token": "show the token that agents join with",
    "image": "import, list, pull and remove images on this node",
    "reset": "take away what a server and an agent made on this machine",
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


class UsageError(Exception):
    """A command that was given what it can't understand."""


class Parser(argparse.ArgumentParser):
    """argparse, saying in one line what is wrong. What stands after `--` is kept apart, for `exec`."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else ""
    try:
        if name not in COMMANDS:
            return _overview(given)
        module = importlib.import_module(f"minik8s.cli.{name}")
        parser = Parser(
            prog=f"minik8s {name}",
            description=COMMANDS[name].capitalize() + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(parser)
        code: int = module.run(_parse(parser, given[1:], takes_command=name == "exec"))
        sys.stdout.flush()
        return code
    except UsageError as error:
        return _say(f"minik8s {name}" if name in COMMANDS else "minik8s", error, 2)
    except CommandError as error:
        return _say(f"minik8s {name}", error, 1)
    except BrokenPipeError:  # whoever read the output has seen enough; nor may the interpreter's last flush complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _overview(given: Sequence[str]) -> int:
    """What is not a command: help, or a mistake."""
    parser = Parser(
        prog="minik8s",
        usage="minik8s COMMAND ...",
        description="A Kubernetes that fits in one Python program.",
        epilog="commands:\n"
        + "".join(f"  {name:<10}{text}\n" for name, text in COMMANDS.items())
        + f"\n{EXAMPLES}\nminik8s COMMAND --help tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if not given or given[0] in ("-h", "--help", "help"):
        parser.print_help()
        return 0 if given else 2
    parser.error(f"unknown option {given[0]}" if given[0].startswith("-") else f"unknown command {given[0]!r}")


def _parse(parser: Parser, given: Sequence[str], *, takes_command: bool) -> argparse.Namespace:
    """Options may stand before, between and after names."""
    rest = None
    if takes_command and "--" in given:
        at = list(given).index("--")
        given, rest = given[:at], given[at + 1 :]
    options = parser.parse_intermixed_args(given)
    options.after_dashes = rest
    return options


def _say(who: str, error: Exception, code: int) -> int:
    print(f"{who}: {error}", file=sys.stderr)
    return code
