"""What a webhook is asked and what its answer means: the AdmissionReview, purely.

Source: admission.k8s.io/v1 and v1beta1 AdmissionReview; "Response" of the dynamic admission control chapter.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from minik8s.api.errors import ApiError, from_status
from minik8s.api.kind import Frozen
from minik8s.api.resources import Resource
from minik8s.apiserver.admission.description import described
from minik8s.apiserver.contract import Admission

GROUP = "admission.k8s.io"
VERSIONS = ("v1", "v1beta1")
_TYPES: Mapping[str, type] = {
    "uid": str,
    "allowed": bool,
    "status": dict,
    "patch": str,
    "patchType": str,
    "auditAnnotations": dict,
    "warnings": list,
}
_GO_TYPES = {str: "string", bool: "bool", dict: "object", list: "array"}


class InvalidAnswer(ValueError):
    """An answer that can't be used; the text says why, `stage` what could not be done with it."""

    stage = "received invalid webhook response"


class UnreadableAnswer(InvalidAnswer):
    """An answer that is no AdmissionReview at all."""

    stage = "failed to call webhook"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a webhook says of a request. `patch` is JSON, empty where it changes nothing."""

    allowed: bool
    status: Frozen
    patch: bytes
    patch_type: str
    annotations: Mapping[str, str]
    warnings: list[str]


def question(version: str, uid: str, request: Admission, row: Resource, obj: Frozen | None, old: Frozen | None) -> bytes:
    """The AdmissionReview that asks about a request whose objects, as `row` shows them, are `obj` and `old`."""
    asked = {"uid": uid, **described(request, row), "object": obj, "oldObject": old, "options": request.options or None}
    return orjson.dumps({"kind": "AdmissionReview", "apiVersion": f"{GROUP}/{version}", "request": asked})


def answered(version: str, uid: str, body: bytes, *, mutating: bool) -> Answer:
    """What an answer says. InvalidAnswer where it is none to that question."""
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableAnswer(f"couldn't get version/kind; json parse error: {error}") from None
    response = review.get("response") if isinstance(review, dict) else None
    if not isinstance(response, dict):
        raise InvalidAnswer("webhook response was absent")
    for name, kind in _TYPES.items():
        if response.get(name) is not None and not isinstance(response[name], kind):
            raise UnreadableAnswer(f"json: cannot unmarshal response.{name}, which is no {_GO_TYPES[kind]}")
    if version == "v1":
        _check_identity(review, response, uid)
    patch = _patch(response)
    if version == "v1":
        _check_patch(patch, response.get("patchType"), mutating=mutating)
    return Answer(
        allowed=response.get("allowed") is True,
        status=response.get("status") or {},
        patch=patch if mutating else b"",
        patch_type=response.get("patchType") or "" if version == "v1" else "JSONPatch",
        annotations={str(key): str(value) for key, value in (response.get("auditAnnotations") or {}).items()},
        warnings=[str(warning) for warning in response.get("warnings") or ()],
    )


def denial(name: str, status: Frozen) -> ApiError:
    """The error of a request that the webhook `name` did not allow, with what its answer's status says."""
    message, reason, code = (status.get(key) for key in ("message", "reason", "code"))
    said = f": {message or reason}" if message or reason else " without explanation"
    return from_status(
        {
            **status,
            "status": "Failure",
            "message": f'admission webhook "{name}" denied the request{said}',
            "code": code if isinstance(code, int) and code >= 400 else 400,
        }
    )


def _check_identity(review: Mapping[str, Any], response: Mapping[str, Any], uid: str) -> None:
    if (found := response.get("uid") or "") != uid:
        raise InvalidAnswer(f'expected response.uid="{uid}", got "{found}"')
    api_version, kind = review.get("apiVersion") or "", review.get("kind") or ""
    if (api_version, kind) != (f"{GROUP}/v1", "AdmissionReview"):
        shown = f"{api_version or '/'}, Kind={kind}"
        raise InvalidAnswer(f"expected webhook response of {GROUP}/v1, Kind=AdmissionReview, got {shown}")


def _patch(response: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(response.get("patch") or "", validate=True)
    except binascii.Error as error:
        raise UnreadableAnswer(f"illegal base64 data in response.patch: {error}") from None


def _check_patch(patch: bytes, patch_type: str | None, *, mutating: bool) -> None:
    if not mutating and patch:
        raise InvalidAnswer("validating webhook may not return response.patch")
    if not mutating and patch_type is not None:
        raise InvalidAnswer("validating webhook may not return response.patchType")
    if patch and patch_type is None:
        raise InvalidAnswer("webhook returned response.patch but not response.patchType")
    if not patch and patch_type is not None:
        raise InvalidAnswer("webhook returned response.patchType but not response.patch")
    if patch_type == "":
        raise InvalidAnswer('webhook returned invalid response.patchType of ""')
