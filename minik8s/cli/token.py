"""`minik8s token`."""

from __future__ import annotations

import argparse

from minik8s.cli import CommandError, connection
from minik8s.config import default_data_dir

EXAMPLES = """examples:
  minik8s token                     with which agents join
  minik8s token --server            that of the servers themselves
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("--server", action="store_true", help="the servers' own token")
    parser.add_argument("--data-dir", metavar="DIR", help=f"the server's data directory (default: {default_data_dir()})")


def run(options: argparse.Namespace) -> int:
    path = connection.data_dir(options) / ("token" if options.server else "agent-token")
    try:
        print(path.read_text().strip())
    except FileNotFoundError:
        raise CommandError(f"no token in {path.parent}: run this on the server's machine, after its first start") from None
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}; run as the server's user") from None
    return 0
