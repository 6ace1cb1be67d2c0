"""Image names by the `distribution` project's grammar; error texts as golden/node/answers/errors.json quotes them."""

from __future__ import annotations

import pytest

from minik8s.runtime.images.reference import InvalidReference, normalise, parse

DIGEST = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/user/app:1", "docker.io/user/app:1"),
        ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("127.0.0.1:1/none:1", "127.0.0.1:1/none:1"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}"),
        ("a.b/c__d--e.f", "a.b/c__d--e.f:latest"),
        ("minik8s.local/host", "minik8s.local/host:latest"),
    ],
)
def test_names(text: str, expected: str) -> None:
    assert normalise(text) == expected
    assert normalise(expected) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Bad//Name:1", "invalid reference format: repository name (/Name) must be lowercase"),
        ("UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("a@sha256:12", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("-a/b", "invalid reference format"),
        ("a:" + "x" * 129, "invalid reference format"),
        ("a/" * 200 + "b", "repository name must not be more than 255 characters"),
    ],
)
def test_names_out_of_rule(text: str, message: str) -> None:
    with pytest.raises(InvalidReference) as refused:
        parse(text)
    assert str(refused.value) == message
