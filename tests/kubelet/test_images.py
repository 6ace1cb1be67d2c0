"""Image names and pull secrets. Sources: distribution/reference, "Pull an Image from a Private Registry"; golden ne-image-invalid."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from minik8s.kubelet.images import credentials, with_tag


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("nginx", "nginx:latest"),
        ("nginx:1", "nginx:1"),
        ("reg.example:5000/team/app", "reg.example:5000/team/app:latest"),
        ("a/b@sha256:" + "0" * 64, "a/b@sha256:" + "0" * 64),
        ("localhost/x", "localhost/x:latest"),
        ("minik8s.local/host", "minik8s.local/host:latest"),
    ],
)
def test_names(image: str, full: str) -> None:
    assert with_tag(image) == full


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("Bad//Name:1", "invalid reference format: repository name (/Name) must be lowercase"),
        ("a//b", "invalid reference format"),
        ("", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("x@sha256:12", "invalid reference format"),
        ("Upper", "invalid reference format: repository name (Upper) must be lowercase"),
    ],
)
def test_bad_names(image: str, why: str) -> None:
    with pytest.raises(ValueError) as error:
        with_tag(image)
    assert str(error.value) == f'couldn\'t parse image name "{image}": {why}'


def secret(auths: dict[str, Any]) -> dict[str, Any]:
    return {"data": {".dockerconfigjson": base64.b64encode(orjson.dumps({"auths": auths})).decode()}}


@pytest.mark.parametrize(
    ("where", "image", "matches"),
    [
        ("reg.example", "reg.example/app:1", True),
        ("reg.example:5000", "reg.example/app:1", False),
        ("https://reg.example/v2/", "reg.example/app:1", True),
        ("reg.example/team", "reg.example/team/app:1", True),
        ("reg.example/team", "reg.example/teamless/app:1", False),
        ("*.example", "reg.example/app:1", True),
        ("*.example", "a.reg.example/app:1", False),
        ("https://index.docker.io/v1/", "nginx:1", True),
        ("https://index.docker.io/v1/", "reg.example/nginx:1", False),
    ],
)
def test_which_secret_is_for_which_registry(where: str, image: str, matches: bool) -> None:
    auth = {"auth": base64.b64encode(b"me:pa:ss").decode()}
    found = list(credentials(image, [secret({where: auth})]))
    assert [(a.username, a.password) for a in found] == ([("me", "pa:ss")] if matches else [])


def test_the_most_particular_goes_first_and_rubbish_is_skipped() -> None:
    secrets = [
        {"data": {".dockerconfigjson": "!!"}},
        {"data": {".dockerconfigjson": base64.b64encode(b"[]").decode()}},
        secret({"reg.example": {"username": "wide"}, "reg.example/team": {"username": "narrow"}}),
    ]
    assert [a.username for a in credentials("reg.example/team/app:1", secrets)] == ["narrow", "wide"]
