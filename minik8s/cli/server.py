"""`minik8s server`."""

from __future__ import annotations

import argparse

from minik8s import config
from minik8s.base import memory
from minik8s.cli import CommandError, UsageError

EXAMPLES = """examples:
  minik8s server
  minik8s server --data-dir /tmp/m8s --https-listen-port 7443 --disable-agent --simulated-nodes 3
  minik8s server --write-kubeconfig ~/.kube/config
  MINIK8S_TOKEN=secret minik8s server --config config/server.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    config.add_arguments(parser, config.SERVER)


def run(arguments: argparse.Namespace) -> int:
    try:
        options = config.load(config.SERVER, arguments)
    except config.ConfigError as error:
        raise UsageError(str(error)) from None
    memory.prepare()
    from minik8s.server import StartFailed
    from minik8s.server import run as run_server

    try:
        return run_server(options)
    except StartFailed as error:
        raise CommandError(str(error)) from None
