"""What admission plugins share: doing nothing, knowing their requests, replacing an object but for what is the server's, saying no."""

from __future__ import annotations

from minik8s.api.errors import Forbidden, InternalError, object_forbidden
from minik8s.api.kind import Frozen, Object
from minik8s.api.resources import Resource
from minik8s.apiserver.contract import Admission, Operation

_KEPT = ("uid", "creationTimestamp", "generation", "resourceVersion", "namespace")
"""Metadata that is the server's, or the URL's: no webhook or policy changes it."""


class Quiet:
    """A plugin that changes nothing and minds nothing; plugins override what they do."""

    name = ""

    async def admit(self, request: Admission) -> None:
        return None

    async def validate(self, request: Admission) -> None:
        return None


def creates(request: Admission, resource: Resource) -> bool:
    """Whether an object of this kind itself is made."""
    return request.resource is resource and request.operation is Operation.CREATE and not request.subresource


def updates(request: Admission, resource: Resource, subresource: str = "") -> bool:
    """Whether one changes, through this subresource where one is named."""
    return request.resource is resource and request.operation is Operation.UPDATE and request.subresource == subresource


def restored(new: Object, old: Frozen) -> Object:
    """The object that somebody else made of `old`, with the metadata that is not theirs to change."""
    before, metadata = old.get("metadata"), new.get("metadata")
    if before is not None and metadata is not None:
        for name in _KEPT:
            if name in before:
                metadata[name] = before[name]
            else:
                metadata.pop(name, None)
    return new


def replace(obj: Object, new: Object) -> None:
    """Makes a request's object what `new` is, in place: who holds it or its metadata holds them still."""
    metadata = obj.get("metadata")
    obj.clear()
    obj.update(new)
    if metadata is not None and "metadata" in new:
        changed = dict(new["metadata"])
        metadata.clear()
        metadata.update(changed)
        obj["metadata"] = metadata


def internal(problem: str, cause: str = "") -> InternalError:
    """The 500 for a fault that is not the request's."""
    return InternalError(f"Internal error occurred: {problem}", {"causes": [{"message": cause or problem}]})


def refused(request: Admission, detail: str) -> Forbidden:
    """The Forbidden for the request's object."""
    return object_forbidden(request.resource, request.name, detail)
