"""Paths inside volumes: relative, and never upwards."""

from __future__ import annotations

from minik8s.api.errors import invalid
from minik8s.api.kinds.checks import Errors


def no_backsteps(value: str, path: str) -> Errors:
    """No element is `..`."""
    return (invalid(path, value, "must not contain '..'"),) if ".." in value and ".." in value.split("/") else ()


def local_path(value: str, path: str) -> Errors:
    """A relative path that stays below where it starts."""
    if value.startswith("/"):
        return [invalid(path, value, "must be a relative path"), *no_backsteps(value, path)]
    return no_backsteps(value, path)


def local_unreserved_path(value: str, path: str) -> Errors:
    """As `local_path`; a name that starts with `..` is the kubelet's own."""
    errors = local_path(value, path)
    if value.startswith("..") and not value.startswith("../"):
        return [*errors, invalid(path, value, "must not start with '..'")]
    return errors
