"""Reads the file of `--admission-control-config-file` (apiserver.config.k8s.io/v1 AdmissionConfiguration): what plugins are told.

Only PodSecurity takes a configuration here; that of another plugin is refused, so that nobody believes it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minik8s.api import yaml
from minik8s.apiserver.admission import podsecurity


def load(file: Path) -> podsecurity.Configuration:
    """What PodSecurity is told. OSError, and ValueError with one line."""
    written = _read(file)
    if written.get("kind") != "AdmissionConfiguration":
        raise ValueError(f"{file} holds no AdmissionConfiguration")
    found = podsecurity.Configuration()
    for plugin in written.get("plugins") or ():
        if plugin.get("name") != "PodSecurity":
            raise ValueError(f"{file}: the plugin {plugin.get('name')!r} takes no configuration")
        own = plugin.get("configuration") or (_read(file.parent / plugin["path"]) if plugin.get("path") else {})
        found = podsecurity.configuration(own)
    return found


def _read(file: Path) -> Mapping[str, Any]:
    written, _ = yaml.parse(file.read_bytes())
    if not isinstance(written, Mapping):
        raise ValueError(f"{file} must hold keys and values")  # noqa: TRY004  # of a file, as all that is wrong with it
    return written
