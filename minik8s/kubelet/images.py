"""Sees to it that an image is there, a container's or a volume's: pull policy, pull secrets, what the events say.

Sources: the kubelet's image_manager.go, credentialprovider; "Pull an Image from a Private Registry"; golden/node/errors.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from minik8s.base.clock import Clock
from minik8s.client.events import NORMAL, WARNING, EventRecorder
from minik8s.kubelet.pod import Pod
from minik8s.kubelet.pullrecords import EVERYONE, Credential, PullRecords
from minik8s.runtime.base import Auth, Image, Runtime, RuntimeFailed

PRESENT = 'Container image "{}" already present on machine and can be accessed by the pod'


class StartFailed(Exception):
    """A container could not be started; `reason` and the text go into `state.waiting`. `image`: the one that it lacked."""

    def __init__(self, reason: str, message: str, image: str = "") -> None:
        super().__init__(message)
        self.reason, self.image = reason, image


class Images:
    """Pulls of one image happen once at a time: who comes meanwhile waits for the same result."""

    def __init__(self, runtime: Runtime, clock: Clock, events: EventRecorder, records: PullRecords) -> None:
        self._runtime, self._clock, self._events, self._records = runtime, clock, events, records
        self._locks: dict[str, asyncio.Lock] = {}

    async def forget_others(self) -> None:
        """Of images that are gone it need not be known who may use them. Raises RuntimeFailed."""
        self._records.forget_others({image.id for image in await self._runtime.images()})

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
        found = list(credentials(reference, secrets))
        async with lock:
            image = await self._inspect(pod, asked, reference, path)
            known = image is not None and self._records.may_use(image.id, reference, [each.source for each in found])
            if image is not None and known and policy != "Always":
                self._events.event(pod, NORMAL, "Pulled", PRESENT.format(asked), field_path=path)
                return image
            if policy == "Never":
                text = f'Container image "{asked}" is not present with pull policy of Never'
                self._events.event(pod, WARNING, "ErrImageNeverPull", text, field_path=path)
                raise StartFailed("ErrImageNeverPull", text, asked)
            return await self._pull(pod, asked, reference, path, found)

    async def _inspect(self, pod: Pod, asked: str, reference: str, path: str) -> Image | None:
        try:
            return await self._runtime.image(reference)
        except RuntimeFailed as error:
            text = f'Failed to inspect image "{asked}": {error}'
            self._events.event(pod, WARNING, "InspectFailed", text, field_path=path)
            raise StartFailed("ImageInspectError", text, asked) from error

    async def _pull(self, pod: Pod, asked: str, reference: str, path: str, found: Sequence[Tracked]) -> Image:
        self._events.event(pod, NORMAL, "Pulling", f'Pulling image "{asked}"', field_path=path)
        began = self._clock.monotonic()
        try:
            image = await self._try_each(reference, found or (ANONYMOUS,))
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

    async def _try_each(self, reference: str, found: Sequence[Tracked]) -> Image:
        """With each of the credentials in turn."""
        last: RuntimeFailed | None = None
        for each in found:
            try:
                await self._runtime.pull_image(reference, each.auth)
            except RuntimeFailed as error:
                last = error
                continue
            image = await self._runtime.image(reference)
            if image is None:
                raise RuntimeFailed(f"image {reference} is gone right after its pull", "ErrImagePull")
            self._records.pulled(image.id, reference, each.source)
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


@dataclass(frozen=True, slots=True)
class Tracked:
    """A credential, and where it is from."""

    auth: Auth | None
    source: Credential


ANONYMOUS = Tracked(None, EVERYONE)


def credentials(reference: str, secrets: Iterable[Mapping[str, Any]]) -> Iterator[Tracked]:
    """Those of the pull secrets that are for the reference's registry, the most particular first."""
    found: list[tuple[str, Tracked]] = []
    for secret in secrets:
        fitting = [(where, auth) for where, auth in _entries(secret) if _covers(where, reference)]
        found += [(where, Tracked(auth, _source(secret, auth))) for where, auth in fitting]
    for _, tracked in sorted(found, key=lambda entry: len(entry[0]), reverse=True):
        yield tracked


def _source(secret: Mapping[str, Any], auth: Auth) -> Credential:
    meta = secret.get("metadata") or {}
    digest = hashlib.sha256(orjson.dumps(auth)).hexdigest()
    return meta.get("uid", ""), meta.get("namespace", ""), meta.get("name", ""), digest


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
    wanted, asked = (
        ("index.docker.io" if name in ("docker.io", "registry-1.docker.io") else name).split(".")
        for name in (split.netloc, host)
    )
    same = len(wanted) == len(asked) and all(w in ("*", a) for w, a in zip(wanted, asked, strict=True))
    return same and (not path or rest == path or rest.startswith(path + "/"))


def _go_duration(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds < 1000 else f"{milliseconds / 1000:g}s"
