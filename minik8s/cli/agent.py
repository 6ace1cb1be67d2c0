"""`minik8s agent`."""

from __future__ import annotations

import argparse

from minik8s import config
from minik8s.base import memory
from minik8s.cli import CommandError, UsageError

EXAMPLES = """examples:
  minik8s agent --server https://10.0.0.1:6443 --token TOKEN      (TOKEN: what `minik8s token` prints on the server)
  minik8s agent --config config/agent.yaml
  MINIK8S_TOKEN=TOKEN minik8s agent --server https://10.0.0.1:6443 --node-label disk=ssd --node-taint gpu=yes:NoSchedule
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    config.add_arguments(parser, config.AGENT)


def run(arguments: argparse.Namespace) -> int:
    try:
        options = config.load(config.AGENT, arguments)
    except config.ConfigError as error:
        raise UsageError(str(error)) from None
    if not options.server:
        raise UsageError("--server is needed: the server's URL, such as https://10.0.0.1:6443")
    memory.prepare()
    from minik8s.agent import AgentFailed
    from minik8s.agent import run as run_agent

    try:
        return run_agent(options)
    except AgentFailed as error:
        raise CommandError(str(error)) from None
