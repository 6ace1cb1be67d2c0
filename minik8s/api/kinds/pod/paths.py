"""Paths inside volumes: relative, and never upwards."""

from __future__ import annotations

from minik8s.api.errors import invalid
from minik8s.api.kinds.checks import Errors


def no_backsteps(value: str, path: str) -> Errors:
    """No element is `..`."""
    if ".." in value and ".." in value.split("/"):
        yield invalid(path, value, "must not contain '..'")


def local_path(value: str, path: str) -> Errors:
    """A relative path that stays below where it starts."""
    if value.startswith("/"):
        yield invalid(path, value, "must be a relative path")
    yield from no_backsteps(value, path)


def local_unreserved_path(value: str, path: str) -> Errors:
    """As `local_path`; a name that starts with `..` is the kubelet's own."""
    yield from local_path(value, path)
    if value.startswith("..") and not value.startswith("../"):
        yield invalid(path, value, "must not start with '..'")
