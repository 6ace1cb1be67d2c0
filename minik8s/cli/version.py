"""`minik8s version`."""

from __future__ import annotations

import argparse
from importlib.metadata import version

from minik8s import KUBERNETES_VERSION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments."""


def run(_: argparse.Namespace) -> int:
    print(f"minik8s {version('minik8s')} (Kubernetes {KUBERNETES_VERSION})")
    return 0
