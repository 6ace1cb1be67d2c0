"""registries.yaml as k3s has it: mirrors of registries, and how hosts are spoken to.

    mirrors:
      docker.io:                                    # "*": every registry that is not named
        endpoint: [https://mirror.example:5000]     # asked in this order, then the registry itself
        rewrite: {"^library/(.*)": "hub/$1"}        # of repositories' names, at these endpoints
    configs:
      mirror.example:5000:                          # a host; "*": every other one
        auth: {username: u, password: p}            # or auth (base64 of u:p), or identity_token
        tls: {ca_file: F, cert_file: F, key_file: F, insecure_skip_verify: true}

Promise: `Settings.endpoints` is what both runtimes go by: registry.py asks them, cri/hosts.py has containerd ask them. An endpoint's path
is `/v2` unless it has one of its own; its scheme https, but http for this machine's ports.
Source: docs.k3s.io/installation/private-registry.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from minik8s.runtime.base import Auth
from minik8s.runtime.images.reference import DEFAULT_REGISTRY

ANY = "*"
_HUB = "registry-1.docker.io"
_ENDPOINT = r"(https?://)?(\[[0-9a-fA-F:]+\]|[^/\s?#:@\[\]]+)(:\d+)?(/[^\s?#]*)?"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of PEM; empty for the system's authorities and for no certificate of our own."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    insecure_skip_verify: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    auth: Auth | None = None
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True)
class Mirror:
    endpoints: Sequence[str] = ()
    rewrites: Sequence[tuple[re.Pattern[str], str]] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a registry is really asked: `url` has its path (`/v2`), without a slash at its end. `own`: it is the registry itself."""

    url: str
    config: Config = Config()
    rewrites: Sequence[tuple[re.Pattern[str], str]] = ()
    own: bool = False

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def repository(self, name: str) -> str:
        """As it is called there: by the first rewrite that fits."""
        for pattern, becomes in self.rewrites:
            if pattern.search(name):
                return pattern.sub(becomes, name)
        return name


@dataclass(frozen=True, slots=True)
class Settings:
    mirrors: Mapping[str, Mirror] = field(default_factory=dict)
    configs: Mapping[str, Config] = field(default_factory=dict)

    def endpoints(self, registry: str) -> list[Endpoint]:
        """Those to ask for a registry's images, one after another; the last is the registry itself."""
        mirror = self.mirrors.get(registry, self.mirrors.get(ANY, Mirror()))
        mirrors = [self._endpoint(text, mirror.rewrites) for text in mirror.endpoints]
        return [*mirrors, self._endpoint(registry, own=True)]

    def _endpoint(self, text: str, rewrites: Sequence[tuple[re.Pattern[str], str]] = (), *, own: bool = False) -> Endpoint:
        scheme, _, rest = text.rpartition("://")
        host, _, path = rest.partition("/")
        names = [host, _HUB, DEFAULT_REGISTRY] if host in (_HUB, DEFAULT_REGISTRY) else [host]
        config = next((self.configs[name] for name in (*names, ANY) if name in self.configs), Config())
        host = _HUB if host == DEFAULT_REGISTRY else host
        path = path.rstrip("/")
        return Endpoint(f"{scheme or _scheme(host)}://{host}/{path or 'v2'}", config, rewrites, own)


def read_settings(path: Path) -> Settings:
    """Of a registries.yaml; ValueError says in a line what is wrong in it, OSError that it can't be read."""
    import yaml  # late: few agents have such a file

    try:
        found = yaml.load(path.read_bytes(), yaml.CSafeLoader)
        told = _mapping(found, "it", ("mirrors", "configs"))
        mirrors = {str(name): _mirror(each, f"mirrors.{name}") for name, each in _entries(told, "mirrors")}
        return Settings(mirrors, {str(name): _config(each, f"configs.{name}") for name, each in _entries(told, "configs")})
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def is_local(registry: str) -> bool:
    """On this machine: asked by plain HTTP."""
    host = registry.removeprefix("[").partition("]")[0] if registry.startswith("[") else registry.partition(":")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _scheme(host: str) -> str:
    return "http" if is_local(host) and not host.endswith(":443") else "https"


def _mirror(given: Any, where: str) -> Mirror:
    told = _mapping(given, where, ("endpoint", "rewrite"))
    endpoints = told.get("endpoint") or []
    if not isinstance(endpoints, list) or not all(isinstance(each, str) for each in endpoints):
        raise ValueError(f"{where}.endpoint is no list of URLs")
    for each in endpoints:
        if not re.fullmatch(_ENDPOINT, each):
            raise ValueError(f"{where}.endpoint: {each!r} is no URL of a registry")
    rewrites = []
    for pattern, becomes in _entries(told, "rewrite"):
        try:
            rewrites.append((re.compile(str(pattern)), _replacement(str(becomes))))
            rewrites[-1][0].sub(rewrites[-1][1], "")  # names it a group that there isn't?
        except (re.error, IndexError) as error:
            raise ValueError(f"{where}.rewrite: {pattern!r}: {error}") from None
    return Mirror(endpoints, rewrites)


def _config(given: Any, where: str) -> Config:
    told = _mapping(given, where, ("auth", "tls"))
    auth = _mapping(told.get("auth"), f"{where}.auth", ("username", "password", "auth", "identity_token"))
    tls = _mapping(told.get("tls"), f"{where}.tls", ("ca_file", "cert_file", "key_file", "insecure_skip_verify"))
    if bool(tls.get("cert_file")) != bool(tls.get("key_file")):
        raise ValueError(f"{where}.tls: cert_file and key_file go together")
    for name in ("ca_file", "cert_file", "key_file"):
        if tls.get(name) and not Path(str(tls[name])).is_file():
            raise ValueError(f"{where}.tls.{name}: there is no file {tls[name]}")
    return Config(
        _auth(auth, where) if any(auth.values()) else None, Tls(**{name: value for name, value in tls.items() if value})
    )


def _auth(given: Mapping[str, Any], where: str) -> Auth:
    user, password = given.get("username"), given.get("password")
    if packed := given.get("auth"):
        try:
            user, colon, password = base64.b64decode(str(packed), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise ValueError(f"{where}.auth.auth is no base64 of USER:PASSWORD")
    return Auth(str(user or ""), str(password or ""), str(given.get("identity_token") or ""))


def _mapping(given: Any, where: str, keys: Sequence[str]) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ValueError(f"{where} is no mapping")  # noqa: TRY004 - a user's mistake in a file
    if unknown := [key for key in given if key not in keys]:
        raise ValueError(f"{where}: unknown key {unknown[0]!r} (there are {', '.join(keys)})")
    return given


def _entries(told: Mapping[str, Any], key: str) -> Sequence[tuple[Any, Any]]:
    found = told.get(key)
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{key} is no mapping")
    return list((found or {}).items())


def _replacement(text: str) -> str:
    """Go's `$1` and `${name}` as Python's; `$$` is a dollar."""

    def one(found: re.Match[str]) -> str:
        name = found["name"] or found["braced"]
        return rf"\g<{name}>" if name else "$"

    return re.sub(r"\$(?:(?P<name>\w+)|\{(?P<braced>\w+)\}|\$)", one, text.replace("\\", r"\\"))
