"""Sees to it that an image is there, a container's or a volume's: pull policy, pull secrets, what the events say.

Sources: the kubelet's image_manager.go, credentialprovider; "Pull an Image from a Private Registry"; golden/node/errors.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from minik8s.base.clock import Clock
from minik8s.client.events import NORMAL, WARNING, EventRecorder
from minik8s.kubelet.pod import Pod
from minik8s.runtime.base import Auth, Image, Runtime, RuntimeFailed

PRESENT = 'Container image "{}" already present on machine and can be accessed by the pod'


class StartFailed(Exception):
    """A container could not be started; `reason` and the text go into `state.waiting`. `image`: the one that it lacked."""

    def __init__(self, reason: str, message: str, image: str = "") -> None:
        super().__init__(message)
        self.reason, self.image = reason, image


class Images:
    """Pulls of one image happen once at a time: who comes meanwhile waits for the same result."""

    def __init__(self, runtime: Runtime, clock: Clock, events: EventRecorder) -> None:
        self._runtime, self._clock, self._events = runtime, clock, events
        self._locks: dict[str, asyncio.Lock] = {}

    async def ensure(self, pod: Pod, asked: str, policy: str, path: str, secrets: Iterable[Mapping[str, Any]]) -> Image:
        """The image `asked` of a container (or, with no `path` for the events, of a volume), pulled if `policy` says so. Raises
        StartFailed.
        """
        try:
            reference = with_tag(asked)
        except ValueError as error:
            text = f'Failed to apply default image tag "{asked}": {error}'
            self._events.event(pod, WARNING, "InspectFailed", text, field_path=path)
            raise StartFailed("InvalidImageName", text, asked) from error
        policy = policy or ("Always" if reference.endswith(":latest") else "IfNotPresent")
        lock = self._locks.setdefault(reference, asyncio.Lock())
        async with lock:
            image = await self._inspect(pod, asked, reference, path)
            if image is not None and policy != "Always":
                self._events.event(pod, NORMAL, "Pulled", PRESENT.format(asked), field_path=path)
                return image
            if policy == "Never":
                text = f'Container image "{asked}" is not present with pull policy of Never'
                self._events.event(pod, WARNING, "ErrImageNeverPull", text, field_path=path)
                raise StartFailed("ErrImageNeverPull", text, asked)
            return await self._pull(pod, asked, reference, path, secrets)

    async def _inspect(self, pod: Pod, asked: str, reference: str, path: str) -> Image | None:
        try:
            return await self._runtime.image(reference)
        except RuntimeFailed as error:
            text = f'Failed to inspect image "{asked}": {error}'
            self._events.event(pod, WARNING, "InspectFailed", text, field_path=path)
            raise StartFailed("ImageInspectError", text, asked) from error

    async def _pull(self, pod: Pod, asked: str, reference: str, path: str, secrets: Iterable[Mapping[str, Any]]) -> Image:
        self._events.event(pod, NORMAL, "Pulling", f'Pulling image "{asked}"', field_path=path)
        began = self._clock.monotonic()
        try:
            image = await self._try_each(reference, list(credentials(reference, secrets)) or (None,))
        except RuntimeFailed as error:
            text = f'Failed to pull image "{asked}": {error}'
            self._events.event(pod, WARNING, "Failed", text, field_path=path)
            reason = error.reason or "ErrImagePull"
            if reason == "RegistryUnavailable":
                told = f"image pull failed for {asked} because the registry is unavailable: {error}"
                raise StartFailed(reason, told, asked) from error
            raise StartFailed(reason, str(error), asked) from error
        took = _go_duration(self._clock.monotonic() - began)
        text = f'Successfully pulled image "{asked}" in {took} ({took} including waiting). Image size: {image.size} bytes.'
        self._events.event(pod, NORMAL, "Pulled", text, field_path=path)
        return image

    async def _try_each(self, reference: str, auths: Sequence[Auth | None]) -> Image:
        """With each of the credentials in turn."""
        last: RuntimeFailed | None = None
        for auth in auths:
            try:
                await self._runtime.pull_image(reference, auth)
            except RuntimeFailed as error:
                last = error
                continue
            image = await self._runtime.image(reference)
            if image is None:
                raise RuntimeFailed(f"image {reference} is gone right after its pull", "ErrImagePull")
            return image
        assert last is not None
        raise last


def with_tag(image: str) -> str:
    """`image` with `:latest` where it has neither tag nor digest. ValueError in upstream's words where it is no reference."""
    first, slash, rest = image.partition("/")
    hosted = slash and (set(first) & {".", ":"} or first == "localhost" or first != first.lower())
    domain, remainder = (first, rest) if hosted else ("", image)
    name = remainder.partition(":")[0]
    wrong = f'couldn\'t parse image name "{image}": invalid reference format'
    if name != name.lower():
        raise ValueError(f"{wrong}: repository name ({name}) must be lowercase")
    match = _REMAINDER.fullmatch(remainder)
    if not match or (domain and not _DOMAIN.fullmatch(domain)):
        raise ValueError(wrong)
    return image if match["tag"] or match["digest"] else image + ":latest"


_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REMAINDER = re.compile(
    rf"{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")


def credentials(reference: str, secrets: Iterable[Mapping[str, Any]]) -> Iterator[Auth]:
    """Those of the pull secrets that are for the reference's registry, the most particular first."""
    found: list[tuple[str, Auth]] = []
    for secret in secrets:
        found += [(where, auth) for where, auth in _entries(secret) if _covers(where, reference)]
    for _, auth in sorted(found, key=lambda entry: len(entry[0]), reverse=True):
        yield auth


def _entries(secret: Mapping[str, Any]) -> Iterator[tuple[str, Auth]]:
    data = secret.get("data") or {}
    for field, wrapped in ((".dockerconfigjson", True), (".dockercfg", False)):
        if field not in data:
            continue
        try:
            config = orjson.loads(base64.b64decode(data[field]))
            entries = (config.get("auths") or {}) if wrapped else config
            for where, entry in entries.items():
                yield where, _auth(entry)
        except (ValueError, AttributeError, binascii.Error):
            continue  # an unreadable secret is none: the pull will say what is missing


def _auth(entry: Mapping[str, str]) -> Auth:
    username, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth"):
        username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
    return Auth(username, password, entry.get("identitytoken", ""), entry.get("registrytoken", ""))


def _covers(where: str, reference: str) -> bool:
    """Whether an entry (`https://index.docker.io/v1/`, `reg.example:5000/team`, `*.example`) is for the reference."""
    split = urlsplit(where if "://" in where else f"https://{where}")
    path = split.path.strip("/")
    path = "" if path in ("v1", "v2") else path
    host, slash, rest = reference.partition("/")
    if not slash or ("." not in host and ":" not in host and host != "localhost"):
        host, rest = "index.docker.io", reference
    host = "index.docker.io" if host in ("docker.io", "registry-1.docker.io") else host
    wanted, asked = split.netloc.split("."), host.split(".")
    same = len(wanted) == len(asked) and all(w in ("*", a) for w, a in zip(wanted, asked, strict=True))
    return same and (not path or rest == path or rest.startswith(path + "/"))


def _go_duration(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds < 1000 else f"{milliseconds / 1000:g}s"
