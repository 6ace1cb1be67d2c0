"""Image names and pull secrets. Sources: distribution/reference, "Pull an Image from a Private Registry"; golden ne-image-invalid."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from minik8s.api.resources import SECRETS
from minik8s.kubelet.images import credentials, with_tag
from minik8s.kubelet.pullrecords import EVERYONE, PullRecords
from minik8s.testing.clock import VirtualClock

from .conftest import Stage
from .pods import container, pod


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
        ("docker.io", "team/app:1", True),
        ("https://index.docker.io/v1/", "reg.example/nginx:1", False),
    ],
)
def test_which_secret_is_for_which_registry(where: str, image: str, matches: bool) -> None:
    auth = {"auth": base64.b64encode(b"me:pa:ss").decode()}
    found = list(credentials(image, [secret({where: auth})]))
    assert [(a.auth.username, a.auth.password) for a in found if a.auth] == ([("me", "pa:ss")] if matches else [])


def test_the_most_particular_goes_first_and_rubbish_is_skipped() -> None:
    secrets = [
        {"data": {".dockerconfigjson": "!!"}},
        {"data": {".dockerconfigjson": base64.b64encode(b"[]").decode()}},
        secret({"reg.example": {"username": "wide"}, "reg.example/team": {"username": "narrow"}}),
    ]
    assert [a.auth.username for a in credentials("reg.example/team/app:1", secrets) if a.auth] == ["narrow", "wide"]


PRIVATE = "none/app:1"
USED = "event: Normal Pulled: Container image"


async def pods_of(stage: Stage, clock: VirtualClock, name: str, secret_name: str = "", policy: str = "IfNotPresent") -> str:
    """The reason why a pod with that pull secret waits; empty where it runs."""
    spec = {"imagePullSecrets": [{"name": secret_name}]} if secret_name else {}
    stage.add(pod(container(image=PRIVATE, imagePullPolicy=policy), name=name, **spec))
    await clock.advance(1)
    state = stage.status(name)["containerStatuses"][0]["state"]
    return str(state["waiting"]["reason"]) if "waiting" in state else ""


async def test_what_was_pulled_with_a_password_is_for_those_who_have_it(stage: Stage, clock: VirtualClock) -> None:
    """KEP-2535, the kubelet's policy NeverVerifyPreloadedImages."""
    for name, password in (("right", "s3cret"), ("copy", "s3cret"), ("wrong", "guess")):
        auths = {"docker.io": {"username": "me", "password": password}}
        meta = {"namespace": "ns", "name": name, "uid": f"uid-{name}"}
        stage.api.put(SECRETS, {**secret(auths), "metadata": meta})
    stage.runtime.pullable.add(PRIVATE)
    stage.runtime.passwords[PRIVATE] = "s3cret"
    await stage.start()
    assert await pods_of(stage, clock, "a", "right") == ""
    assert await pods_of(stage, clock, "b") == "ErrImagePull"
    assert await pods_of(stage, clock, "c", "wrong") == "ErrImagePull"
    assert await pods_of(stage, clock, "d", policy="Never") == "ErrImageNeverPull"
    await stage.stop()
    await stage.start()  # it is still known then
    assert await pods_of(stage, clock, "e") == "ErrImagePull"
    pulls = len([line for line in stage.trace.lines if f"runtime: pull {PRIVATE}" in line and "fails" not in line])
    assert await pods_of(stage, clock, "f", "copy") == ""
    assert len([line for line in stage.trace.lines if f"runtime: pull {PRIVATE}" in line and "fails" not in line]) == pulls


def test_who_may_use_an_image() -> None:
    records = PullRecords(None)
    assert records.may_use("id", "a/b:1", ())  # it was there before anybody pulled it
    records.pulled("id", "a/b:1", ("u", "ns", "s", "hash"))
    assert not records.may_use("id", "a/b:2", ())
    assert records.may_use("id", "a/b:2", [("other", "ns", "t", "hash")])  # the same content
    assert records.may_use("id", "a/b@sha256:1", [("u", "ns", "s", "rotated")])  # the same Secret
    assert not records.may_use("id", "c/b:1", [("u", "ns", "s", "hash")])  # another registry's
    records.pulled("id", "a/b:1", EVERYONE)
    assert records.may_use("id", "a/b:1", ())
    records.forget_others(())
    assert records.may_use("id", "c/b:1", ())
