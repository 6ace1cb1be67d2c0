"""The one family of API errors, and what becomes of each on the wire (metav1.Status).

Servers raise them, clients raise them again from a Status, so that `except NotFound` reads the same on both sides.

ApiError
├── BadRequest 400        ├── NotFound 404            ├── Conflict 409           ├── TooManyRequests 429
├── Unauthorized 401      ├── MethodNotAllowed 405    ├── AlreadyExists 409      ├── InternalError 500
├── Forbidden 403         ├── NotAcceptable 406       ├── Gone 410 (Expired)     ├── ServiceUnavailable 503
├── RequestTooLarge 413   ├── UnsupportedMediaType 415└── Invalid 422            └── Timeout 504
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from minik8s.api.resources import Resource


class ApiError(Exception):
    """An error that is a Status: `code`, `reason`, `message` and `details` as metav1.Status has them."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(
        self, message: str, details: Mapping[str, Any] | None = None, *, code: int = 0, reason: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.metadata: Mapping[str, Any] = {}  # metav1.ListMeta: how to go on with a list
        self.status_code = code or self.code
        self.status_reason = self.reason if reason is None else reason

    def to_status(self) -> dict[str, Any]:
        """The metav1.Status that a client gets."""
        status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": dict(self.metadata), "status": "Failure"}
        if self.message:
            status["message"] = self.message
        if self.status_reason:
            status["reason"] = self.status_reason
        if self.details is not None:
            status["details"] = dict(self.details)
        return status | {"code": self.status_code}


class BadRequest(ApiError):
    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    code, reason = 403, "Forbidden"


NO_SUCH_RESOURCE = "the server could not find the requested resource"
"""The message of a NotFound that is about a path, not about an object."""


class NotFound(ApiError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    code, reason = 406, "NotAcceptable"


class Conflict(ApiError):
    code, reason = 409, "Conflict"


class AlreadyExists(ApiError):
    code, reason = 409, "AlreadyExists"


class Gone(ApiError):
    """The resource version is too old: list again."""

    code, reason = 410, "Expired"


class RequestTooLarge(ApiError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    code, reason = 422, "Invalid"


class TooManyRequests(ApiError):
    code, reason = 429, "TooManyRequests"


class InternalError(ApiError):
    code, reason = 500, "InternalError"


class ServiceUnavailable(ApiError):
    code, reason = 503, "ServiceUnavailable"


class Timeout(ApiError):
    code, reason = 504, "Timeout"


def from_status(status: Mapping[str, Any]) -> ApiError:
    """The error whose Status this is; an unknown reason falls back on the code."""
    code = int(status.get("code") or 500)
    reason = str(status.get("reason") or "")
    family = _BY_REASON.get(reason) or _BY_CODE.get(code) or ApiError
    return family(str(status.get("message") or ""), status.get("details"), code=code, reason=reason)


def _family(base: type[ApiError]) -> list[type[ApiError]]:
    return base.__subclasses__()


_BY_REASON = {cls.reason: cls for cls in _family(ApiError)}
_BY_CODE = {cls.code: cls for cls in reversed(_family(ApiError))}


# --- the fixed forms that clients match ------------------------------------------------------------------------------


def object_not_found(resource: Resource, name: str) -> NotFound:
    return NotFound(f'{resource.group_resource} "{name}" not found', _details(resource, name))


def object_exists(resource: Resource, name: str, *, deleting: bool = False) -> AlreadyExists:
    prefix = "object is being deleted: " if deleting else ""
    return AlreadyExists(f'{prefix}{resource.group_resource} "{name}" already exists', _details(resource, name))


def object_conflict(resource: Resource, name: str, detail: str = "") -> Conflict:
    """A write that met another one; without `detail` the usual words of optimistic concurrency."""
    detail = detail or "the object has been modified; please apply your changes to the latest version and try again"
    return Conflict(f'Operation cannot be fulfilled on {resource.group_resource} "{name}": {detail}', _details(resource, name))


def object_forbidden(resource: Resource, name: str, detail: str) -> Forbidden:
    named = f' "{name}"' if name else ""
    return Forbidden(f"{resource.group_resource}{named} is forbidden: {detail}", _details(resource, name))


def _details(resource: Resource, name: str) -> dict[str, Any]:
    details: dict[str, Any] = {"name": name} if name else {}
    return details | ({"group": resource.group} if resource.group else {}) | {"kind": resource.plural}


# --- field errors (validation causes) --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FieldError:
    """One cause of an Invalid error: `type` is upstream's cause reason, `field` a path as `spec.containers[0].name`."""

    type: str
    field: str
    message: str  # as it stands behind the field, e.g. `Required value: a name is needed`

    def cause(self) -> dict[str, str]:
        return {"reason": self.type, "message": self.message, "field": self.field}

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, f"Invalid value: {_shown(value)}" + (f": {detail}" if detail else ""))


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, "Required value" + (f": {detail}" if detail else ""))


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {_shown(value)}")


def unsupported(field: str, value: Any, allowed: Sequence[str]) -> FieldError:
    """`allowed` in the order in which upstream's message shows it (sorted, usually)."""
    supported = ", ".join(_shown(a) for a in allowed)
    return FieldError("FieldValueNotSupported", field, f"Unsupported value: {_shown(value)}: supported values: {supported}")


def forbidden(field: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, "Forbidden" + (f": {detail}" if detail else ""))


def not_found(field: str, value: Any) -> FieldError:
    return FieldError("FieldValueNotFound", field, f"Not found: {_shown(value)}")


def too_long(field: str, maximum: int) -> FieldError:
    return FieldError(
        "FieldValueTooLong", field, f"Too long: may not be more than {maximum} {'byte' if maximum == 1 else 'bytes'}"
    )


def too_many(field: str, count: int, maximum: int) -> FieldError:
    return FieldError(
        "FieldValueTooMany", field, f"Too many: {count}: must have at most {maximum} {'item' if maximum == 1 else 'items'}"
    )


MOST_CAUSES = 1000
"""What is told of one object: with a million wrong labels, nobody reads on."""


def invalid_object(kind: str, group: str, name: str, errors: Sequence[FieldError]) -> Invalid:
    """The 422 for an object: `Pod "a" is invalid: spec.x: Required value`, with all causes in its details.

    The message drops repeated causes, the details keep them (as upstream does). Of very many the first ones are told.
    """
    told = errors[:MOST_CAUSES]
    shown = list(dict.fromkeys(map(str, told)))
    if len(errors) > MOST_CAUSES:
        shown.append(f"and {len(errors) - MOST_CAUSES} more errors")
    text = shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"
    full_kind = f"{kind}.{group}" if group else kind
    details: dict[str, Any] = {"name": name} if name else {}
    details |= {"group": group} if group else {}
    return Invalid(f'{full_kind} "{name}" is invalid: {text}', details | {"kind": kind, "causes": [e.cause() for e in told]})


def _shown(value: Any) -> str:
    """A bad value as upstream prints it: strings quoted, null for none, objects as JSON."""
    if isinstance(value, str):
        return f'"{value.translate(_QUOTED)}"'
    return orjson.dumps(value).decode().translate(_ESCAPED)


_QUOTED = {number: f"\\x{number:02x}" for number in (*range(32), 127)}
_QUOTED |= {ord(each): f"\\{name}" for each, name in zip('\a\b\f\n\r\t\v"\\', 'abfnrtv"\\', strict=True)}
_ESCAPED = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}
