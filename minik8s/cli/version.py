"""`minik8s version`."""

from __future__ import annotations

import argparse

from minik8s import KUBERNETES_VERSION, VERSION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments."""


def run(_: argparse.Namespace) -> int:
    print(f"minik8s {VERSION} (Kubernetes {KUBERNETES_VERSION})")
    return 0
