"""What clients that take protobuf alone are answered with over HTTP.

Rules: API concepts "Kubernetes Protobuf encoding", "Efficient detection of changes"; a custom resource's refusal is a golden answer
(crd-table).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from minik8s.api import protobuf
from minik8s.api.errors import NotAcceptable
from minik8s.api.kind import Object
from minik8s.api.resources import CONFIGMAPS
from minik8s.apiserver import bodies, forms
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.forms import JSON, PROTOBUF, Form, negotiate
from minik8s.apiserver.pages import pages
from minik8s.apiserver.request import Request
from minik8s.base.metrics import Metrics
from tests.helpers.desks import desk_at

MAPS = "http://minik8s/api/v1/namespaces/a/configmaps"
AS = ";g=meta.k8s.io;v=v1;as="
METADATA, METADATA_LIST, TABLE = (AS + view for view in ("PartialObjectMetadata", "PartialObjectMetadataList", "Table"))
Ask = Callable[..., Awaitable[tuple[int, str, bytes]]]


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    path = tmp_path / "api.sock"
    tokens: Any = type("Tokens", (), {"discovery": dict, "key_set": dict})
    served = pages({}, Metrics(), tokens, Catalogue(), "127.0.0.1:6443")
    async with desk_at(path, pages=served), aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        yield session


@pytest.fixture
def ask(session: aiohttp.ClientSession) -> Ask:
    async def ask(method: str, url: str, body: Object | None = None, accept: str = PROTOBUF) -> tuple[int, str, bytes]:
        data = protobuf.encode(body) if body else None
        headers = {"Accept": accept, "Content-Type": PROTOBUF}
        async with session.request(method, url, data=data, headers=headers) as answer:
            return answer.status, answer.headers["Content-Type"], await answer.read()

    return ask


def config_map(name: str, **fields: Any) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **fields}


async def test_an_object_comes_and_goes_in_protobuf(ask: Ask) -> None:
    code, media, body = await ask("POST", MAPS, config_map("x", data={"k": "v"}, binaryData={"b": "AP8="}))
    made = protobuf.decode(body)
    assert (code, media, made["data"], made["binaryData"]) == (201, PROTOBUF, {"k": "v"}, {"b": "AP8="})
    assert made["metadata"]["uid"]
    assert protobuf.decode((await ask("GET", f"{MAPS}/x"))[2]) == made
    listed = protobuf.decode((await ask("GET", MAPS))[2])
    assert listed["kind"] == "ConfigMapList"
    assert listed["items"] == [{name: value for name, value in made.items() if name not in ("kind", "apiVersion")}]
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "other"}}
    code, media, body = await ask("DELETE", f"{MAPS}/x", options)
    assert (code, media, protobuf.decode(body)["reason"]) == (409, PROTOBUF, "Conflict")
    code, _, body = await ask("DELETE", f"{MAPS}/x", {**options, "preconditions": {"uid": made["metadata"]["uid"]}})
    assert (code, protobuf.decode(body)["status"]) == (200, "Success")


@pytest.mark.parametrize("version", ["v1", "apps/v1", "meta.k8s.io/v1", "example.com/v1"])
@pytest.mark.parametrize("media", [PROTOBUF, JSON])
def test_every_group_has_delete_options(version: str, media: str) -> None:
    """client-go says the version of what it deletes; upstream takes DeleteOptions of any."""
    options = {"apiVersion": version, "kind": "DeleteOptions", "propagationPolicy": "Orphan"}
    body = protobuf.encode(options) if media == PROTOBUF else json.dumps(options).encode()
    request = Request("delete", CONFIGMAPS, "a", "x", body=body, content_type=media)
    assert bodies.delete_options_of(request).propagation == "Orphan"


async def test_errors_and_discovery_too(ask: Ask) -> None:
    code, media, body = await ask("GET", f"{MAPS}/x")
    status = protobuf.decode(body)
    assert (code, media, status["kind"], status["reason"], status["code"]) == (404, PROTOBUF, "Status", "NotFound", 404)
    assert status["details"] == {"name": "x", "group": "", "kind": "configmaps", "uid": "", "retryAfterSeconds": 0}
    for path, kind in (
        ("/api", "APIVersions"),
        ("/apis", "APIGroupList"),
        ("/api/v1", "APIResourceList"),
        ("/apis/apps", "APIGroup"),
    ):
        code, media, body = await ask("GET", f"http://minik8s{path}")
        assert (code, media, protobuf.decode(body)["kind"]) == (200, PROTOBUF, kind)


async def test_metadata_but_no_tables(ask: Ask) -> None:
    await ask("POST", MAPS, config_map("x"))
    _, _, body = await ask("GET", f"{MAPS}/x", accept=PROTOBUF + METADATA)
    found = protobuf.decode(body)
    assert (found["kind"], found["metadata"]["name"]) == ("PartialObjectMetadata", "x")
    for version in ("v1", "v1beta1"):
        accept = (PROTOBUF + METADATA_LIST).replace("v=v1", f"v={version}")
        found = protobuf.decode((await ask("GET", MAPS, accept=accept))[2])
        assert (found["kind"], found["apiVersion"]) == ("PartialObjectMetadataList", f"meta.k8s.io/{version}")
        assert [item["metadata"]["name"] for item in found["items"]] == ["x"]
    assert (await ask("GET", MAPS, accept=PROTOBUF + TABLE))[0] == 406


async def test_what_has_no_metadata_is_no_table(session: aiohttp.ClientSession) -> None:
    """Conformance: "should return a 406 for a backend which does not implement metadata"."""
    url = "http://minik8s/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    async with session.post(url, json={}, headers={"Accept": JSON + TABLE}) as answer:
        assert (answer.status, (await answer.json())["reason"]) == (406, "NotAcceptable")


async def test_a_watch_is_a_stream_of_frames(session: aiohttp.ClientSession, ask: Ask) -> None:
    await ask("POST", MAPS, config_map("first"))
    seen = []
    for view in ("", METADATA):
        headers = {"Accept": f"{PROTOBUF};stream=watch{view}"}
        url = f"{MAPS}?watch=1&allowWatchBookmarks=1&sendInitialEvents=1&resourceVersionMatch=NotOlderThan"
        async with session.get(url, headers=headers) as answer:
            assert answer.headers["Content-Type"] == f"{PROTOBUF};stream=watch"
            for _ in range(2):
                frame = await answer.content.readexactly(int.from_bytes(await answer.content.readexactly(4), "big"))
                length = frame[1]
                obj = protobuf.decode(frame[frame.index(b"k8s\0") :])
                seen.append((frame[2 : 2 + length].decode(), obj["kind"], obj["metadata"]["name"]))
    assert seen == [
        ("ADDED", "ConfigMap", "first"),
        ("BOOKMARK", "ConfigMap", ""),
        ("ADDED", "PartialObjectMetadata", "first"),
        ("BOOKMARK", "PartialObjectMetadata", ""),
    ]


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (PROTOBUF, Form(PROTOBUF)),
        (f"{PROTOBUF}, {JSON}", Form(JSON)),  # design: JSON is there already
        (f"{PROTOBUF}{METADATA},{JSON}{METADATA},{JSON}", Form(JSON, "PartialObjectMetadata")),  # client-go's metadata client
        (
            f"{PROTOBUF}{METADATA_LIST},{JSON}{METADATA_LIST},{JSON}",
            Form(JSON, "PartialObjectMetadataList", untyped=True),
        ),  # its lists
        (f"{JSON}{METADATA_LIST},{PROTOBUF}{METADATA_LIST}", Form(JSON, "PartialObjectMetadataList")),
        (f"{PROTOBUF}{METADATA}, {JSON}", Form(PROTOBUF, "PartialObjectMetadata")),
        (f"{PROTOBUF}{TABLE}, {JSON}", Form(JSON)),
        (f"{JSON}{TABLE}, {PROTOBUF}", Form(JSON, "Table")),
        (f"text/html, {PROTOBUF};q=0.5", Form(PROTOBUF)),
    ],
)
def test_who_gets_protobuf(accept: str, wanted: Form) -> None:
    assert negotiate(accept) == wanted


def test_custom_resources_only_as_metadata() -> None:
    assert negotiate(PROTOBUF + METADATA, custom=True) == Form(PROTOBUF, "PartialObjectMetadata")
    with pytest.raises(NotAcceptable) as caught:
        negotiate(PROTOBUF, custom=True)
    assert str(caught.value.message).startswith("only the following media types are accepted: application/json")
    assert forms.acceptable(PROTOBUF).media == PROTOBUF  # the refusal itself


async def test_the_items_of_a_metadata_list_are_as_protobuf_has_them(ask: Ask) -> None:
    """e2e "should be requested by metadatainformer when WatchListClient is enabled": what its list has is what its watch has."""
    await ask("POST", MAPS, config_map("x"))
    for accept, kind in (
        (f"{PROTOBUF}{METADATA_LIST},{JSON}{METADATA_LIST}", None),
        (JSON + METADATA_LIST, "PartialObjectMetadata"),
    ):
        found = json.loads((await ask("GET", MAPS, accept=accept))[2])
        assert found["kind"] == "PartialObjectMetadataList"
        assert [(item.get("kind"), item["metadata"]["name"]) for item in found["items"]] == [(kind, "x")]
