"""registries.yaml in containerd's words: a `hosts.toml` for each registry that is named, and credentials for its configuration.

containerd reads hosts.toml at each pull, its configuration at its start. What it has no words for is pulled by the agent itself
(importing.py): repositories that mirrors call otherwise (`rewrite`), and credentials for hosts that are not named (`configs: "*"`).
Source: containerd's docs/hosts.md and docs/cri/registry.md.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from minik8s.runtime.images.reference import Reference
from minik8s.runtime.images.settings import ANY, Endpoint, Settings, Tls

_EVERY_OTHER = "_default"
text = json.dumps  # a JSON string is a TOML string


def hosts(settings: Settings) -> dict[str, str]:
    """The text of hosts.toml by the name of its directory."""
    named = dict.fromkeys([*settings.mirrors, *settings.configs])
    found = {}
    for registry in named:
        *mirrors, own = settings.endpoints(registry)
        if registry == ANY:
            found[_EVERY_OTHER] = _hosts(_tls(own.config.tls), mirrors)
        elif mirrors or own.config.tls != Tls() or ANY in named:
            again = [own] if own.config.tls != Tls() else []  # containerd 1.6 heeds TLS of hosts alone, not what stands on top
            found[registry] = _hosts([f"server = {text(_address(own))}", *_tls(own.config.tls)], [*mirrors, *again])
    return found


def write_hosts(directory: Path, settings: Settings) -> None:
    """Keeps the directory (containerd's `config_path`) as the settings say."""
    wanted = hosts(settings)
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        if old.name not in wanted:
            shutil.rmtree(old)
    for name, content in wanted.items():
        (directory / name).mkdir(exist_ok=True)
        (directory / name / "hosts.toml").write_text(content)


def credentials(settings: Settings) -> str:
    """Sections of containerd's configuration: who we are for each host that is named."""
    named = [*settings.mirrors, *settings.configs]
    endpoints = {each.host: each for name in named if name != ANY for each in settings.endpoints(name)}
    endpoints |= {each.host: each for each in settings.endpoints(ANY)[:-1]}
    return "".join(_credentials(host, each) for host, each in sorted(endpoints.items()) if each.config.auth)


def is_beyond(settings: Settings, reference: Reference) -> bool:
    """Whether containerd can't pull this image as the settings say."""
    endpoints = settings.endpoints(reference.registry)
    renamed = any(each.repository(reference.repository) != reference.repository for each in endpoints)
    own = endpoints[-1]
    named = reference.registry in settings.mirrors or reference.registry in settings.configs
    return renamed or (own.config.auth is not None and not named)


def _hosts(own: list[str], mirrors: list[Endpoint]) -> str:
    lines = list(own)
    for each in {_address(each): each for each in mirrors}.values():  # TOML has each once
        lines += ["", f"[host.{text(_address(each))}]", 'capabilities = ["pull", "resolve"]']
        lines += [] if _is_usual(each) else ["override_path = true"]
        lines += _tls(each.config.tls)
    return "\n".join(lines).lstrip("\n") + "\n"


def _is_usual(endpoint: Endpoint) -> bool:
    return urlsplit(endpoint.url).path == "/v2"


def _address(endpoint: Endpoint) -> str:
    return endpoint.url.removesuffix("/v2") if _is_usual(endpoint) else endpoint.url


def _tls(tls: Tls) -> list[str]:
    lines = [f"ca = {text(tls.ca_file)}"] if tls.ca_file else []
    lines += [f"client = [[{text(tls.cert_file)}, {text(tls.key_file)}]]"] if tls.cert_file else []
    return lines + (["skip_verify = true"] if tls.insecure_skip_verify else [])


def _credentials(host: str, endpoint: Endpoint) -> str:
    auth = endpoint.config.auth
    assert auth is not None
    told: Mapping[str, str] = {"username": auth.username, "password": auth.password, "identitytoken": auth.identity_token}
    lines = [f"{name} = {text(value)}" for name, value in told.items() if value]
    section = f'[plugins."io.containerd.grpc.v1.cri".registry.configs.{text(host)}.auth]'
    return "\n".join(["", section, *lines]) + "\n"
