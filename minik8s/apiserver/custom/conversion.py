"""From one version of a custom resource to another: by its apiVersion alone (strategy None), or by a webhook that is asked with a
ConversionReview, many objects at a time.

A webhook may change all but an object's identity: of the metadata only labels and annotations are taken from it.
Source: apiextensions.k8s.io CustomResourceConversion, ConversionReview; "Webhook conversion" of the API's documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from minik8s.api import names
from minik8s.api.errors import FieldError, InternalError
from minik8s.api.kind import Frozen, Object

if TYPE_CHECKING:
    from minik8s.apiserver.outbound import Endpoint

REVIEW_VERSIONS = ("v1", "v1beta1")
GROUP = "apiextensions.k8s.io"
TIMEOUT = 30.0
"""Seconds that a webhook is given."""
BATCH = 500
"""Objects in one question."""


class Converter(Protocol):
    """How the objects of one custom resource change their version."""

    def now(self, obj: Frozen, api_version: str) -> Object | None:
        """The object in another version; None where somebody has to be asked."""
        ...

    async def convert(self, objects: Sequence[Frozen], api_version: str) -> list[Object]:
        """The objects, none of which is in that version, in it. InternalError where that fails."""
        ...


class ByName:
    """The strategy None."""

    def now(self, obj: Frozen, api_version: str) -> Object | None:
        return {**obj, "apiVersion": api_version}

    async def convert(self, objects: Sequence[Frozen], api_version: str) -> list[Object]:
        return [{**obj, "apiVersion": api_version} for obj in objects]


class Post(Protocol):
    """What calls out (`outbound.Caller`)."""

    async def post(self, endpoint: Any, body: bytes, *, timeout: float) -> bytes: ...


class ByWebhook:
    """The strategy Webhook. `uids` gives the questions their names."""

    def __init__(self, conversion: Frozen, caller: Post, new_uid: Callable[[], str]) -> None:
        webhook = conversion["webhook"]
        self._config = webhook["clientConfig"]
        known = [version for version in webhook["conversionReviewVersions"] if version in REVIEW_VERSIONS]
        self._version = known[0] if known else ""
        self._caller = caller
        self._new_uid = new_uid

    def now(self, obj: Frozen, api_version: str) -> Object | None:
        return None

    async def convert(self, objects: Sequence[Frozen], api_version: str) -> list[Object]:
        converted: list[Object] = []
        for start in range(0, len(objects), BATCH):
            converted += await self._ask(objects[start : start + BATCH], api_version)
        return converted

    @cached_property
    def _endpoint(self) -> Endpoint:
        from minik8s.apiserver.outbound import Endpoint  # not before a webhook is asked

        return Endpoint.of(self._config)

    async def _ask(self, objects: Sequence[Frozen], api_version: str) -> list[Object]:
        from minik8s.apiserver.outbound import CallFailed

        named = f"conversion webhook for {_named(objects[0])}"
        if not self._version:
            raise _failed("no supported conversion review versions")
        uid = self._new_uid()
        try:
            body = question(self._version, uid, objects, api_version)
            answer = await self._caller.post(self._endpoint, body, timeout=TIMEOUT)
            found = answered(self._version, uid, answer)
        except (CallFailed, ValueError) as error:
            raise _failed(f"{named} failed: {error}") from None
        if len(found) != len(objects):
            raise _failed(f"{named} returned {len(found)} objects, expected {len(objects)}")
        try:
            return [restored(old, new, api_version) for old, new in zip(objects, found, strict=True)]
        except InvalidConversionError as error:
            raise _failed(f"{named} returned invalid {error.what}: {error}") from None


def _failed(message: str) -> InternalError:
    """As upstream: a 500 without a reason."""
    return InternalError(message, reason="")


def question(version: str, uid: str, objects: Sequence[Frozen], api_version: str) -> bytes:
    """The ConversionReview that asks for the objects in a version."""
    request = {"uid": uid, "desiredAPIVersion": api_version, "objects": list(objects)}
    return orjson.dumps({"kind": "ConversionReview", "apiVersion": f"{GROUP}/{version}", "request": request})


def answered(version: str, uid: str, body: bytes) -> list[Any]:
    """The objects in the webhook's answer. ValueError says why there are none."""
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ValueError(str(error)) from None
    if not isinstance(review, dict):
        raise ValueError("no response provided")  # noqa: TRY004
    if version == "v1" and (review.get("apiVersion"), review.get("kind")) != (f"{GROUP}/v1", "ConversionReview"):
        group_version, kind = review.get("apiVersion") or "", review.get("kind") or ""
        raise ValueError(f"expected webhook response of {GROUP}/v1, Kind=ConversionReview, got {group_version}, Kind={kind}")
    response = review.get("response")
    if not isinstance(response, dict):
        raise ValueError("no response provided")  # noqa: TRY004
    if version == "v1" and response.get("uid") != uid:
        raise ValueError(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    result = response.get("result") or {}
    if result.get("status") != "Success":
        status = result.get("status") or ""
        raise ValueError(result.get("message") or f"response.result.status was '{status}', not 'Success'")
    return list(response.get("convertedObjects") or [])


class InvalidConversionError(Exception):
    """A converted object that is not what the original was. `what` of it is wrong."""

    def __init__(self, text: str, what: str = "converted object") -> None:
        super().__init__(text)
        self.what = what


def restored(old: Frozen, new: Any, api_version: str) -> Object:
    """The converted object with the metadata of the original, but for labels and annotations. InvalidConversionError where it is not
    the same object.
    """
    if not isinstance(new, dict):
        raise InvalidConversionError("no object")
    if (got := new.get("apiVersion") or "") != api_version:
        raise InvalidConversionError(f"invalid groupVersion (expected {api_version}, received {got})")
    if (kind := new.get("kind") or "") != old["kind"]:
        raise InvalidConversionError(f"invalid kind (expected {old['kind']}, received {kind})")
    if "metadata" not in new:
        raise InvalidConversionError("missing metadata in converted object", "metadata")
    metadata = new["metadata"]
    if not isinstance(metadata, dict):
        raise InvalidConversionError(f"invalid metadata of type {type(metadata).__name__} in converted object", "metadata")
    for field, shown in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        before, after = old["metadata"].get(field, ""), metadata.get(field) or ""
        if before != after:
            raise InvalidConversionError(f"must have the same {shown}: {before} != {after}")
    kept = dict(old["metadata"])
    for field in ("labels", "annotations"):
        kept.pop(field, None)
        if (values := _texts(field, metadata.get(field), old["metadata"].get(field) or {})) is not None:
            kept[field] = values
    return {**new, "metadata": kept}


def _texts(field: str, values: Any, before: Mapping[str, str]) -> dict[str, str] | None:
    """The labels or annotations that a webhook gave, checked where they are others than before."""
    if values is None:
        return None
    if not isinstance(values, dict):
        raise InvalidConversionError(
            f"invalid metadata.{field} of type {type(values).__name__} in converted object", "metadata"
        )
    for key, value in values.items():
        if not isinstance(value, str):
            text = f"metadata.{field}[{key}] must be a string, but is {type(value).__name__} in converted object"
            raise InvalidConversionError(text, "metadata")
    if values != before:
        errors: list[FieldError] = _CHECKS[field](values, f"metadata.{field}")
        if errors:
            raise InvalidConversionError(", ".join(map(str, errors)), "metadata")
    return values


_CHECKS = {"labels": names.validate_labels, "annotations": names.validate_annotations}


def _named(obj: Frozen) -> str:
    """As upstream names a kind: `example.com/v1, Kind=Widget`."""
    return f"{obj['apiVersion']}, Kind={obj['kind']}"
