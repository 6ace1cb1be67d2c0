"""Names of images: parsed and normalised as every container tool does (`busybox` is `docker.io/library/busybox:latest`).

The grammar is the one of the `distribution` project's reference package; its error texts are quoted by the kubelet's events, so
they are kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_REGISTRY, DEFAULT_NAMESPACE, DEFAULT_TAG = "docker.io", "library", "latest"
HOST_IMAGE = "minik8s.local/host"

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.[a-zA-Z0-9-]+)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_LONGEST = 255


class InvalidReference(ValueError):
    """Not an image's name."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`tag` is empty where only a digest is given."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"


def parse(text: str) -> Reference:
    """Raises InvalidReference."""
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidReference("invalid reference format")
    rest, colon, tag = split_tag(rest)
    if colon and not _TAG.fullmatch(tag):
        raise InvalidReference("invalid reference format")
    first, slash, path = rest.partition("/")
    if slash and (first == "localhost" or any(sign in first for sign in ".:") or first != first.lower()):
        registry, repository = first, path
    else:
        registry, repository = DEFAULT_REGISTRY, rest
    if registry in ("docker.io", "index.docker.io"):
        registry = DEFAULT_REGISTRY
        if repository and "/" not in repository:
            repository = f"{DEFAULT_NAMESPACE}/{repository}"
    if not _DOMAIN.fullmatch(registry):
        raise InvalidReference("invalid reference format")
    if repository != repository.lower():
        raise InvalidReference(f"invalid reference format: repository name ({repository}) must be lowercase")
    if not _REPOSITORY.fullmatch(repository):
        raise InvalidReference("invalid reference format")
    if len(registry) + 1 + len(repository) > _LONGEST:
        raise InvalidReference(f"repository name must not be more than {_LONGEST} characters")
    return Reference(registry, repository, tag or ("" if digest else DEFAULT_TAG), digest)


def normalise(text: str) -> str:
    return str(parse(text))


def is_digest(text: str) -> bool:
    return bool(_DIGEST.fullmatch(text))


def split_tag(text: str) -> tuple[str, str, str]:
    """As `str.partition` at the tag's colon, of a name without a digest: that is the last one, unless a slash follows (then it is a
    port's).
    """
    head, colon, tail = text.rpartition(":")
    if colon and "/" not in tail:
        return head, colon, tail
    return text, "", ""
